"""Products with the live blocks of a weight in Triton; `effi.kernels.block_sparse` calls them and says the shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from effi.kernels.block_sparse import Index, Lines

SLICE = 64  # tokens that the gradient of a block reads at once, and the side of the part of it that a program makes


@triton.jit
def multiply(
    x: tl.tensor,
    weight: tl.tensor,
    y: tl.tensor,
    places: tl.tensor,
    counts: tl.tensor,
    tokens: tl.tensor,
    most: tl.tensor,
    x_stride: tl.tensor,
    y_stride: tl.tensor,
    out_stride: tl.tensor,
    in_stride: tl.tensor,
    SIZE: tl.constexpr,
    PART: tl.constexpr,
    TOKENS: tl.constexpr,
) -> None:
    """PART outputs of a block, of TOKENS tokens: x times the live blocks that they read, transposed.

    Weights lie `out_stride` apart from output to output, `in_stride` from input to input: exchanged, with the lines of
    the transposed grid, they make the gradient of x.
    """
    block, side = tl.program_id(0) * PART // SIZE, tl.arange(0, SIZE)
    token, output = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS), tl.program_id(0) * PART + tl.arange(0, PART)
    inside = (token < tokens)[:, None]
    x_rows = x + token[:, None].to(tl.int64) * x_stride + side[None, :]
    w_columns = weight + output[None, :].to(tl.int64) * out_stride + side[:, None] * in_stride
    total = tl.zeros((TOKENS, PART), tl.float32)
    for index in range(tl.load(counts + block)):
        first = tl.load(places + block * most + index) * SIZE
        part = tl.load(x_rows + first, mask=inside, other=0.0)
        live = tl.load(w_columns + first.to(tl.int64) * in_stride)
        total = tl.dot(part, live, total, input_precision="ieee")
    out = y + token[:, None].to(tl.int64) * y_stride + output[None, :]
    tl.store(out, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def differentiate(
    slope: tl.tensor,
    x: tl.tensor,
    gradient: tl.tensor,
    live: tl.tensor,
    tokens: tl.tensor,
    slope_stride: tl.tensor,
    x_stride: tl.tensor,
    gradient_stride: tl.tensor,
    SIZE: tl.constexpr,
    PART: tl.constexpr,
    SLICE: tl.constexpr,
) -> None:
    """PART x PART gradients of one live block: the transposed slope of its outputs times its inputs."""
    place, part, parts = tl.program_id(0), tl.program_id(1), SIZE // PART
    output = tl.load(live + 2 * place) * SIZE + part // parts * PART + tl.arange(0, PART)
    column = tl.load(live + 2 * place + 1) * SIZE + part % parts * PART + tl.arange(0, PART)
    total = tl.zeros((PART, PART), tl.float32)
    for start in range(0, tokens, SLICE):
        token = start + tl.arange(0, SLICE)
        slopes = slope + token[None, :].to(tl.int64) * slope_stride + output[:, None]
        inputs = x + token[:, None].to(tl.int64) * x_stride + column[None, :]
        a = tl.load(slopes, mask=(token < tokens)[None, :], other=0.0)
        b = tl.load(inputs, mask=(token < tokens)[:, None], other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    out = gradient + output[:, None].to(tl.int64) * gradient_stride + column[None, :]
    tl.store(out, total.to(gradient.dtype.element_ty))


def sizes(size: int, dtype: torch.dtype) -> dict[str, int]:
    """Parts of a block and tokens that a program of `multiply` takes, and its warps: sums stay in registers."""
    if dtype == torch.float32:
        return {"PART": min(size, 64), "TOKENS": 64, "num_warps": 8}
    return {"PART": size, "TOKENS": 128, "num_warps": 8 if size == 128 else 4}


def multiplied(x: Tensor, weight: Tensor, lines: Lines, size: int) -> Tensor:
    """x (T, in) times the transpose of the live blocks, of which `lines` are the rows, of a weight (out, in)."""
    y, how = x.new_empty(len(x), len(weight)), sizes(size, x.dtype)
    grid = len(weight) // how["PART"], triton.cdiv(len(x), how["TOKENS"])
    strides = x.stride(0), y.stride(0), *weight.stride()
    if y.numel():
        most = lines.places.shape[1]
        multiply[grid](x, weight, y, lines.places, lines.counts, len(x), most, *strides, SIZE=size, **how)
    return y


def gradient_of_weight(slope: Tensor, x: Tensor, index: Index) -> Tensor:
    """A transposed slope (T, out) times x (T, in) on the live blocks, zeros on all others: (out, in)."""
    gradient, part = x.new_zeros(slope.shape[1], x.shape[1]), min(index.size, SLICE)
    grid = len(index.live), (index.size // part) ** 2
    strides = slope.stride(0), x.stride(0), gradient.stride(0)
    if len(index.live):
        sides = {"SIZE": index.size, "PART": part, "SLICE": SLICE}
        differentiate[grid](slope, x, gradient, index.live, len(x), *strides, **sides)
    return gradient
