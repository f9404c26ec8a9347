"""Pairs of every scale: heads as wide, the paper's sizes, and sizes of the reader's own."""

from __future__ import annotations

import pytest

from effi.errors import ParameterError
from effi.ligo.pairs import LITTLE, PAIRS, pair
from effi.models.language import TextSize


@pytest.mark.parametrize("scale", [*PAIRS, "cpu"])
@pytest.mark.parametrize("kind", list(LITTLE))
def test_heads_are_as_wide_and_nothing_shrinks(scale, kind) -> None:
    found = pair(kind, scale)
    small, large = found.small.size, found.large.size
    assert small.width // small.heads == large.width // large.heads
    assert small.depth <= large.depth and small.width < large.width and large.hidden == 4 * large.width
    deeper, wider = found.deeper(), found.wider()
    assert deeper.small.size == TextSize(large.width, small.depth, large.heads, large.hidden)
    assert wider.small.size == TextSize(small.width, large.depth, small.heads, small.hidden)
    assert deeper.large == wider.large == found.large


def test_published_sizes_are_those_of_the_paper() -> None:
    bert = pair("bert", "paper")
    assert bert.small.size == TextSize(512, 6, 8, 2048) and bert.large.size == TextSize(768, 12, 12, 3072)
    assert bert.large.full and bert.large.dropout == 0.1
    assert pair("vit", "paper").large.patch == 16
    assert pair("gpt", "paper").small.std == pytest.approx(0.02)


def test_sizes_of_ones_own() -> None:
    found = pair("gpt", "cpu", {"large": {"depth": 6}})
    assert found.large.size.depth == 6 and found.small == pair("gpt", "cpu").small
    with pytest.raises(ParameterError, match="width 97 is not a multiple of heads 6"):
        pair("gpt", "cpu", {"large": {"width": 97}})
