"""A linear layer that multiplies by live blocks alone, beside the dense one: forward and backward, in fp32."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from effi import masks
from effi.bench.rounds import Case, Competitor
from effi.mixed_sparsity.blocks import BlockSparseLinear
from effi.seeds import generator

SIZES, SPARSITIES = (32, 64, 128), (0.5, 0.7, 0.8, 0.83, 0.9, 0.95)
WIDTHS, TOKENS = (768, 3072), 1024


def block_linear() -> list[Case]:
    """The feed-forward matrix of GPT-2 small, by size of blocks."""
    return [layers(size) for size in SIZES]


def layers(
    size: int,
    widths: tuple[int, int] = WIDTHS,
    tokens: int = TOKENS,
    sparsities: tuple[float, ...] = SPARSITIES,
) -> Case:
    """Layers with random blocks pruned beside the dense one, gradients of input and weight included."""
    draw = generator(0, "bench")
    x = torch.randn(tokens, widths[0], generator=draw).requires_grad_()
    y_gradient = torch.randn(tokens, widths[1], generator=draw)
    grid = torch.empty(widths[1] // size, widths[0] // size)

    def competitor(sparsity: float) -> Competitor:
        layer: nn.Linear = nn.Linear(*widths, bias=False)
        live = 1.0
        if sparsity:
            kept = masks.random({"weight": grid}, sparsity, generator=generator(0, "bench"))
            layer, live = BlockSparseLinear(layer, size), 1 - masks.sparsity(kept)
            layer.set_mask(kept["weight"])

        def step() -> None:
            x.grad = layer.weight.grad = None
            layer(x).backward(y_gradient)

        return Competitor(step, flops=round(live * 6 * tokens * widths[0] * widths[1]))

    competitors = {"dense": partial(competitor, 0.0)}
    competitors |= {f"{100 * sparsity:g} %": partial(competitor, sparsity) for sparsity in sparsities}
    return Case(f"{widths[0]} -> {widths[1]}, {tokens:,} tokens, blocks of {size}", "dense", competitors)
