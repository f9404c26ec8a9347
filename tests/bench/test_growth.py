"""What growing costs: the sheet's bounds in FLOPs and memory, and work that is the same in every competitor."""

from __future__ import annotations

import pytest
import torch

from effi.bench import growth
from effi.ligo import GrowthOperator
from effi.models.language import TextSize, language_model
from tests.bench.conftest import complete

SMALL, LARGE = TextSize(16, 2, 2, 32), TextSize(24, 4, 3, 48)


def test_weights_are_made_in_two_ways() -> None:
    case = growth.operators(SMALL, LARGE, vocabulary=40)
    assert case.reference == "effi" and list(complete(case)) == ["effi", "official style, matrices of layers"]


def test_growing_bert_small_to_base_is_cheap_beside_a_step_and_takes_little_memory() -> None:
    """At most 2 % of a step of 256 texts of 128 tokens, and three times the bytes of the large model's weights."""
    with torch.device("meta"):
        small, large = (
            language_model("bert", size=size, vocabulary=growth.VOCABULARY, length=growth.LENGTH)
            for size in (growth.SMALL, growth.BASE)
        )
        assert GrowthOperator(small, large).flops() < 0.02 * large.train_flops(256, 128)
    # A quarter of both widths, of which bytes go with the square: what BERT's own take would hide other tests' peaks.
    sizes = TextSize(128, 6, 2, 512), TextSize(192, 12, 3, 768)
    extra = growth.operator(*sizes, vocabulary=2000).extra_bytes
    with torch.device("meta"):
        wide = language_model("bert", size=sizes[1], vocabulary=2000, length=growth.LENGTH)
    weights = sum(4 * each.numel() for each in wide.parameters())
    assert extra is not None and 2 * weights < extra <= 3 * weights


def test_a_matrix_is_the_same_by_factors_and_by_the_whole_map() -> None:
    case = growth.toy(TextSize(4, 2, 1, 8), TextSize(6, 3, 1, 12))
    ours, theirs = (make().step() for make in case.competitors.values())
    assert isinstance(ours, tuple) and isinstance(theirs, tuple)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_growth_step_stands_beside_an_ordinary_one(batch: int) -> None:
    case = growth.step(SMALL, LARGE, batch=batch)
    rows = complete(case)
    assert case.reference == "an ordinary step" and list(rows) == ["an ordinary step", "a growth step"]
    plain, grown = rows.values()
    assert plain.flops and grown.flops and plain.flops < grown.flops
