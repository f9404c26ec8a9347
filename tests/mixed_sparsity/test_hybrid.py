"""Attention by windows, strides and summaries equals attention under a dense mask, forward and backward."""

from __future__ import annotations

import math
from itertools import product
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from effi.cost import count_flops
from effi.errors import ParameterError
from effi.mixed_sparsity import hybrid
from effi.mixed_sparsity.hybrid import HybridAttention, Layout
from effi.mixed_sparsity.positions import HeadSplit, Kind, Pattern

SPARSE = get_args(Kind)[1:]
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
# Window and tokens: whole windows, a rest, one window, windows of several blocks of queries, odd ones, short texts.
SIZES = [(16, 64), (32, 100), (8, 50), (5, 23), (24, 24), (128, 256), (96, 300), (1, 9), (40, 17)]
SCALE = 0.3


def drawn(tokens: int, device: str = "cpu", dtype: torch.dtype = torch.float32, heads: int = 3) -> list[torch.Tensor]:
    """Queries, keys and values BHTD with the strides that a model's have, and a slope of the output."""
    stream = torch.Generator().manual_seed(tokens)
    parts = [torch.randn(2, tokens, heads, 8, generator=stream).to(device, dtype) for _ in range(4)]
    return [part.transpose(1, 2).requires_grad_() for part in parts]


def mask(pattern: Pattern, tokens: int, device: str = "cpu") -> torch.Tensor:
    """As `Pattern.dense`, but also of a text shorter than the window."""
    positions = torch.arange(tokens, device=device)
    return pattern.allows(positions[:, None], positions)


def dense(pattern: Pattern, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The reference: every score, most of them -inf."""
    scores = (SCALE * q @ k.mT).masked_fill(~mask(pattern, q.shape[-2], q.device), -math.inf)
    return scores.softmax(-1) @ v


def check(pattern: Pattern, tokens: int, device: str) -> None:
    *inputs, slope = drawn(tokens, device)
    ours, theirs = HybridAttention(pattern)(*inputs, SCALE), dense(pattern, *inputs)
    assert (ours - theirs).abs().max() <= 1e-4
    for one, other in zip(*(torch.autograd.grad(out, inputs, slope) for out in (ours, theirs)), strict=True):
        assert one.shape == other.shape and (one - other).abs().max() <= 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", SPARSE)
def test_equals_a_dense_mask_with_gradients(kind, device):
    for window, tokens in SIZES:
        check(Pattern(kind, window), tokens, device)


@pytest.mark.parametrize("kind", SPARSE)
def test_heads_may_be_computed_a_few_at_a_time(kind, monkeypatch):
    """One at a time, and four of six, so that the last piece is smaller; windows reach into rows of other pieces."""
    for window, tokens in ((16, 64), (32, 100)):
        pattern = Pattern(kind, window)
        for heads in (0, 4):
            monkeypatch.setattr(hybrid, "SCORES", heads * HybridAttention(pattern).scores(tokens))
            check(pattern, tokens, "cpu")


@pytest.mark.parametrize("kind", SPARSE)
def test_gradients_by_finite_differences(kind):
    inputs = [part.detach().double().requires_grad_() for part in drawn(11, heads=1)[:3]]
    attention = HybridAttention(Pattern(kind, 4))
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, SCALE), inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", SPARSE)
def test_bf16_is_near_fp32_and_autocast_changes_nothing(kind, device):
    pattern = Pattern(kind, 32)
    *inputs, slope = drawn(150, device)
    exact = dense(pattern, *inputs)
    rounded = [part.detach().bfloat16().requires_grad_() for part in inputs]
    with torch.autocast(device, torch.bfloat16):
        out = HybridAttention(pattern)(*rounded, SCALE)
    assert out.dtype == torch.bfloat16
    grads = zip(
        torch.autograd.grad(out, rounded, slope.bfloat16()), torch.autograd.grad(exact, inputs, slope), strict=True
    )
    for ours, theirs in [(out, exact), *grads]:
        assert (ours.float() - theirs).norm() <= 0.02 * theirs.norm()


@pytest.mark.parametrize("kind", SPARSE)
def test_one_softmax_over_all_kinds_of_keys(kind):
    """Rows sum to 1; keys of no pair, padding and rows of other heads among them, weigh nothing."""
    window, tokens = 32, 100
    pattern = Pattern(kind, window)
    q, k, v, _ = (part.detach() for part in drawn(tokens))
    layout = Layout.of(pattern, tokens)
    rows, keys = layout.rows(q), layout.rows(k, front=layout.front)
    weights = layout.weigh(rows, keys, layout.room(rows))
    assert torch.allclose(weights.sum(-1), torch.ones(len(rows)), atol=1e-6)
    alive = layout.heads((weights > 0).sum(-1, keepdim=True), 0, q.shape)
    assert torch.equal(alive.squeeze(-1), mask(pattern, tokens).sum(-1).expand(2, 3, -1))
    assert torch.allclose(HybridAttention(pattern)(q, k, torch.ones_like(v), SCALE), torch.ones_like(v), atol=1e-6)


def test_merging_by_log_sum_exp_gives_the_same():
    """Local and strided attention apart, the diagonal in one of them alone, weighted by their sums of exponentials."""
    window, tokens = 16, 70
    q, k, v, _ = (part.detach() for part in drawn(tokens))
    local, strided = (mask(Pattern(kind, window), tokens) for kind in ("local", "strided"))
    scores = SCALE * q @ k.mT
    parts = [scores.masked_fill(~each, -math.inf) for each in (local, strided & ~local)]
    sums = torch.stack([part.logsumexp(-1) for part in parts])
    mixed = [part.softmax(-1).nan_to_num() @ v for part in parts]  # the first tokens have no strided key
    shares = sums.softmax(0)[..., None]
    merged = shares[0] * mixed[0] + shares[1] * mixed[1]
    assert (HybridAttention(Pattern("merged", window))(q, k, v, SCALE) - merged).abs().max() <= 1e-5


def test_causal_is_dense_causal_attention():
    q, k, v, _ = drawn(50)
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)
    assert torch.allclose(HybridAttention(Pattern("causal"))(q, k, v, SCALE), causal, atol=1e-6)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return out


@pytest.mark.parametrize("kind", SPARSE)
def test_no_square_of_scores_is_made_forward_or_backward(kind):
    tokens, attention = 512, HybridAttention(Pattern(kind, 32))
    *inputs, slope = (part[:1, :2] for part in drawn(tokens))
    with Largest() as largest:
        torch.autograd.grad(attention(*inputs, SCALE), inputs, slope)
    assert largest.elements <= 2 * max(attention.scores(tokens), (tokens + 32) * 8) < tokens**2 / 2


@pytest.mark.parametrize(("kind", "window", "tokens"), [(k, *size) for k, size in product(SPARSE, SIZES)])
def test_scores_are_those_that_torch_counts(kind, window, tokens):
    pattern = Pattern(kind, window)
    attention, (q, k, v, _) = HybridAttention(pattern), drawn(tokens)
    assert count_flops(lambda: attention(q, k, v, SCALE)) == 2 * 6 * 2 * 8 * attention.scores(tokens)
    assert attention.scores(tokens) >= int(mask(pattern, tokens).sum())


def test_scores_by_hand():
    """At 4,096 tokens a query meets 128 keys of its block and 32 summaries, or 192 near keys and 32 strided ones."""
    assert HybridAttention(Pattern("fixed", 128)).scores(4096) == 4096 * (128 + 32)
    assert HybridAttention(Pattern("merged", 128)).scores(4096) == 4096 * (192 + 32)
    assert HybridAttention(Pattern("causal")).scores(4096) == 4096**2


# --- heads that are split ------------------------------------------------------------------------------------


def head_by_head(window: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Torch's own attention under a dense mask of each head."""
    tokens, half = q.shape[-2], q.shape[1] // 2
    kinds = ["local"] * half + ["strided"] * half
    masks = torch.stack([mask(Pattern(kind, window), tokens, q.device) for kind in kinds])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=masks, scale=SCALE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("heads", [2, 6])
def test_split_heads_equal_a_dense_mask_of_each_head_with_gradients(heads, device):
    for window, tokens in SIZES:
        *inputs, slope = drawn(tokens, device, heads=heads)
        ours, theirs = HybridAttention(HeadSplit(window))(*inputs, SCALE), head_by_head(window, *inputs)
        assert ours.shape == theirs.shape and (ours - theirs).abs().max() <= 1e-4
        for one, other in zip(*(torch.autograd.grad(out, inputs, slope) for out in (ours, theirs)), strict=True):
            assert (one - other).abs().max() <= 1e-3


def test_split_heads_by_finite_differences():
    inputs = [part.detach().double().requires_grad_() for part in drawn(11, heads=2)[:3]]
    attention = HybridAttention(HeadSplit(4))
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, SCALE), inputs)


@pytest.mark.parametrize(("window", "tokens"), SIZES)
def test_scores_of_split_heads_are_those_that_torch_counts(window, tokens):
    """Of two texts with two heads, 8 wide, those of a head on average, rounded up."""
    attention, (q, k, v, _) = HybridAttention(HeadSplit(window)), drawn(tokens, heads=2)
    counted = count_flops(lambda: attention(q, k, v, SCALE)) / (2 * 2 * 8 * 2 * 2)
    assert attention.scores(tokens) == math.ceil(counted)


def test_an_odd_number_of_heads_is_not_split():
    with pytest.raises(ParameterError, match="3 heads have no half to attend otherwise; use an even number of heads"):
        HybridAttention(HeadSplit(4))(*drawn(16, heads=3)[:3], SCALE)
