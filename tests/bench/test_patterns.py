"""Attention under patterns beside others: all ways of a pattern agree; what a CPU cannot differentiate is named."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from effi.bench import patterns
from effi.mixed_sparsity.positions import Pattern
from tests.bench.conftest import complete

SHAPE, WINDOW = (2, 2, 40, 4), 8


def inputs() -> list[torch.Tensor]:
    return list(torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_but_flex_attention_are_timed_on_a_cpu(dtype: torch.dtype) -> None:
    case = patterns.patterns(SHAPE, WINDOW, dtype)
    assert case.title == f"attention, 40 tokens, batch 2, {str(dtype).removeprefix('torch.')}"
    assert case.reference == "causal"
    found = complete(case)
    kernels = [f"{kind}, kernel" for kind in patterns.KINDS]
    assert list(found) == ["causal", *patterns.KINDS, *kernels, "merged, FlexAttention", "fixed, FlexAttention"]
    assert [row.note for row in found.values()] == [None] * 4 + [patterns.NO_BACKWARD] * 5


@pytest.mark.parametrize("kind", patterns.KINDS)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_all_ways_of_a_pattern_agree(kind: str) -> None:
    """By the dense mask; FlexAttention's forward alone, not compiled, runs on a CPU."""
    pattern, (q, k, v) = Pattern(kind, WINDOW), inputs()
    scores = (q @ k.mT / 2).masked_fill(~pattern.dense(40), -torch.inf)
    expected = scores.softmax(-1) @ v
    assert (patterns.ours(pattern)(q, k, v) - expected).abs().max() <= 1e-5
    assert (flex_attention(q, k, v, block_mask=patterns.tiles(pattern, 40, "cpu")) - expected).abs().max() <= 1e-5
    assert (patterns.causal(q, k, v) - expected).abs().max() > 0.1


def test_causal_attention_is_the_pattern_of_all_keys() -> None:
    q, k, v = inputs()
    scores = (q @ k.mT / 2).masked_fill(~Pattern("causal").dense(40), -torch.inf)
    assert (patterns.causal(q, k, v) - scores.softmax(-1) @ v).abs().max() <= 1e-5
