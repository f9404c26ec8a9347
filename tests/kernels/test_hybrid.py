"""Attention by FlexAttention over gathered keys: exact, few tiles, and gradients that are right where parts are merged.

FlexAttention's forward runs on a CPU, its backward does not: there a stand-in of its interface takes its place.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import BlockMask

from effi.kernels import hybrid, takes, using
from effi.kernels.hybrid import TILE, Kind, Part, attend, merged
from effi.mixed_sparsity import hybrid as plain
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.positions import HeadSplit, Pattern

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
KINDS = get_args(Kind)
# Window and tokens: whole windows, a rest, one window, odd ones, of more than a tile, short texts.
SIZES = [(16, 64), (8, 50), (5, 23), (24, 24), (96, 300), (128, 260), (1, 9), (40, 17)]
SCALE = 0.3
CPU = torch.device("cpu")


def drawn(tokens: int, device: str = "cpu", dtype: torch.dtype = torch.float32, width: int = 8) -> list[Tensor]:
    """Queries, keys, values and a slope, BHTD, with the strides that a model's have."""
    stream = torch.Generator().manual_seed(tokens)
    parts = [torch.randn(2, tokens, 2, width, generator=stream).to(device, dtype) for _ in range(4)]
    return [part.transpose(1, 2).requires_grad_() for part in parts]


def mask(kind: str, window: int, tokens: int, device: str = "cpu") -> Tensor:
    positions = torch.arange(tokens, device=device)
    return Pattern(kind, window).allows(positions[:, None], positions)


def dense(kind: str, window: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The reference: every score, most of them -inf."""
    scores = (SCALE * q @ k.mT).masked_fill(~mask(kind, window, q.shape[-2], q.device), -math.inf)
    return scores.softmax(-1) @ v


# --- FlexAttention itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_dense_mask(kind):
    for window, tokens in SIZES:
        q, k, v, _ = (part.detach() for part in drawn(tokens))
        assert (attend(kind, window, q, k, v, SCALE) - dense(kind, window, q, k, v)).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_near_fp32(kind):
    inputs = [part.detach() for part in drawn(150)[:3]]
    found = attend(kind, 32, *(part.bfloat16() for part in inputs), SCALE)
    exact = dense(kind, 32, *inputs)
    assert found.dtype == torch.bfloat16 and (found.float() - exact).norm() <= 0.02 * exact.norm()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["merged", "fixed"])
def test_a_compiled_model_makes_no_tiles_after_its_first_call(kind):
    """All of it in one graph, whose tiles are inputs."""
    graphs = []

    def traced(graph: Any, inputs: Any) -> Any:
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return graph.forward

    hybrid._TILES.clear()
    torch.compiler.reset()
    compiled = torch.compile(lambda *qkv: attend(kind, 16, *qkv, SCALE), backend=traced, fullgraph=True)
    q, k, v, _ = (part.detach() for part in drawn(64, width=16))
    found = [compiled(q, k, v) for _ in range(3)]
    assert len(graphs) <= 2 and not any("arange" in name for name in graphs[-1])
    assert all((each - dense(kind, 16, q, k, v)).abs().max() <= 1e-5 for each in found)
    torch.compiler.reset()


# --- tiles ---------------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch) -> list[tuple[Tensor, Tensor, BlockMask]]:
    """Queries, keys and tiles of each call of FlexAttention, which makes zeros instead."""
    calls: list[tuple[Tensor, Tensor, BlockMask]] = []

    def call(q: Tensor, k: Tensor, v: Tensor, tiles: BlockMask, scale: float) -> Part:
        calls.append((q, k, tiles))
        return torch.zeros_like(q), torch.zeros_like(q[..., 0])

    monkeypatch.setattr(hybrid, "_flex", call)
    return calls


def occupied(tiles: BlockMask) -> int:
    return int(tiles.kv_num_blocks.sum() + tiles.full_kv_num_blocks.sum())


@pytest.mark.parametrize(
    ("kind", "tokens", "expected"),
    [
        ("fixed", 1024, [15]),
        ("fixed", 8192, [127]),
        ("merged", 1024, [15, 8]),
        ("merged", 8192, [127, 64]),
        ("local", 8192, [127]),
        ("strided", 8192, [64]),
    ],
)
def test_tiles_that_hold_a_pair(kind, tokens, expected, called):
    """Without gathering, every causal tile does: 36 of 1,024 tokens, 2,080 of 8,192."""
    assert Pattern("fixed", 128).tiles(1024) == Pattern("merged", 128).tiles(1024) == 36
    attend(kind, 128, *torch.zeros(3, 1, 1, tokens, 1), SCALE)
    assert [occupied(tiles) for _, _, tiles in called] == expected
    hybrid._TILES.clear()


def seen(calls: list[tuple[Tensor, Tensor, BlockMask]], tokens: int) -> Tensor:
    """How often each query meets each key in all calls; both are given as their positions from 1, padding as 0."""
    met = torch.zeros(tokens + 1, tokens + 1, dtype=torch.int64)
    for q, k, tiles in calls:
        queries, keys = (x.flatten().long() for x in (q, k))
        rows, columns = torch.arange(len(queries))[:, None], torch.arange(len(keys))
        pairs = tiles.mask_mod(torch.tensor(0), torch.tensor(0), rows, columns)
        live = tiles.to_dense()[0, 0].repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)
        assert not (pairs & ~live[: len(queries), : len(keys)].bool()).any()
        met.index_put_((queries[:, None].expand_as(pairs)[pairs], keys.expand_as(pairs)[pairs]), torch.tensor(1), True)
    assert not met[1:, 0].any()  # padding is no key of a token
    return met[1:, 1:]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(1, 420))
def test_every_pair_of_a_pattern_is_met_exactly_once(kind, window, tokens):
    calls: list[tuple[Tensor, Tensor, BlockMask]] = []

    def call(q: Tensor, k: Tensor, v: Tensor, tiles: BlockMask, scale: float) -> Part:
        calls.append((q, k, tiles))
        return q, q[..., 0]

    positions = torch.arange(1.0, tokens + 1)[None, None, :, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybrid, "_flex", call)
        attend(kind, window, positions, positions, positions, SCALE)
    assert torch.equal(seen(calls, tokens), mask(kind, window, tokens).long())
    hybrid._TILES.clear()


# --- gradients -----------------------------------------------------------------------------------------------


class _StandIn(torch.autograd.Function):
    """FlexAttention's interface and formulas in plain torch: gradients of what is mixed, and of the logarithms."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, pairs: Tensor, scale: float) -> Part:
        scores = (scale * q @ k.mT).masked_fill(~pairs, -math.inf)
        total = scores.logsumexp(-1)
        weights = (scores - total.nan_to_num(neginf=0.0)[..., None]).exp()
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights @ v, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        to_weights = of_out @ v.mT
        mean = (weights * to_weights).sum(-1, keepdim=True)
        to_scores = ctx.scale * weights * (to_weights - mean + of_total[..., None])
        return to_scores @ k, to_scores.mT @ q, weights.mT @ of_out, None, None


def stand_in(q: Tensor, k: Tensor, v: Tensor, tiles: BlockMask, scale: float) -> Part:
    rows, columns = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    return _StandIn.apply(q, k, v, tiles.mask_mod(torch.tensor(0), torch.tensor(0), rows, columns), scale)


def forgetful(q: Tensor, k: Tensor, v: Tensor, tiles: BlockMask, scale: float) -> Part:
    """As some kernels do: nothing comes back of the logarithms."""
    out, total = stand_in(q, k, v, tiles, scale)
    return out, total.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_the_stand_in_computes_what_flex_attention_does(kind, monkeypatch):
    flex = hybrid._flex

    def both(*given: Any) -> Part:
        found, expected = stand_in(*given), flex(*given)
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
        return expected

    monkeypatch.setattr(hybrid, "_flex", both)
    attend(kind, 16, *(part.detach() for part in drawn(70)[:3]), SCALE)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind, monkeypatch):
    monkeypatch.setattr(hybrid, "_flex", stand_in)
    inputs = [part.detach()[:1, :1].double().requires_grad_() for part in drawn(11, width=3)[:3]]
    assert torch.autograd.gradcheck(lambda *qkv: attend(kind, 4, *qkv, SCALE), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_a_dense_mask(kind, monkeypatch):
    monkeypatch.setattr(hybrid, "_flex", stand_in)
    for window, tokens in SIZES:
        *inputs, slope = drawn(tokens, dtype=torch.float64)
        outs = attend(kind, window, *inputs, SCALE), dense(kind, window, *inputs)
        for one, other in zip(*(torch.autograd.grad(out, inputs, slope) for out in outs), strict=True):
            assert (one - other).abs().max() <= 1e-12


def test_a_part_that_forgets_the_gradient_of_its_logarithm_is_found_out(monkeypatch):
    monkeypatch.setattr(hybrid, "_flex", forgetful)
    inputs = [part.detach()[:1, :1].double().requires_grad_() for part in drawn(11, width=3)[:3]]
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda *qkv: attend("merged", 4, *qkv, SCALE), inputs)


def test_parts_merge_to_one_softmax_and_an_empty_one_weighs_nothing():
    scores, values = torch.randn(2, 5, 7, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    parts = [
        (each.softmax(-1) @ values[at], each.logsumexp(-1))
        for each, at in zip(scores.split([3, 4], -1), (slice(3), slice(3, 7)), strict=True)
    ]
    assert torch.allclose(merged(parts), scores.softmax(-1) @ values)
    nothing = torch.zeros(2, 5, 3, dtype=torch.float64), torch.full((2, 5), -math.inf, dtype=torch.float64)
    assert torch.equal(merged([parts[0], nothing]), parts[0][0])


# --- the switch ----------------------------------------------------------------------------------------------


def test_a_cpu_keeps_the_plain_way_even_when_asked(monkeypatch):
    for interpret in ("0", "1"):
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
        with using("attention"):
            assert not takes("attention", CPU, 8192)


def test_a_model_takes_the_kernel_where_the_rule_says_so(monkeypatch):
    """With heads that are split, too; the gradient is that of the plain way."""
    asked, rule = [], {"on": False}
    monkeypatch.setattr(plain, "takes", lambda *given: asked.append(given) or rule["on"])
    monkeypatch.setattr(hybrid, "_flex", stand_in)
    *inputs, slope = drawn(50, width=hybrid.NARROWEST)
    for pattern in (*(Pattern(kind, 8) for kind in KINDS), HeadSplit(8)):
        outs = []
        for rule["on"] in (False, True):
            out = HybridAttention(pattern)(*inputs, SCALE)
            outs.append([out, *torch.autograd.grad(out, inputs, slope)])
        for one, other in zip(*outs, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    assert set(asked) == {("attention", CPU, 50)}
    asked.clear()
    HybridAttention(Pattern("fixed", 8))(*drawn(50, width=hybrid.NARROWEST - 1)[:3], SCALE)
    assert not asked, "FlexAttention takes no heads as narrow as these"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: FlexAttention has no backward pass on a CPU")
@pytest.mark.parametrize(("kind", "size"), [*product(KINDS, [(128, 1024), (96, 300)])])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 0.003), (torch.bfloat16, 0.03)])
def test_on_a_gpu(kind, size, dtype, close):
    """Beside float64; FlexAttention rounds products of float32 to TF32."""
    window, tokens = size
    *inputs, slope = drawn(tokens, "cuda", dtype, width=64)
    exact = [part.detach().double().requires_grad_() for part in inputs]
    outs = attend(kind, window, *inputs, SCALE), dense(kind, window, *exact)
    found = [outs[0], *torch.autograd.grad(outs[0], inputs, slope)]
    right = [outs[1], *torch.autograd.grad(outs[1], exact, slope.double())]
    for one, other in zip(found, right, strict=True):
        assert (one - other).norm() <= close * other.norm()
