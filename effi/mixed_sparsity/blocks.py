"""Blocks of weights that live or die together, and a linear layer that multiplies by those alone that live.

Shapes: T tokens; a weight (out, in) is a grid (out / size, in / size) of blocks, and a mask of blocks is of that shape.
On a CPU the layer makes one product per row of blocks, of the inputs that the row reads, and two per column backwards;
on a GPU it can take the kernels of `effi.kernels.block_sparse` (`effi.kernels.using("block_sparse")`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from effi.errors import ParameterError
from effi.kernels import takes
from effi.kernels.block_sparse import Index, block_sparse_linear, fits
from effi.masks import Mask
from effi.models.gpt import TiedEmbedding

Norm = Literal["l1", "frobenius"]

# A product with few outputs takes as long as one with so many more beside a large one: what it reads is gathered, and
# packed for few uses. Fitted with 1,024 tokens, 768 -> 3,072, fp32, blocks of 32 to 128: 32 on one thread, 64 on two.
MORE = 48


# --- weights as blocks ---------------------------------------------------------------------------------------


def block_scores(weights: Mapping[str, Tensor], size: int, *, norm: Norm = "l1") -> dict[str, Tensor]:
    """Name -> sum of |w| ("l1") or root of the sum of squares ("frobenius") of each block of size x size weights.

    Weights or gradients (out, in) become scores (out / size, in / size), which rank as weights do. ParameterError for
    an unknown norm, and where a matrix does not part into such blocks.
    """
    if norm not in get_args(Norm):
        raise ParameterError(f'unknown norm "{norm}" of blocks; use {" or ".join(get_args(Norm))}')
    order = 1 if norm == "l1" else 2
    grids = {name: _grid(name, weight.detach(), size) for name, weight in weights.items()}
    return {name: torch.linalg.vector_norm(grid, order, dim=(1, 3)) for name, grid in grids.items()}


def whole_mask(blocks: Mask, size: int) -> Mask:
    """The mask of weights of a mask of blocks."""
    return {name: kept.repeat_interleave(size, 0).repeat_interleave(size, 1) for name, kept in blocks.items()}


def block_mask(mask: Mask, size: int) -> Mask:
    """The mask of blocks of a mask of weights; ParameterError where a block is kept in part."""
    grids = {name: _grid(name, kept, size) for name, kept in mask.items()}
    blocks = {name: grid.any(3).any(1) for name, grid in grids.items()}
    for name, grid in grids.items():
        if not torch.equal(grid.all(3).all(1), blocks[name]):
            raise ParameterError(f'the mask of "{name}" keeps parts of blocks of {size}; make it by `whole_mask`')
    return blocks


def check_parting(name: str, shape: Sequence[int], size: int) -> None:
    """ParameterError, with the name, where a tensor of this shape does not part into blocks of size x size weights."""
    if len(shape) != 2 or size < 1 or any(side % size for side in shape):
        raise ParameterError(
            f'"{name}" of shape {tuple(shape)} does not part into blocks of {size} x {size}; '
            "give a size that divides both sides"
        )


def _grid(name: str, matrix: Tensor, size: int) -> Tensor:
    """A view (out / size, size, in / size, size)."""
    check_parting(name, matrix.shape, size)
    return matrix.unflatten(1, (-1, size)).unflatten(0, (-1, size))


# --- products with the live blocks ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Live blocks of one row or column of the grid: their places, and from where to where when all are neighbours."""

    places: Tensor
    run: slice | None
    size: int

    def of(self, values: Tensor, dim: int) -> Tensor:
        """Of a dimension of a matrix what lies in the live blocks; a view where they are neighbours."""
        if self.run is not None:
            return values.narrow(dim, self.run.start, self.run.stop - self.run.start)
        return values.unflatten(dim, (-1, self.size)).index_select(dim, self.places).flatten(dim, dim + 1)

    def put(self, values: Tensor, into: Tensor) -> None:
        """Values (live, n) into their rows of a matrix (m, n)."""
        into.unflatten(0, (-1, self.size)).index_copy_(0, self.places, values.unflatten(0, (-1, self.size)))


class Layout:
    """Where the live blocks of a weight lie: `kept` is bool (out / size, in / size)."""

    def __init__(self, kept: Tensor, size: int) -> None:
        self.kept, self.size = kept, size
        self._indices: dict[torch.device, Index] = {}

    @cached_property
    def rows(self) -> list[Line]:
        """Of each row of blocks, the inputs that it reads."""
        return [_line(kept, self.size) for kept in self.kept.cpu()]

    @cached_property
    def columns(self) -> list[Line]:
        """Of each column of blocks, the outputs that read it."""
        return [_line(kept, self.size) for kept in self.kept.cpu().t()]

    @property
    def whole(self) -> bool:
        """Whether every block lives."""
        return self.live == self.kept.numel()

    @cached_property
    def live(self) -> int:
        """How many blocks live."""
        return int(self.kept.count_nonzero())

    @cached_property
    def pays(self) -> bool:
        """Whether many products are expected to take less time on a CPU than one with the whole weight."""
        return self.live * (self.size + MORE) < self.kept.numel() * self.size

    def parted(self, device: torch.device) -> bool:
        """Whether live blocks alone are multiplied on a device."""
        return device.type == "cpu" and self.pays

    def by_kernel(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether a kernel multiplies live blocks alone: `dispatch` takes their per cent of dead blocks for a size."""
        blocks = self.kept.numel()
        return fits(self.size, dtype) and takes("block_sparse", device, 100 * (blocks - self.live) // blocks)

    def index(self, device: torch.device) -> Index:
        """The grid as kernels on a device read it, made once."""
        if device not in self._indices:
            self._indices[device] = Index.of(self.kept.to(device), self.size)
        return self._indices[device]

    def masked(self, weight: Tensor) -> Tensor:
        """The weight, zero off the live blocks."""
        if self.whole:
            return weight
        kept = self.kept.to(weight.device)[:, None, :, None]
        return torch.where(kept, _grid("weight", weight, self.size), 0).reshape(weight.shape)


def _line(kept: Tensor, size: int) -> Line:
    places = kept.nonzero()[:, 0]
    first, last = (int(places[end]) for end in (0, -1)) if len(places) else (0, -1)
    neighbours = last - first + 1 == len(places)
    return Line(places, slice(first * size, (last + 1) * size) if neighbours else None, size)


def block_linear(x: Tensor, weight: Tensor, layout: Layout, *, dense_gradient: bool = False) -> Tensor:
    """x (..., in) times the transpose of the live blocks of a weight (out, in): (..., out); other weights are not read.

    The gradient of the weight has its shape and is zero off the live blocks, or whole with `dense_gradient`. Under
    autocast it computes in its precision. Elsewhere than on a CPU, and where many products would be slower, it is one
    with the masked weight, unless a kernel takes it. ParameterError where shapes do not fit.
    """
    sides = tuple(layout.size * blocks for blocks in layout.kept.shape)
    if weight.shape != sides or x.shape[-1] != sides[1]:
        raise ParameterError(
            f"a layout of {sides[0]} x {sides[1]} weights meets a weight of shape {tuple(weight.shape)} and inputs of "
            f"width {x.shape[-1]}; make it for this layer"
        )
    if torch.is_autocast_enabled(x.device.type):
        x, weight = (value.to(torch.get_autocast_dtype(x.device.type)) for value in (x, weight))
    flat = x.reshape(-1, sides[1])
    if layout.by_kernel(weight.device, weight.dtype):
        y = block_sparse_linear(flat, weight, layout.index(weight.device), dense_gradient=dense_gradient)
    else:
        y = _BlockLinear.apply(flat, weight, layout, dense_gradient)
    return y.view(*x.shape[:-1], sides[0])


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: Layout, dense_gradient: bool) -> Tensor:
        # Strides that BLAS cannot read would have every part copied.
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.layout, ctx.dense_gradient, ctx.by_blocks = layout, dense_gradient, layout.parted(x.device)
        return _by_rows(x, weight, layout) if ctx.by_blocks else x @ layout.masked(weight).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), gradient = ctx.saved_tensors, gradient.contiguous()
        for_x, for_weight = ctx.needs_input_grad[:2]
        whole = for_weight and ctx.dense_gradient
        gradients = _gradients_by_columns if ctx.by_blocks else _gradients_at_once
        of_x, of_weight = gradients(gradient, x, weight, ctx.layout, for_x, for_weight and not whole)
        return of_x, gradient.t() @ x if whole else of_weight, None, None


def _by_rows(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    y = x.new_empty(len(x), len(weight))
    for out, row, line in zip(y.split(layout.size, 1), weight.split(layout.size), layout.rows, strict=True):
        torch.mm(line.of(x, 1), line.of(row, 1).t(), out=out)
    return y


def _gradients_by_columns(
    gradient: Tensor, x: Tensor, weight: Tensor, layout: Layout, for_x: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    of_x = x.new_empty(*x.shape) if for_x else None
    of_weight = weight.new_zeros(weight.shape) if for_weight else None
    for place, line in enumerate(layout.columns):
        column = slice(place * layout.size, (place + 1) * layout.size)
        read = line.of(gradient, 1)
        if of_x is not None:
            torch.mm(read, line.of(weight[:, column], 0), out=of_x[:, column])
        if of_weight is not None:
            line.put(read.t() @ x[:, column], of_weight[:, column])
    return of_x, of_weight


def _gradients_at_once(
    gradient: Tensor, x: Tensor, weight: Tensor, layout: Layout, for_x: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    of_x = gradient @ layout.masked(weight) if for_x else None
    return of_x, layout.masked(gradient.t() @ x) if for_weight else None


# --- layers --------------------------------------------------------------------------------------------------


class _LiveBlocks(nn.Module):
    """The part of a layer that knows which blocks of its weight live.

    The weight stays the dense (out, in) parameter: products read no weights off the mask, so that a loop may hold them
    at zero. With `dense_gradient` on, backward passes give them gradients, for what would grow.
    """

    weight: Tensor
    layout: Layout
    dense_gradient: bool

    def _take(self, weight: Tensor, size: int) -> None:
        """Have this weight, of which all blocks live."""
        grid = _grid("weight", weight, size)
        self.weight, self.dense_gradient = weight, False
        self.layout = Layout(grid.new_ones(grid.shape[0], grid.shape[2], dtype=torch.bool), size)

    def set_mask(self, kept: Tensor) -> None:
        """From now on these blocks live, bool (out / size, in / size). ParameterError for another shape or dtype."""
        shape = self.layout.kept.shape
        if kept.shape != shape or kept.dtype != torch.bool:
            raise ParameterError(
                f"a mask of blocks is {tuple(kept.shape)} {kept.dtype}; this layer needs {tuple(shape)} {torch.bool}"
            )
        self.layout = Layout(kept.to(self.weight.device, copy=True), self.layout.size)

    @property
    def multiplied(self) -> int:
        """Weights that each input is multiplied by: those of live blocks, or all where that is faster."""
        device, layout = self.weight.device, self.layout
        alone = layout.parted(device) or layout.by_kernel(device, self.weight.dtype)
        return layout.live * layout.size**2 if alone else self.weight.numel()

    @property
    def differentiated(self) -> int:
        """Weights whose gradients a backward pass makes."""
        return self.weight.numel() if self.dense_gradient else self.multiplied

    def product(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return block_linear(x, self.weight, self.layout, dense_gradient=self.dense_gradient)


class BlockSparseLinear(_LiveBlocks, nn.Linear):
    """A linear layer over the parameters of another one, which multiplies by live blocks alone; at first all live.

    ParameterError for a size that does not divide both sides.
    """

    def __init__(self, linear: nn.Linear, size: int) -> None:
        has_bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, bias=has_bias, device="meta")
        self.bias = linear.bias
        self._take(linear.weight, size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = self.product(x)
        return y if self.bias is None else y.add_(self.bias)


class BlockSparseEmbedding(_LiveBlocks, TiedEmbedding):
    """A tied embedding over the matrix of another one: the head multiplies by live blocks alone, ids read whole rows.

    ParameterError for a size that does not divide both sides.
    """

    def __init__(self, embedding: nn.Embedding, size: int) -> None:
        super().__init__(embedding.num_embeddings, embedding.embedding_dim, device="meta")
        self._take(embedding.weight, size)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., N) -> logits (..., V)."""
        return self.product(hidden)
