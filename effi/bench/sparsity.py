"""Mixed Sparsity Training's own work: attention under patterns, an update of the topology, layers of live blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from effi import masks
from effi.bench import gpts, schedules
from effi.bench.blocks import block_linear
from effi.bench.rounds import Case, Competitor
from effi.bench.tickets import SIDES, TENSORS, by_partition, noise
from effi.mixed_sparsity import Evolution, HybridAttention, Pattern, evolve
from effi.seeds import generator

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
SHAPE, WINDOW = (1, 8, 4096, 64), 128  # B, H, T, D
SPARSE = 0.8


def mixed_sparsity() -> list[Case]:
    """What the third paper's method costs, and what of it a machine can be spared."""
    return [
        *(attention(dtype) for dtype in (torch.float32, torch.bfloat16)),
        topology(),
        *block_linear(),
        gpts.masked(),
        *schedules.steps(),
    ]


def attention(dtype: torch.dtype, shape: tuple[int, int, int, int] = SHAPE, window: int = WINDOW) -> Case:
    """Forward and backward under two patterns, by the dense mask of one and by dense causal attention."""
    tokens, scale = shape[2], shape[3] ** -0.5
    merged, fixed = Pattern("merged", window), Pattern("fixed", window)

    @cache
    def dense() -> Tensor:
        return merged.dense(tokens)

    ways: dict[str, Attend] = {
        "dense mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=dense(), scale=scale),
        "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale),
        "merged": lambda q, k, v: HybridAttention(merged)(q, k, v, scale),
        "fixed": lambda q, k, v: HybridAttention(fixed)(q, k, v, scale),
    }
    makers = {name: partial(differentiated, way, dtype, shape) for name, way in ways.items()}
    return Case(f"attention, {tokens:,} tokens, {str(dtype).removeprefix('torch.')}", "dense mask", makers)


def differentiated(
    way: Attend, dtype: torch.dtype, shape: tuple[int, int, int, int], device: str = "cpu", *, backward: bool = True
) -> Competitor:
    """Forward and, but for `backward` False, backward of attention, BHTD, on one fixed draw of its inputs."""
    draw = generator(0, "bench")
    inputs = [torch.randn(shape, generator=draw).to(device, dtype).requires_grad_() for _ in range(3)]
    gradient = torch.randn(shape, generator=draw).to(device, dtype)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(way(*inputs), inputs, gradient)

    return Competitor(both if backward else lambda: way(*inputs))


def topology(tensors: int = TENSORS, sides: tuple[int, int] = SIDES) -> Case:
    """One update of the topology beside one partition of all magnitudes."""

    @cache
    def weights() -> dict[str, Tensor]:
        return noise(tensors, sides)

    def update() -> Callable[[], object]:
        mask = masks.random(weights(), SPARSE, generator=generator(0, "bench"))
        how: dict[str, Any] = {"share": 0.0, "gradients": weights(), "options": Evolution()}
        targets = dict.fromkeys(mask, SPARSE)
        return lambda: evolve(weights(), mask, targets, generator=generator(0, "topology"), **how)

    count = tensors * sides[0] * sides[1]
    makers: dict[str, Callable[[], Competitor]] = {
        "numpy.partition": lambda: Competitor(lambda: by_partition(weights())),
        "effi": lambda: Competitor(update()),
    }
    return Case(f"topology, {count / 1e6:.0f} M, {100 * SPARSE:g} % pruned", "numpy.partition", makers)
