"""AdamW under a mask for many weights in one launch: 16 bytes read and 12 written of each weight, and 1 of the mask.

All is loaded and values are masked: a mask in a load would split wide loads into single ones, and save no bytes, as
kept weights lie among pruned ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from effi.kernels.gpu.table import ALIGNED, dense, read, table, write

if TYPE_CHECKING:
    from effi.kernels.adamw import Rates, Weight

BLOCK, WARPS = 2048, 4
# Columns of a row: addresses of parameter, gradient, mean, square and stencil (0 without), and the size.
COLUMNS = tl.constexpr(6)


@triton.jit
def masked_adamw(
    rows: tl.tensor,
    pieces: tl.tensor,
    step_size: tl.tensor,
    root: tl.tensor,
    shrink: tl.tensor,
    eps: tl.tensor,
    rest1: tl.tensor,
    beta2: tl.tensor,
    rest2: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One step of a piece (BLOCK,) of a weight; `shrink` is 1 - lr times the decay, `rest1` is 1 - beta1."""
    piece = pieces + 2 * tl.program_id(0)
    row, at = rows + tl.load(piece) * COLUMNS, tl.load(piece + 1) * BLOCK
    left = tl.minimum(tl.load(row + 5) - at, BLOCK).to(tl.int32)
    parameters = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.float32)), 16) + at
    gradients = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.float32)), 16) + at
    means = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(tl.float32)), 16) + at
    squares = tl.multiple_of(tl.load(row + 3).to(tl.pointer_type(tl.float32)), 16) + at
    parameter, gradient = read(parameters, left, BLOCK), read(gradients, left, BLOCK)
    mean, square = read(means, left, BLOCK), read(squares, left, BLOCK)
    held = tl.load(row + 4)
    if held != 0:
        kept = read(tl.multiple_of(held.to(tl.pointer_type(tl.int8)), 16) + at, left, BLOCK)
    else:
        kept = tl.full((BLOCK,), 1, tl.int8)
    gradient = tl.where(kept != 0, gradient, 0.0)
    mean += rest1 * (gradient - mean)
    square = square * beta2 + rest2 * gradient * gradient
    parameter = parameter * shrink - step_size * mean / (tl.sqrt(square) / root + eps)
    write(parameters, tl.where(kept != 0, parameter, 0.0), left, BLOCK)
    write(means, tl.where(kept != 0, mean, 0.0), left, BLOCK)
    write(squares, tl.where(kept != 0, square, 0.0), left, BLOCK)


def fits(weight: Weight) -> bool:
    """Whether the kernel can write where it lies: whole, in order, in float32; what is only read may be copied."""
    written = (weight.parameter, weight.mean, weight.square)
    whole = type(weight.parameter) in (Tensor, nn.Parameter) and weight.gradient.dtype == torch.float32
    return whole and all(
        value.dtype == torch.float32 and value.is_contiguous() and value.data_ptr() % ALIGNED == 0 for value in written
    )


def step(weights: Sequence[Weight], rates: Rates) -> None:
    """As `effi.kernels.adamw.by_torch`, of weights that fit, in one launch."""
    if not sum(weight.parameter.numel() for weight in weights):
        return
    gradients = [dense(weight.gradient) for weight in weights]
    stencils = [None if weight.stencil is None else dense(weight.stencil) for weight in weights]
    columns = [
        [weight.parameter.data_ptr() for weight in weights],
        [gradient.data_ptr() for gradient in gradients],
        [weight.mean.data_ptr() for weight in weights],
        [weight.square.data_ptr() for weight in weights],
        [0 if stencil is None else stencil.data_ptr() for stencil in stencils],
    ]
    laid = table(columns, [weight.parameter.numel() for weight in weights], BLOCK, weights[0].parameter.device)
    (beta1, beta2), shrink = rates.betas, 1 - rates.lr * rates.weight_decay
    numbers = (rates.size, rates.root, shrink, rates.eps, 1 - beta1, beta2, 1 - beta2)
    masked_adamw[(len(laid.pieces),)](*laid, *map(float, numbers), BLOCK=BLOCK, num_warps=WARPS)
