"""A linear layer that multiplies by live blocks alone, beside the dense one: forward and backward."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor, nn

from effi import masks
from effi.bench.rounds import Case, Competitor
from effi.kernels import using
from effi.mixed_sparsity.blocks import BlockSparseLinear
from effi.seeds import generator

SIZES, SPARSITIES = (32, 64, 128), (0.5, 0.7, 0.8, 0.83, 0.9, 0.95)
WIDTHS, TOKENS = (768, 3072), 1024


def block_linear() -> list[Case]:
    """The feed-forward matrix of GPT-2 small in fp32, by size of blocks."""
    return [layers(size) for size in SIZES]


def layers(
    size: int,
    widths: tuple[int, int] = WIDTHS,
    tokens: int = TOKENS,
    sparsities: tuple[float, ...] = SPARSITIES,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Case:
    """Layers with random blocks pruned beside the dense one, gradients of input and weight included.

    On a GPU by the kernel of `effi.kernels.block_sparse`.
    """
    grid = torch.empty(widths[1] // size, widths[0] // size)

    @cache
    def ends() -> list[Tensor]:
        draw = generator(0, "bench")
        return [torch.randn(tokens, width, generator=draw).to(device, dtype) for width in widths]

    def competitor(sparsity: float) -> Competitor:
        layer: nn.Linear = nn.Linear(*widths, bias=False, device=device, dtype=dtype)
        live = 1.0
        if sparsity:
            kept = masks.random({"weight": grid}, sparsity, generator=generator(0, "bench"))
            layer, live = BlockSparseLinear(layer, size), 1 - masks.sparsity(kept)
            layer.set_mask(kept["weight"])

        x, y_gradient = ends()[0].requires_grad_(), ends()[1]

        def step() -> None:
            x.grad = layer.weight.grad = None
            with using("block_sparse"):
                layer(x).backward(y_gradient)

        return Competitor(step, flops=round(live * 6 * tokens * widths[0] * widths[1]))

    competitors = {"dense": partial(competitor, 0.0)}
    competitors |= {f"{100 * sparsity:g} %": partial(competitor, sparsity) for sparsity in sparsities}
    return Case(f"{widths[0]} -> {widths[1]}, {tokens:,} tokens, blocks of {size}", "dense", competitors)
