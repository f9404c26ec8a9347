"""Named text sets: official files, copies, damage, subsets, corpora and what language models train on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from effi import data
from effi.data import files
from effi.data.examples import IGNORED
from effi.errors import DataError, ParameterError
from tests.data import tiny_text
from tests.data.tiny import House, Server

SMALL = {"length": 32, "vocabulary": 400}


def texts(loaded: data.TextDataset, part: data.Examples) -> list[str]:
    return [loaded.tokenizer.text(ids) for ids in part.inputs]


@pytest.fixture
def sst2(house: House) -> data.TextDataset:
    house.put("SST-2", tiny_text.SST2 | tiny_text.TEST)
    return data.load_text("sst2", **SMALL)


def test_sst2_is_read_as_written(sst2: data.TextDataset) -> None:
    assert texts(sst2, sst2.train) == [tiny_text.sentence(k % 2, k) for k in range(60)]
    assert texts(sst2, sst2.test) == [tiny_text.sentence(k % 2, 200 + k) for k in range(30)]
    assert sst2.test.labels.tolist() == [k % 2 for k in range(30)]
    assert (sst2.name, sst2.variant, sst2.notice) == ("sst2", "labelled", None)
    assert sst2.classes == ("negative", "positive")


def test_the_official_validation_set_is_used_in_the_share_asked_for(sst2: data.TextDataset) -> None:
    official = {tiny_text.sentence(k % 2, 100 + k) for k in range(20)}
    for given, count in ((0.1, 6), (0, 0), (20, 20), (0.9, 20)):
        loaded = data.load_text("sst2", validation=given, **SMALL)
        assert len(loaded.validation) == count
        assert set(texts(loaded, loaded.validation)) <= official
        assert len(loaded.train) == 60
    with pytest.raises(DataError, match=r"validation=21 cannot .* 20 validation examples: ask for 1 to 20"):
        data.load_text("sst2", validation=21)


def test_without_test_labels_the_development_set_is_the_test_set_and_says_so(house: House) -> None:
    loaded = data.load_text("sst2", **SMALL)
    assert (loaded.variant, loaded.notice) == ("official", "No labels.")
    assert texts(loaded, loaded.test) == [tiny_text.sentence(k % 2, 100 + k) for k in range(20)]
    assert (len(loaded.train), len(loaded.validation)) == (54, 6)
    assert data.fetch("sst2") == files.downloads() / "SST-2"


def test_imdb_comes_in_its_archive_or_repacked(house: House) -> None:
    official = data.load_text("imdb", corpus=None, **SMALL)
    assert data.fetch("imdb") == files.downloads() / "aclImdb"
    house.put("", dict(tiny_text.repacked()))
    copy = data.load_text("imdb", corpus=None, **SMALL)
    assert (official.variant, copy.variant) == ("official", "repacked")
    assert official.checksum == copy.checksum
    for ours, theirs in ((official.train, copy.train), (official.test, copy.test)):
        assert ours.inputs.equal(theirs.inputs)
    assert official.corpus.equal(copy.corpus)
    assert len(official.train), len(official.test) == (36, 20)


def test_imdb_is_read_as_written(house: House) -> None:
    loaded = data.load_text("imdb", validation=0, corpus=None, **SMALL)
    found = dict(zip(texts(loaded, loaded.train), loaded.train.labels.tolist(), strict=True))
    assert found == {
        f"train {kind} {k}\n\nnaïve “film”": label for label, kind in enumerate(("neg", "pos")) for k in range(20)
    }
    unlabelled = loaded.tokenizer.text(loaded.corpus.flatten())
    assert unlabelled.startswith("train unsup 0\n\nnaïve “film” train unsup 1")
    assert "neg" not in unlabelled and "pos" not in unlabelled


def test_unlabelled_reviews_are_read_only_if_asked_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("", dict(tiny_text.repacked()))
    assert data.load_text("imdb", **SMALL).corpus.shape == (0, 32)
    assert data.load_text("imdb", corpus=100, **SMALL).corpus.shape == (3, 32)


@pytest.mark.parametrize("name", ["sst2", "wikitext-2", "imdb"])
def test_damage_is_named_and_deleting_mends(house: House, name: str) -> None:
    place = data.fetch(name)
    damaged = next(place / each for each in files.manifest()[name].files)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    read = data.load_corpus if name == "wikitext-2" else data.load_text
    for call in (read, data.fetch):
        with pytest.raises(DataError, match=f"{name} is damaged: {damaged} does not .*; delete it and run"):
            call(name)
    row = next(row for row in data.available() if row.name == name)
    assert (row.where, row.variant) == (place, None) and "does not have the checksum" in row.problem
    damaged.unlink()
    assert data.fetch(name) == place


def test_the_list_knows_texts(house: House) -> None:
    house.put("SST-2", tiny_text.SST2)
    rows = {row.name: (row.where, row.variant) for row in data.available()}
    assert rows["sst2"] == (house.shelf / "SST-2", "official")
    assert rows["imdb"] == rows["wikitext-2"] == (None, None)
    assert rows["grammar"][1] == rows["docstrings"][1] == "made here"


def test_subsets_are_stratified_and_leave_the_ids_alone(sst2: data.TextDataset) -> None:
    small = data.load_text("sst2", train=20, test=10, **SMALL)
    assert small.train.labels.bincount().tolist() == [10, 10]
    assert small.test.labels.bincount().tolist() == [5, 5]
    assert {tuple(row) for row in small.train.inputs.tolist()} < {tuple(row) for row in sst2.train.inputs.tolist()}
    assert not small.train.inputs.equal(data.load_text("sst2", train=20, seed=1, **SMALL).train.inputs)


def test_the_tokenizer_never_sees_what_is_held_out(house: House) -> None:
    house.put("SST-2", tiny_text.SST2)
    first = data.load_text("sst2", **SMALL)
    held = set(texts(first, first.validation))
    flat = first.tokenizer.text(data.load_text("sst2", corpus=None, **SMALL).corpus.flatten())
    assert held and not [text for text in held if text in flat]


def test_a_tokenizer_can_be_shared_or_loaded(sst2: data.TextDataset, tmp_path: Path) -> None:
    sst2.tokenizer.save(tmp_path / "tokenizer.json")
    for given in (sst2.tokenizer, tmp_path / "tokenizer.json"):
        loaded = data.load_corpus("wikitext-2", length=32, tokenizer=given)
        assert loaded.vocabulary == sst2.vocabulary
        assert data.load_text("sst2", length=32, tokenizer=given).train.inputs.equal(sst2.train.inputs)


def test_what_a_model_reads(sst2: data.TextDataset) -> None:
    batch = sst2.prepare(sst2.train.inputs[:5])
    assert batch.dtype == torch.int64
    longest = int((sst2.train.inputs[:5] != 0).sum(1).max())
    assert batch.equal(sst2.train.inputs[:5, :longest].long())
    assert sst2.prepare(torch.zeros(2, 8, dtype=torch.int32)).shape == (2, 1)


def test_wikitext_keeps_its_parts(house: House) -> None:
    loaded = data.load_corpus("wikitext-2", **SMALL)
    for name, part in (("train", loaded.train), ("valid", loaded.validation), ("test", loaded.test)):
        start = f"= Title 0 = \n the {name}.txt text of <unk> article 0"
        assert loaded.tokenizer.text(part.inputs[0]).startswith(start)
    assert (loaded.variant, loaded.classes) == ("official", ())


def test_a_corpus_can_be_shortened(house: House) -> None:
    loaded = data.load_corpus("tinyshakespeare", corpus=700, length=32, vocabulary=300)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [21, 2, 2]
    assert loaded.corpus.shape == (21, 32)


def test_a_labelled_set_serves_as_a_corpus(house: House) -> None:
    loaded = data.load_corpus("imdb", length=8, vocabulary=400)
    assert loaded.tokenizer.text(loaded.corpus.flatten()).startswith("train unsup 0\n\nnaïve “film” train unsup 1")
    assert "unsup 28" in loaded.tokenizer.text(loaded.test.inputs.flatten())
    house.put("SST-2", tiny_text.SST2)
    phrases = data.load_corpus("sst2", **SMALL)
    start = [tiny_text.sentence(k % 2, k) for k in range(5)]
    assert phrases.tokenizer.text(phrases.corpus[:5].flatten()).startswith(" ".join(start[:2]))


def test_causal_labels_are_the_next_tokens() -> None:
    rows = torch.arange(12, dtype=torch.int32).view(2, 6)
    view = data.causal(rows)
    assert view.inputs.tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10]]
    assert view.labels.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11]]
    assert (view.inputs.dtype, view.labels.dtype) == (torch.int32, torch.int64)


def test_masking_is_berts() -> None:
    rows = torch.randint(0, 1000, (400, 500), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    view = data.masked(rows, 1000, 4, 0)
    guessed = view.labels != IGNORED
    ordinary = rows > 4
    assert not (guessed & ~ordinary).any()
    assert view.labels[guessed].equal(rows[guessed].long())
    assert view.inputs[~guessed].equal(rows[~guessed])
    assert (guessed.sum() / ordinary.sum()).item() == pytest.approx(0.15, abs=0.005)
    shown, true = view.inputs[guessed], rows[guessed]
    assert (shown == 4).double().mean().item() == pytest.approx(0.8, abs=0.01)
    # One in 995 other tokens is the true one.
    assert (shown == true).double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert shown.min() == 4
    assert view.inputs.equal(data.masked(rows, 1000, 4, 0).inputs)
    assert not view.inputs.equal(data.masked(rows, 1000, 4, 1).inputs)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_to_mask(share: float) -> None:
    with pytest.raises(ParameterError, match=f"share={share} of the tokens cannot be masked"):
        data.masked(torch.zeros(1, 4, dtype=torch.int32), 300, share=share)


def test_the_corpus_of_a_set_is_one_to_pretrain_on() -> None:
    loaded = data.load_text("grammar", length=32, corpus=20_000)
    causal = data.corpus_dataset(loaded)
    masked = data.corpus_dataset(loaded, "masked", validation=0.1)
    assert [len(part) for part in (causal.train, causal.validation, causal.test)] == [561, 32, 32]
    assert [len(part) for part in (masked.train, masked.validation, masked.test)] == [499, 63, 63]
    rows = [torch.cat([part.inputs, part.labels[:, -1:].int()], 1) for part in (causal.train, causal.validation)]
    rows.append(torch.cat([causal.test.inputs, causal.test.labels[:, -1:].int()], 1))
    assert torch.cat(rows).sort(0).values.equal(loaded.corpus.sort(0).values)
    assert causal.corpus.equal(rows[0])
    assert (causal.vocabulary, causal.classes, causal.tokenizer) == (loaded.vocabulary, (), loaded.tokenizer)
    assert 4 in masked.train.inputs and masked.train.inputs.shape[1] == 32


def test_a_corpus_too_small_to_pretrain_on() -> None:
    loaded = data.load_text("grammar", length=32)
    with pytest.raises(DataError, match=r"the corpus of grammar has 0 rows.*ask load_text for more `corpus` tokens"):
        data.corpus_dataset(loaded)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.load_text("grammar", length=3), "length=3 is too short"),
        (lambda: data.load_text("grammar", corpus=-1), "corpus=-1 is no number of tokens"),
        (lambda: data.load_corpus("grammar", objective="both"), "unknown objective 'both': choose causal or masked"),
    ],
)
def test_options_that_cannot_be(call: object, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        call()


@pytest.mark.parametrize(
    ("read", "name", "words"),
    [
        (data.load, "sst2", "sst2 holds labelled texts: load_text reads it, in the language part of a notebook"),
        (data.load, "csv:/no/where", "csv:/no/where holds labelled texts"),
        (data.load_text, "digits", "digits holds images: load reads it, in the vision part of a notebook"),
        (data.load_text, "folder:/no/where", "holds images"),
        (data.load_text, "wikitext-2", "wikitext-2 is a corpus without labels: load_corpus reads it"),
        (data.load_text, "text:/no/where", "is a corpus without labels"),
        (data.load_corpus, "cifar10", "cifar10 holds images"),
        (data.load_text, "sst-2", "did you mean 'sst2'?"),
        (data.load_corpus, "wikitext", "did you mean 'wikitext-2'?"),
        (data.load_text, "csv:/no/where", "there is no /no/where: correct the path"),
    ],
)
def test_the_wrong_function_says_which_is_right(read: object, name: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(name)
    assert words in str(caught.value)


def test_a_name_says_which_part_of_a_notebook_it_is_for() -> None:
    kinds = {name: data.kind(name) for name in ("mnist", "folder:x", "imdb", "csv:x", "text:x", "wikitext-2")}
    assert list(kinds.values()) == ["images", "images", "text", "text", "text", "text"]
    with pytest.raises(DataError, match="unknown data set 'auto'"):
        data.kind("auto")


def test_auto_serves_text(house: House, server: Server, tmp_path: Path) -> None:
    house.put("SST-2", tiny_text.SST2)
    server.content = {}
    assert data.resolve("auto", ("sst2",)) == (("sst2",), None)
    names, notice = data.resolve("auto", ("imdb",))
    assert names == ("docstrings",)
    assert notice.startswith("imdb: not found and not downloadable, so this run uses docstrings instead")
    assert data.resolve("auto", ("imdb", "sst2"))[0] == ("sst2",)
    assert data.resolve("auto", ("cifar10", "imdb"))[0] == ("digits", "docstrings")
    house.put_mnist()
    assert data.resolve("auto", ("mnist", "imdb"))[0] == ("mnist", "docstrings")
    (tmp_path / "own.csv").write_text("text,label\na,x\nb,x\nc,y\nd,y\n")
    (tmp_path / "own.txt").write_text("some words\n")
    for own in (f"csv:{tmp_path}/own.csv", f"text:{tmp_path}"):
        assert data.resolve(own, ("imdb",)) == ((own,), None)
    with pytest.raises(DataError, match="there is no /no/where"):
        data.resolve("csv:/no/where", ("imdb",))


@pytest.mark.slow
def test_importing_data_loads_no_tokenizer() -> None:
    code = "import sys, effi.data; print(*({'tokenizers', 'transformers', 'pandas', 'sklearn'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def official(name: str) -> None:
    if files.find(files.manifest()[name]) is None:
        pytest.skip(f"{name} is not on this machine; set EFFI_DATA to a folder that holds it")


@pytest.mark.slow
def test_official_sst2() -> None:
    official("sst2")
    loaded = data.load_text("sst2", validation=872 if data.load_text("sst2", train=9).notice is None else 0, length=16)
    assert len(loaded.train) == 67_349
    assert loaded.train.labels.bincount().tolist() == [29_780, 37_569]
    assert texts(loaded, loaded.train)[0] == "hide new secretions from the parental units"


def test_official_wikitext() -> None:
    official("wikitext-2")
    loaded = data.load_corpus("wikitext-2", corpus=20_000, vocabulary=1000)
    assert loaded.tokenizer.text(loaded.train.inputs[0]).startswith("= Valkyria Chronicles III =")


def test_official_shakespeare() -> None:
    official("tinyshakespeare")
    loaded = data.load_corpus("tinyshakespeare", corpus=20_000, vocabulary=1000)
    assert loaded.tokenizer.text(loaded.train.inputs[0]).startswith("First Citizen:\nBefore we proceed any further")


@pytest.mark.slow
def test_official_imdb() -> None:
    official("imdb")
    loaded = data.load_text("imdb", train=200, validation=20, test=100, corpus=2000, vocabulary=1000)
    assert loaded.train.labels.bincount().tolist() == [100, 100]
    assert loaded.corpus.shape == (15, 128)
