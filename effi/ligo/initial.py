"""How the growth operator begins: coefficients of width and of depth, drawn on the CPU.

The official code draws depth as "stackbert_noisy" and width as "rand"; the paper does not say. The names are the
code's, but for "zero" and "normal" of width, which are controls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Generator, Tensor

Width = Literal["rand", "rand_softmax", "sel", "sel_noisy", "zero", "normal"]
Depth = Literal["stackbert", "stackbert_noisy", "interlace", "interlace_noisy", "rand", "rand_softmax"]


def new_rows(kind: Width, shape: tuple[int, ...], noise: float, generator: Generator) -> Tensor:
    """Rows C of maps [I; C], `shape` (..., new, small): what each new unit is made of.

    "rand": uniform numbers over their sum, about the mean of all old units. "rand_softmax": a softmax of such.
    "sel": one old unit at random, not divided by its copies; "sel_noisy": with U(0, noise) of all others. "zero": none.
    "normal": N(0, 1 / large).
    """
    if kind == "zero":
        return torch.zeros(shape)
    if kind == "normal":
        return torch.randn(shape, generator=generator) * (shape[-2] + shape[-1]) ** -0.5
    if kind in ("rand", "rand_softmax"):
        return _shares(kind, shape, generator)
    rows = noise * torch.rand(shape, generator=generator) if kind == "sel_noisy" else torch.zeros(shape)
    chosen = torch.randint(shape[-1], (*shape[:-1], 1), generator=generator)
    return rows.scatter_(-1, chosen, 1.0)


def layer_weights(kind: Depth, large: int, small: int, noise: float, generator: Generator) -> Tensor:
    """Weights (large layers, small layers) of depth mixing; every row sums to 1.

    "stackbert": layer i is the small layer i mod L1 (Gong et al. 2019); "interlace": floor(i L1 / L2), the official
    code's floor(i / 2) where depth doubles. "..._noisy": all others have U(0, noise) before the division by the sum.
    """
    if kind in ("rand", "rand_softmax"):
        return _shares(kind, (large, small), generator)
    weights = torch.zeros(large, small)
    if kind.endswith("noisy"):
        weights = noise * torch.rand(large, small, generator=generator)
    place = SOURCES[kind.removesuffix("_noisy")]
    for layer in range(large):
        weights[layer, place(layer, large, small)] = 1.0
    return weights / weights.sum(-1, keepdim=True)


SOURCES: Mapping[str, Callable[[int, int, int], int]] = {
    "stackbert": lambda layer, large, small: layer % small,
    "interlace": lambda layer, large, small: layer * small // large,
}


def _shares(kind: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
    drawn = torch.rand(shape, generator=generator)
    return drawn.softmax(-1) if kind == "rand_softmax" else drawn / drawn.sum(-1, keepdim=True)
