"""What the block-sparse kernels read of a mask, when they are taken, and the same products on a GPU."""

from __future__ import annotations

import pytest
import torch

from effi.kernels import using
from effi.kernels.block_sparse import Index, fits
from effi.mixed_sparsity.blocks import Layout, block_linear

GRID = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]]).bool()
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_live_blocks_of_rows_and_columns(device):
    index = Index.of(GRID.to(device), 32)
    for lines, grid in ((index.rows, GRID), (index.columns, GRID.t())):
        assert lines.places.shape == grid.shape and lines.places.dtype == lines.counts.dtype == torch.int32
        assert lines.places.is_contiguous()  # the kernels know no strides of it
        found = [row[:count].tolist() for row, count in zip(lines.places, lines.counts.tolist(), strict=True)]
        assert found == [row.nonzero()[:, 0].tolist() for row in grid]
    assert index.live.is_contiguous() and index.live.tolist() == GRID.nonzero().tolist()


def test_sizes_and_types_that_have_kernels():
    assert [size for size in (16, 32, 48, 64, 128, 256) if fits(size, torch.bfloat16)] == [32, 64, 128]
    assert fits(64, torch.float32) and not fits(64, torch.float64) and not fits(64, torch.float16)


def test_a_kernel_is_taken_by_the_share_of_dead_blocks(monkeypatch):
    asked = []
    monkeypatch.setattr("effi.mixed_sparsity.blocks.takes", lambda *given: asked.append(given) or True)
    device = torch.device("cuda")
    assert Layout(GRID, 32).by_kernel(device, torch.float32) and not Layout(GRID, 16).by_kernel(device, torch.float32)
    assert asked == [("block_sparse", device, 41)]  # 5 of 12, rounded down: no crossover is met too early


def test_a_cpu_keeps_its_own_way_even_when_asked():
    x, weight = torch.randn(5, 96), torch.randn(128, 96)
    with using("block_sparse"):
        assert not Layout(GRID, 32).by_kernel(x.device, x.dtype)
        assert torch.equal(block_linear(x, weight, Layout(GRID, 32)), block_linear(x, weight, Layout(GRID, 32)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: interpreted_block_sparse.py has fp32")
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_on_a_gpu(size, dtype, close):
    stream = torch.Generator().manual_seed(0)
    shapes = ((1001, 3 * size), (4 * size, 3 * size), (1001, 4 * size))
    x, weight, slope = (torch.randn(shape, generator=stream).to("cuda", dtype) for shape in shapes)
    layout, inputs = Layout(GRID.cuda(), size), (x.requires_grad_(), weight.requires_grad_())
    with using("block_sparse"):
        assert layout.by_kernel(x.device, dtype)
        y = block_linear(*inputs, layout)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    expected = exact[0] @ layout.masked(exact[1]).t()
    found = y, *torch.autograd.grad(y, inputs, slope)
    right = expected, *torch.autograd.grad(expected, exact, slope.double())
    for one, other in zip(found, right, strict=True):
        assert (one - other).norm() <= close * other.norm()
