"""A linear layer that reads the live blocks of its weight alone, forward and backward, by kernels in Triton.

Shapes: x (T, in) of T tokens, a weight (out, in) in blocks of size x size; a grid is bool (out / size, in / size), True
where a block lives. The plain-torch reference is `effi.mixed_sparsity.blocks.block_linear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SIZES = (32, 64, 128)  # of a block: smaller ones do not fill the products of tensor cores
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Lines:
    """Live blocks of each row of a grid: their columns (rows, columns) int32, live ones first; how many (rows,) int32.

    Nothing is read back from the device.
    """

    places: Tensor
    counts: Tensor

    @classmethod
    def of(cls, grid: Tensor) -> Lines:
        """Those of the rows of a grid."""
        order = grid.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        return cls(order.to(torch.int32).contiguous(), grid.sum(1, dtype=torch.int32))


@dataclass(frozen=True)
class Index:
    """A grid as the kernels read it: live blocks of rows, of columns, and all of them by row and column (live, 2).

    To be made once for a mask: counting the live blocks waits for the device.
    """

    size: int
    rows: Lines
    columns: Lines
    live: Tensor

    @classmethod
    def of(cls, grid: Tensor, size: int) -> Index:
        """Of a grid on the device that multiplies."""
        live = grid.nonzero().to(torch.int32).contiguous()  # torch lays the rows of `nonzero` side by side
        return cls(size, Lines.of(grid), Lines.of(grid.t()), live)


def fits(size: int, dtype: torch.dtype) -> bool:
    """Whether there are kernels for blocks of this size and weights of this type."""
    return size in SIZES and dtype in DTYPES


def block_sparse_linear(x: Tensor, weight: Tensor, index: Index, *, dense_gradient: bool = False) -> Tensor:
    """x (T, in) times the transpose of the live blocks of a weight (out, in): (T, out), 0 where a row has none.

    The gradient of the weight is zero off the live blocks, or whole, by a dense product, with `dense_gradient`. Sums
    are float32, and products of float32 are not rounded to TF32.
    """
    y: Tensor = _BlockSparseLinear.apply(x, weight, index, dense_gradient)
    return y


class _BlockSparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, index: Index, dense_gradient: bool) -> Tensor:
        from effi.kernels.gpu.block_sparse import multiplied

        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.index, ctx.dense_gradient = index, dense_gradient
        return multiplied(x, weight, index.rows, index.size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        from effi.kernels.gpu.block_sparse import gradient_of_weight, multiplied

        (x, weight), slope, index = ctx.saved_tensors, slope.contiguous(), ctx.index
        for_x, for_weight = ctx.needs_input_grad[:2]
        of_x = multiplied(slope, weight.t(), index.columns, index.size) if for_x else None
        if not for_weight:
            return of_x, None, None, None
        return of_x, slope.t() @ x if ctx.dense_gradient else gradient_of_weight(slope, x, index), None, None
