"""The block-sparse kernels under Triton's interpreter compute what the plain path of `block_linear` does."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effi.kernels import using
from effi.kernels.gpu import block_sparse as launches
from effi.mixed_sparsity.blocks import BlockSparseLinear, Layout, block_linear
from effi.seeds import generator
from tests.kernels.waits import Waits

# Rows and columns of blocks that are empty, full, and read several runs of neighbours.
UNEVEN = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 1, 1], [0, 0, 0, 1, 0]]).bool()
LAYOUTS = {
    "uneven": UNEVEN,
    "none": torch.zeros_like(UNEVEN),
    "all": torch.ones_like(UNEVEN),
    "one": torch.arange(20).view(4, 5) == 13,
}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked():
    with using("block_sparse"):
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "blocks"))


def whole(grid: Tensor, size: int) -> Tensor:
    """The mask of weights, by counting rather than repeating."""
    rows, columns = (torch.arange(side * size) // size for side in grid.shape)
    return grid[rows][:, columns]


def check(grid: Tensor, size: int, tokens: int) -> None:
    """Output and gradients beside those of a dense product with the masked weight, made in double precision."""
    out, into = (size * blocks for blocks in grid.shape)
    x, weight = noise(tokens, into).requires_grad_(), noise(out, into, seed=1).requires_grad_()
    slope, mask = noise(tokens, out, seed=2), whole(grid, size)
    y = block_linear(x, weight, Layout(grid, size))
    exact_x, exact = (each.detach().double().requires_grad_() for each in (x, weight))
    expected = exact_x @ torch.where(mask, exact, 0).t()
    found = (y, *torch.autograd.grad(y, (x, weight), slope))
    right = (expected, *torch.autograd.grad(expected, (exact_x, exact), slope.double()))
    for ours, theirs in zip(found, right, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6 * into)
    assert found[2][~mask].count_nonzero() == 0


def filled(memory: Tensor) -> Tensor:
    """With what is no number; the interpreter asks for integers, too."""
    return memory.fill_(math.nan) if memory.is_floating_point() else memory


@pytest.fixture
def launched(monkeypatch) -> list[str]:
    """Names of what kernels were asked for."""
    names: list[str] = []
    for name in ("multiplied", "gradient_of_weight"):
        call = getattr(launches, name)
        monkeypatch.setattr(launches, name, lambda *given, name=name, call=call: names.append(name) or call(*given))
    return names


@pytest.mark.parametrize(
    ("name", "size", "tokens"), [*product(LAYOUTS, [32], [1, 70]), ("uneven", 64, 129), ("uneven", 128, 65)]
)
def test_products_and_gradients_are_those_of_the_masked_weight(name, size, tokens, launched):
    check(LAYOUTS[name], size, tokens)
    assert launched == ["multiplied", "multiplied", "gradient_of_weight"]


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(0, 140))
def test_any_layout(data, rows, columns, tokens):
    grid = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    check(torch.tensor(grid).view(rows, columns), 32, tokens)


def test_weights_off_the_mask_and_memory_nobody_wrote_are_not_read(monkeypatch):
    grid, size = UNEVEN, 32
    x, weight = noise(9, 160).requires_grad_(), noise(128, 160, seed=1)
    expected = block_linear(x, weight, Layout(grid, size))
    weight[~whole(grid, size)] = math.nan
    weight.requires_grad_()
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape, **how: filled(empty(self, *shape, **how)))
    y = block_linear(x, weight, Layout(grid, size))
    y.sum().backward()
    assert torch.equal(y, expected)
    assert x.grad.isfinite().all() and weight.grad.isfinite().all()


def test_nothing_is_written_behind_the_last_token(monkeypatch):
    empty, rooms = Tensor.new_empty, []

    def larger(self: Tensor, *shape: int, **how: object) -> Tensor:
        if not self.is_floating_point() or len(shape) != 2:
            return empty(self, *shape, **how)
        room = empty(self, math.prod(shape) + 4096).fill_(7.0)
        rooms.append(room[math.prod(shape) :])
        return room[: math.prod(shape)].view(shape)

    x, weight = noise(9, 160).requires_grad_(), noise(128, 160, seed=1)
    monkeypatch.setattr(Tensor, "new_empty", larger)
    block_linear(x, weight, Layout(UNEVEN, 32)).sum().backward()
    assert len(rooms) == 2 and all((room == 7).all() for room in rooms)


def test_a_dense_gradient_is_that_of_every_weight(launched):
    x, weight, slope = noise(9, 160), noise(128, 160, seed=1).requires_grad_(), noise(9, 128, seed=2)
    block_linear(x, weight, Layout(UNEVEN, 32), dense_gradient=True).backward(slope)
    assert torch.allclose(weight.grad, slope.t() @ x, atol=1e-5)
    assert launched == ["multiplied"]  # nor is a gradient made that nothing needs


def test_inputs_may_lie_anyhow_in_memory():
    for x in (noise(160, 6).t(), noise(6, 320)[:, ::2], noise(1, 160).expand(6, 160), noise(3, 2, 160).transpose(0, 1)):
        x = x.detach().requires_grad_()
        weight = noise(160, 128, seed=1).t()
        y = block_linear(x, weight, Layout(UNEVEN, 32))
        y.sum().backward()  # of which the slope is expanded
        masked = torch.where(whole(UNEVEN, 32), weight, 0)
        assert torch.allclose(y, x @ masked.t(), atol=1e-4)
        assert torch.allclose(x.grad, masked.sum(0).expand_as(x), atol=1e-4)


def test_what_no_kernel_takes_goes_the_plain_way(launched):
    for size, dtype in ((16, torch.float32), (32, torch.float64)):
        x, weight = noise(5, 5 * size).to(dtype), noise(4 * size, 5 * size, seed=1).to(dtype)
        expected = x @ torch.where(whole(UNEVEN, size), weight, 0).t()
        assert torch.allclose(block_linear(x, weight, Layout(UNEVEN, size)), expected, atol=1e-4)
    assert not launched


def test_the_layer_counts_live_weights_alone():
    sparse = BlockSparseLinear(torch.nn.Linear(160, 128), 32)
    assert sparse.multiplied == 160 * 128
    sparse.set_mask(UNEVEN)
    assert sparse.multiplied == sparse.differentiated == 8 * 32 * 32
    x = noise(7, 160)
    assert torch.allclose(sparse(x), x @ (sparse.weight * whole(UNEVEN, 32)).t() + sparse.bias, atol=1e-5)


def test_a_step_waits_for_nothing_once_its_layout_was_read(monkeypatch):
    """Launches are left out: the interpreter reads what kernels do."""
    nothing = type("Nothing", (), {"__getitem__": lambda self, grid: lambda *given, **how: None})()
    for kernel in ("multiply", "differentiate"):
        monkeypatch.setattr(launches, kernel, nothing)
    layout, x = Layout(UNEVEN, 32), noise(7, 160).requires_grad_()
    weight = noise(128, 160, seed=1).requires_grad_()
    names = []
    for _ in range(2):
        with Waits() as waits:
            block_linear(x, weight, layout).sum().backward()
        names.append(waits.names)
    assert names[0] and not names[1]
    assert layout.index(CPU) is layout.index(CPU)
