"""Both ways of computing attention agree with each other and with torch's own module."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from effi import models
from effi.cost import count_flops
from effi.errors import ParameterError
from effi.kernels import using
from effi.models.attention import (
    NARROW,
    PLAIN_TOKENS,
    PLAIN_TOKENS_BF16,
    SelfAttention,
    attend,
    glorot_rows,
    join_heads,
    plain_attention,
    prefers_plain,
    split_heads,
)

WIDTH, TOKENS = 48, 10


def attention(heads: int, **options: object) -> SelfAttention:
    torch.manual_seed(0)
    module = SelfAttention(WIDTH, heads, **options)
    module.reset()
    return module


def tokens(batch: int = 3, count: int = TOKENS) -> torch.Tensor:
    return torch.randn(batch, count, WIDTH, generator=torch.Generator().manual_seed(1))


def outputs_and_gradients(module: nn.Module, x: torch.Tensor, *, plain: bool) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    module.zero_grad()
    if plain:
        with plain_attention():
            output = module(x)
    else:
        output = module(x)
    output.float().square().sum().backward()
    return [output.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize(("heads", "count"), [(1, 5), (3, 5), (1, 70), (3, 70)])
def test_fused_equals_plain_with_gradients(heads, count, monkeypatch):
    """Narrower and wider heads than sequences: the plain products scale the smaller of queries and scores."""
    monkeypatch.setattr("effi.models.attention.prefers_plain", lambda q: False)
    module, x = attention(heads), tokens(3, count)
    fused = outputs_and_gradients(module, x, plain=False)
    plain = outputs_and_gradients(module, x, plain=True)
    for a, b in zip(fused, plain, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("count", [TOKENS, PLAIN_TOKENS_BF16 + 1])
def test_bf16_is_near_fp32_on_both_sides_of_the_rule(count):
    module, x = attention(3), tokens(1, count)
    exact = outputs_and_gradients(module, x, plain=True)
    rounded = outputs_and_gradients(module.bfloat16(), x.bfloat16(), plain=False)
    for a, b in zip(rounded, exact, strict=True):
        assert (a.float() - b).norm() <= 0.03 * b.norm()


@pytest.mark.parametrize(
    ("dtype", "heads", "count", "width", "plain"),
    [
        (torch.float32, 2, 8, NARROW, False),
        (torch.float32, 2, 8, NARROW - 1, True),
        (torch.float32, 1, PLAIN_TOKENS, NARROW, True),
        (torch.float32, 1, PLAIN_TOKENS + 1, NARROW, False),
        (torch.bfloat16, 2, PLAIN_TOKENS_BF16, NARROW, True),
        (torch.bfloat16, 2, PLAIN_TOKENS_BF16 + 1, NARROW, False),
    ],
)
def test_plain_is_chosen_where_it_was_measured_to_be_faster(dtype, heads, count, width, plain):
    assert prefers_plain(torch.zeros(1, heads, count, width, dtype=dtype)) is plain


def test_autocast_counts_as_bf16_and_other_devices_stay_fused():
    with torch.autocast("cpu", torch.bfloat16):
        assert prefers_plain(torch.zeros(1, 2, 8, NARROW))
    assert not prefers_plain(torch.zeros(1, 1, 8, 4, dtype=torch.bfloat16, device="meta"))


def test_plain_attention_ends_with_its_block(monkeypatch):
    calls = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    module, x = SelfAttention(2 * NARROW, 2), torch.randn(1, TOKENS, 2 * NARROW)
    with pytest.raises(KeyError), plain_attention(), plain_attention():
        module(x)
        raise KeyError
    assert not calls
    module(x)
    assert len(calls) == 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_equals_torch_multihead_attention(heads, bias):
    ours, theirs = attention(heads, bias=bias), nn.MultiheadAttention(WIDTH, heads, bias=bias, batch_first=True)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    names = {"in_proj_weight": ours.qkv.weight, "out_proj.weight": ours.out.weight}
    names |= {"in_proj_bias": ours.qkv.bias, "out_proj.bias": ours.out.bias} if bias else {}
    theirs.load_state_dict(names)
    x = tokens()
    assert (ours(x) - theirs(x, x, x, need_weights=False)[0]).abs().max() <= 1e-5


def test_order_of_tokens_does_not_matter():
    module, x = attention(4), tokens()
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(module(x[:, order]), module(x)[:, order], atol=1e-6)


def test_values_may_be_wider_than_queries():
    q, k, v = torch.randn(2, 1, 5, 4), torch.randn(2, 1, 5, 4), torch.randn(2, 1, 5, 6)
    fused = attend(q, k, v, 0.5)
    with plain_attention():
        assert torch.allclose(attend(q, k, v, 0.5), fused, atol=1e-6)
    assert fused.shape == (2, 1, 5, 6)


def test_heads_split_and_join():
    x = tokens()
    split = split_heads(x, 4)
    assert split.shape == (3, 4, TOKENS, 12)
    assert torch.equal(split[1, 2, 3], x[1, 3, 24:36])
    assert torch.equal(join_heads(split), x)


@pytest.mark.parametrize("plain", [True, False])
def test_dropout_zeroes_attention_weights_and_keeps_their_mean(plain, monkeypatch):
    monkeypatch.setattr("effi.models.attention.prefers_plain", lambda q: plain)
    torch.manual_seed(0)
    count, rate = 64, 0.25
    q, k, v = torch.zeros(8, 1, count, count), torch.zeros(8, 1, count, count), torch.eye(count).expand(8, 1, -1, -1)
    weights = attend(q, k, v, 1.0, rate)
    kept = weights[weights != 0]
    assert torch.allclose(kept, torch.tensor(1 / count / (1 - rate)))
    assert abs((weights == 0).float().mean().item() - rate) < 0.01


def test_dropout_only_in_training():
    module, x = attention(2, dropout=0.5), tokens()
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_glorot_uses_the_fan_of_one_matrix():
    stacked = torch.empty(3 * 64, 64)
    glorot_rows(stacked, 64)
    bound = (6 / (64 + 64)) ** 0.5
    assert stacked.abs().max() <= bound
    assert stacked.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_reset_zeroes_biases():
    module = attention(2)
    nn.init.ones_(module.qkv.bias)
    module.reset()
    assert not module.qkv.bias.any()
    assert not module.out.bias.any()


def test_heads_must_divide_the_width():
    with pytest.raises(ParameterError, match="width 10 is not a multiple of heads 3; choose heads"):
        SelfAttention(10, 3)


@pytest.mark.parametrize(("heads", "count"), [(1, 5), (3, 10), (16, 7)])
def test_closed_form_flops_equal_the_counter(heads, count):
    module, x = attention(heads), tokens(2, count)
    assert sum(module.forward_flops(2, count).values()) == count_flops(lambda: module(x))
    with plain_attention():
        assert sum(module.forward_flops(2, count).values()) == count_flops(lambda: module(x))


def test_flops_by_hand():
    assert SelfAttention(128, 4).forward_flops(1, 64) == {
        "qkv": 2 * 64 * 128 * 384,
        "scores": 2 * 64 * 64 * 128,
        "mix": 2 * 64 * 64 * 128,
        "out": 2 * 64 * 128 * 128,
    }


@pytest.mark.parametrize("taken", [False, True])
def test_cudnn_comes_first_where_it_is_asked_for(monkeypatch, taken):
    asked, orders = [], []
    monkeypatch.setattr(models.attention, "takes", lambda name, device, size: asked.append((name, size)) or taken)

    @contextmanager
    def ordered(backends, set_priority):
        orders.append((backends[0], set_priority))
        with sdpa_kernel(backends, set_priority=set_priority):
            yield

    monkeypatch.setattr(models.attention, "sdpa_kernel", ordered)
    q, k, v = (torch.randn(2, 2, 100, 32) for _ in range(3))
    out = attend(q, k, v, 0.5)
    with plain_attention():
        assert torch.allclose(attend(q, k, v, 0.5), out, atol=1e-5)
    assert orders == [(SDPBackend.CUDNN_ATTENTION, True)] * taken and asked == [("cudnn", 100)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: cuDNN's attention is there alone")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 0.003), (torch.bfloat16, 0.02)])
def test_cudnn_on_a_gpu_is_near_float64(causal, dtype, close):
    parts = [torch.randn(2, 3, 130, 64, device="cuda", dtype=torch.float64) for _ in range(4)]
    *exact, slope = (part.requires_grad_() for part in parts)
    inputs = [part.detach().to(dtype).requires_grad_() for part in exact]
    with using("cudnn"):
        out = models.attention.fused(*inputs, is_causal=causal)
    right = F.scaled_dot_product_attention(*exact, is_causal=causal)
    found = out, *torch.autograd.grad(out, inputs, slope.to(dtype))
    for one, other in zip(found, (right, *torch.autograd.grad(right, exact, slope)), strict=True):
        assert (one - other).norm() <= close * other.norm()
