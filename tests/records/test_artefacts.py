"""Artefacts: made once, found again, made anew when what made them changes or the file is torn."""

from __future__ import annotations

import pytest
import torch

from effi.errors import RecordError
from effi.records import Run
from effi.records.artefacts import Artefact, Artefacts

CALLS = []


def made(settings, seed):
    CALLS.append((settings, seed))
    return Artefact({"w": torch.full((2, 3), float(seed)), "bits": torch.arange(3, dtype=torch.uint8)}, {"loss": 0.5})


@pytest.fixture
def kept(tmp_path):
    CALLS.clear()
    return Artefacts(tmp_path / "artefacts", made, {}, ("a",))


def test_what_was_made_is_found_again(kept):
    first, again = kept.get({"ratio": 0.3}, 1), kept.get({"ratio": 0.3}, 1)
    assert CALLS == [({"ratio": 0.3}, 1)]
    assert again.facts == first.facts == {"loss": 0.5}
    assert all(again.tensors[name].equal(value) for name, value in first.tensors.items())
    assert again.tensors["bits"].dtype == torch.uint8


def test_other_settings_seeds_and_sources_are_other_artefacts(kept, tmp_path):
    kept.get({"ratio": 0.3}, 1)
    kept.get({"ratio": 0.1}, 1)
    kept.get({"ratio": 0.3}, 2)
    Artefacts(kept.folder, made, {}, ("b",)).get({"ratio": 0.3}, 1)
    assert len(CALLS) == 4


def test_what_an_adopted_source_made_is_found(kept, tmp_path):
    kept.get({}, 1)
    assert Artefacts(kept.folder, made, {}, ("b", "a")).get({}, 1).tensors["w"].sum() == 6
    assert len(CALLS) == 1


def test_what_was_kept_is_not_made(kept):
    kept.keep({}, 0, Artefact({"w": torch.ones(1)}, {"loss": 0.1}))
    assert kept.get({}, 0).facts == {"loss": 0.1}
    assert not CALLS


def test_a_torn_file_is_made_anew(kept):
    kept.get({}, 0)
    (file,) = kept.folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    assert kept.get({}, 0).tensors["w"].sum() == 0
    assert len(CALLS) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "artefacts").write_text("in the way")
    with pytest.raises(RecordError, match="artefacts"):
        Artefacts(tmp_path / "artefacts", made, {}).get({}, 0)


def test_a_run_ties_its_artefacts_to_sources_and_parameters(tmp_path):
    def artefacts(**options):
        return Run("early_bird", "smoke", results_dir=tmp_path, uses=["effi.masks"], **options).artefacts(made)

    same = artefacts()
    assert same.folder == tmp_path / "smoke" / "early_bird" / "artefacts"
    assert artefacts().same == same.same
    assert artefacts(parameters={"rule": "queue"}, defaults={"rule": "consecutive"}).same != same.same
