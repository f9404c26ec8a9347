"""What a notebook opens: a part at small scales, the whole else, and settings that say which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effi import data
from effi.errors import ParameterError
from tests.data.tiny import House

PARTS = {
    "digits": {"train": 100, "validation": 20, "size": 8},
    "mnist": {"train": 30, "validation": 10, "test": 10},
    "sst2": {"train": 20, "validation": 10, "test": 10, "length": 16, "vocabulary": 300, "corpus": 320},
}
TEXT = {"text": {"length": 24, "vocabulary": 300}}


def equal(a: data.Dataset | data.TextDataset, b: data.Dataset | data.TextDataset) -> bool:
    splits = ((getattr(a, part), getattr(b, part)) for part in ("train", "validation", "test"))
    return all(torch.equal(x.inputs, y.inputs) and torch.equal(x.labels, y.labels) for x, y in splits)


@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_small_scales_take_the_part_that_the_table_has(house: House, scale: str) -> None:
    house.put_mnist()
    opened = data.open_parts(("mnist", "sst2"), PARTS, scale=scale, device="cpu")
    assert equal(opened["mnist"].data, data.load("mnist", size=32, **PARTS["mnist"]))
    assert equal(opened["sst2"].data, data.load_text("sst2", **PARTS["sst2"]))
    assert opened["mnist"].subset == {"size": 32, "train": 30, "validation": 10, "test": 10, "whole": 0}
    assert opened["sst2"].settings == {
        "name": "sst2",
        "checksum": opened["sst2"].data.checksum,
        "train": 20,
        "subset": {**PARTS["sst2"], "whole": 0},
    }


def test_other_scales_take_the_whole_but_for_stand_ins(house: House) -> None:
    house.put_mnist()
    opened = data.open_parts(("digits", "mnist", "sst2"), PARTS, scale="gpu", device="cpu", whole=TEXT)
    assert equal(opened["mnist"].data, data.load("mnist", size=32, validation=0.1))
    assert opened["mnist"].subset == {"size": 32, "validation": 0.1, "whole": 1}
    assert opened["sst2"].subset == {"validation": 0.1, "length": 24, "vocabulary": 300, "whole": 1}
    assert opened["sst2"].data.train.inputs.shape == (54, 24)
    assert opened["digits"].subset == {**PARTS["digits"], "whole": 0}
    assert (len(opened["digits"].data.train), opened["digits"].data.shape) == (100, (1, 8, 8))


def test_the_readers_own_is_whole_at_every_scale_and_goes_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"words {k},{'ab'[k % 2]}\n" for k in range(40)))
    opened = data.open_parts((f"csv:{tmp_path}/own.csv",), PARTS, scale="smoke", device="cpu", whole=TEXT)
    assert list(opened) == ["csv:own.csv"]
    assert opened["csv:own.csv"].subset == {"validation": 0.1, "length": 24, "vocabulary": 300, "whole": 1}
    assert len(opened["csv:own.csv"].data.train) == 28


def test_a_text_in_the_ids_of_another_tokenizer(house: House, tmp_path: Path) -> None:
    (one,) = data.open_parts(("sst2",), PARTS, scale="cpu", device="cpu").values()
    other = data.load_text("sst2", length=16, vocabulary=261).tokenizer
    assert other is not None
    other.save(tmp_path / "tokenizer.json")
    again = one.read_by(tmp_path / "tokenizer.json")
    assert equal(again.data, data.load_text("sst2", **PARTS["sst2"], tokenizer=other))
    assert not equal(again.data, one.data)
    assert again.settings == one.settings
    assert one.read_by(None) is one


def test_a_line_says_how_many_examples_there_are_and_what_is_odd_about_them(house: House) -> None:
    house.put_mnist()
    plain, odd = data.open_parts(("mnist", "sst2"), PARTS, scale="cpu", device="cpu").values()
    assert str(plain) == "mnist: 30 train, 10 validation, 10 test | official"
    assert odd.data.notice
    assert str(odd) == f"sst2: 20 train, 10 validation, 10 test | {odd.data.variant}\n{odd.data.notice}"


def test_every_seed_draws_examples_of_its_own_and_is_tested_on_the_same(house: House, tmp_path: Path) -> None:
    house.put_mnist()
    parts = {name: {**PARTS[name], "anew": True} for name in ("mnist", "sst2")}
    for one in data.open_parts(parts, parts, scale="hours", device="cpu").values():
        options = {key: value for key, value in parts[one.name].items() if key != "anew"}
        read = data.load if one.name == "mnist" else data.load_text
        options |= {"size": 32} if one.name == "mnist" else {"tokenizer": one.data.tokenizer}
        third = one.of(3)
        assert one.of(0) is one.data and one.of(3) is third
        assert equal(one.of(0), read(one.name, **options))
        assert equal(third, read(one.name, **options, draw=3))
        assert torch.equal(third.test.inputs, one.data.test.inputs)
        assert torch.equal(third.test.labels, one.data.test.labels)
        assert not torch.equal(third.train.inputs, one.data.train.inputs)
        assert one.settings["subset"]["anew"] and third.checksum == one.data.checksum
        with pytest.raises(ParameterError, match="train one at a time"):
            one.of(1, 2)


def test_a_tokenizer_that_is_given_reads_the_texts_of_every_seed(house: House, tmp_path: Path) -> None:
    parts = {"sst2": {**PARTS["sst2"], "anew": True}}
    (one,) = data.open_parts(("sst2",), parts, scale="hours", device="cpu").values()
    one.data.tokenizer.save(tmp_path / "tokenizer.json")
    again = one.read_by(tmp_path / "tokenizer.json")
    assert equal(again.of(0), one.data)
    assert torch.equal(again.of(2).test.inputs, one.data.test.inputs)
    assert equal(again.of(2), data.load_text("sst2", **PARTS["sst2"], draw=2, tokenizer=tmp_path / "tokenizer.json"))


def test_without_anew_all_seeds_share_their_examples(house: House) -> None:
    house.put_mnist()
    (one,) = data.open_parts(("mnist",), PARTS, scale="cpu", device="cpu").values()
    assert one.of(3) is one.data and one.of(1, 2) is one.data
