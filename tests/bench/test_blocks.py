"""Sparse layers beside the dense one: each computes what it says, and what does not run here is named."""

from __future__ import annotations

from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from effi.bench import blocks, peers
from effi.bench.rounds import Missing
from effi.mixed_sparsity.blocks import whole_mask
from tests.bench.conftest import complete

WIDTHS, SIZE, SPARSITIES = (128, 256), 32, (0.5, 0.9)
KEPT = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1]]).bool()


def linear(device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Linear:
    """A layer of which KEPT are the blocks of 64."""
    torch.manual_seed(0)
    return nn.Linear(*WIDTHS, bias=False, device=device, dtype=dtype)


def x(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(256, WIDTHS[0], generator=torch.Generator().manual_seed(1)).to(device, dtype)


def absent(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without it, whether it is installed or not; a module of it cannot be looked for, as Python has it."""

    def find(module: str) -> ModuleSpec | None:
        if module.startswith(f"{package}."):
            raise ModuleNotFoundError(f"No module named '{package}'")
        return None if module == package else find_spec(module)

    monkeypatch.setattr(peers, "find_spec", find)


@pytest.mark.parametrize("backward", [True, False])
def test_ours_are_timed_and_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, backward: bool) -> None:
    absent(monkeypatch, "torchao")
    case = blocks.layers(SIZE, WIDTHS, 8, SPARSITIES, backward=backward)
    title = "128 -> 256, 8 tokens, blocks of 32"
    assert case.title == (title if backward else f"{title}, forward") and case.reference == "dense"
    found = complete(case)
    others = ["torchao, 2:4"] if backward else ["torch, 2:4", "torchao, 50 %", "torchao, 90 %"]
    assert list(found) == ["dense", "50 %", "90 %", *others]
    for name in others:
        missing = "not installed: uv pip install torchao" if name.startswith("torchao") else "does not run here: "
        assert str(found[name].note).startswith(missing)
    products = 2 * 8 * 128 * 256 * (3 if backward else 1)
    assert [found[name].flops for name in ("dense", "50 %", "90 %")] == [products, products / 2, products / 8]


def test_both_passes_make_the_gradients() -> None:
    layer, inputs, slope = linear(), x(), torch.ones(256, 256)
    assert not blocks.forward_pass(layer, inputs)().requires_grad
    of_x, of_weight = blocks.both_passes(layer, inputs, slope)()
    assert torch.allclose(of_x, slope @ layer.weight, atol=1e-3)
    assert torch.allclose(of_weight, slope.t() @ inputs, atol=1e-3)
    assert layer.weight.grad is None  # nothing of a step stays


def halves(weight: Tensor) -> Tensor:
    """The largest two of each four, of which in bf16 many are as large as others."""
    groups = weight.unflatten(1, (-1, 4))
    ranks = groups.abs().argsort(-1, descending=True, stable=True).argsort(-1)
    return (groups * (ranks < 2)).flatten(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_of_four_weights_are_the_largest(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    packed: list[Tensor] = []
    monkeypatch.setattr(blocks, "to_sparse_semi_structured", lambda weight: packed.append(weight) or weight)
    layer = blocks.torch_halves(linear(dtype=dtype))
    weight, right = layer.weight.unflatten(1, (-1, 4)), linear(dtype=dtype).weight.unflatten(1, (-1, 4))
    kept, left = weight.abs().sort(-1).values, right.abs().sort(-1).values
    assert torch.equal(kept[..., 2:], left[..., 2:]) and not kept[..., :2].any()
    assert len(packed) == 1 and not layer.weight.requires_grad and torch.equal(weight[weight != 0], right[weight != 0])


def test_blocks_of_torchao_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layer as it is, but for the product, whose kernel wants a GPU."""
    pytest.importorskip("torchao", reason="torchao is not among the packages that are installed")

    def product(start: Tensor, weight: Tensor, columns: Tensor, *, out: Tensor, alpha: int, beta: int) -> None:
        assert (alpha, beta) == (1, 0)
        out.copy_(weight.to_dense() @ columns)

    monkeypatch.setattr(import_module("torchao.kernel.bsr_triton_ops"), "bsr_dense_addmm", product)
    layer = blocks.torchao_blocks(linear(), KEPT, 64)
    expected = blocks.ours(linear(), KEPT, 64)(x())
    assert torch.allclose(blocks.forward_pass(layer, x())(), expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("way", ["torch, 2:4", "torchao, 2:4", "torchao, blocks"])
def test_others_compute_on_a_gpu_what_they_stand_for(way: str) -> None:
    """In bf16 and beside float64; what is not installed or does not run says so."""
    made, weight = linear("cuda", torch.bfloat16), linear("cuda", torch.bfloat16).weight.double()
    inputs = x("cuda", torch.bfloat16)
    try:
        if way == "torchao, blocks":
            layer, right = blocks.torchao_blocks(made, KEPT, 64), weight * whole_mask({"w": KEPT.cuda()}, 64)["w"]
        else:
            layer = blocks.torch_halves(made) if way == "torch, 2:4" else blocks.torchao_halves(made)
            right = halves(weight)
        found = peers.attempted(blocks.forward_pass(layer, inputs))()
    except Missing as reason:
        pytest.skip(f"{way}: {reason}")
    expected = inputs.double() @ right.t()
    # torchao picks two of four by its own rule, for rows and columns at once; of equal weights torch's may be another.
    close = {"torchao, 2:4": 0.6, "torch, 2:4": 0.1}.get(way, 0.02)
    assert (found - expected).norm() <= close * expected.norm()
