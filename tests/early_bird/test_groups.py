"""Which models a scale runs, by what is on the machine."""

from __future__ import annotations

import pytest

from effi.early_bird import kinds, text_model, vision_model
from effi.errors import DataError
from effi.models import language
from effi.training import Training

FIRST = Training(epochs=2)
SIZES = {"width": 8, "depth": 1, "heads": 2, "hidden": 16, "dropout": 0.0}


def having(monkeypatch, *found: str) -> None:
    """Let these checkpoints be on the machine."""
    monkeypatch.setattr(language, "find_checkpoint", lambda kind: f"/{kind}" if kind in found else None)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((), ("gpt2", "roberta")),
        (("minilm",), ("minilm",)),
        (("gpt2", "minilm"), ("gpt2",)),
        (("gpt2", "roberta", "minilm"), ("gpt2", "roberta")),
    ],
)
def test_minilm_stands_in_only_where_neither_model_of_the_paper_is(monkeypatch, found, wanted) -> None:
    having(monkeypatch, *found)
    assert kinds("gpu") == kinds("paper") == ("vit", "swin", *wanted)
    assert kinds("cpu") == ("vit", "swin", "gpt2", "roberta")


@pytest.mark.parametrize(("found", "text"), [((), ()), (("gpt2",), ()), (("gpt2", "minilm"), ("minilm",))])
def test_text_at_hours_scale_is_really_pretrained_or_left_out(monkeypatch, found, text) -> None:
    having(monkeypatch, *found)
    assert kinds("hours") == ("vit", "swin", *text)


def test_a_vision_model_is_full_without_sizes_of_a_scale_and_of_the_reader() -> None:
    assert vision_model("vit", {}, {}).full
    assert not vision_model("vit", {"depth": 2}, {}).full and not vision_model("vit", {}, {"depth": 2}).full
    assert vision_model("vit", {"depth": 2, "width": 8}, {"depth": 3}).options == {"depth": 3, "width": 8}


def test_a_checkpoint_counts_where_sizes_are_published(monkeypatch) -> None:
    having(monkeypatch, "gpt2")
    options = {"length": 16, "pretraining": FIRST}
    small = text_model("gpt2", SIZES, published=False, **options)
    assert (small.full, small.checkpoint, small.pretraining, small.options) == (False, False, FIRST, SIZES)
    whole = text_model("gpt2", SIZES, published=True, **options)
    assert (whole.full, whole.checkpoint, whole.pretraining, whole.options) == (True, True, None, {})
    assert text_model("roberta", SIZES, published=True, **options).pretraining == FIRST
    with pytest.raises(DataError, match="no checkpoint of all-MiniLM-L6-v2 is on this machine"):
        text_model("minilm", SIZES, published=False, **options)
    having(monkeypatch, "minilm")
    assert text_model("minilm", SIZES, published=False, **options).checkpoint
