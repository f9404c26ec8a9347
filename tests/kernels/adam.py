"""Weights under AdamW and a mask: torch's optimiser with the mask laid over what it computes, and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from effi.kernels.adamw import MaskedAdamW

SIZES = ((33, 7), (64,), (1,), (5, 0), (129,))
OPTIONS = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def parameters(seed: int = 0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=draw)) for size in SIZES]


def stencils(kind: str, seed: int = 0) -> list[Tensor | None]:
    """Of one byte per weight: half kept, all, none, or no mask for some of them."""
    draw = torch.Generator().manual_seed(seed)
    kept = {"half": 0.5, "all": 1.0, "none": 0.0, "some": 0.5}[kind]
    made = [-(torch.rand(size, generator=draw) < kept).to(torch.int8) for size in SIZES]
    return [None if kind == "some" and place % 2 else one for place, one in enumerate(made)]


def gradients(step: int) -> list[Tensor]:
    """Of changing scale; the least and the largest are there, too, and what is pruned may be no number."""
    draw = torch.Generator().manual_seed(100 + step)
    return [torch.randn(size, generator=draw) * 10 ** (step % 5 - 2) for size in SIZES]


def count() -> int:
    """Weights of all parameters."""
    return sum(map(math.prod, SIZES))


def masked(optimizer: torch.optim.Optimizer, of: Sequence[nn.Parameter], given: Sequence[Tensor | None]) -> None:
    """The definition: gradients, weights and moments of what is pruned are zero."""
    for parameter, stencil in zip(of, given, strict=True):
        values = [parameter.data, parameter.grad, *optimizer.state.get(parameter, {}).values()]
        for value in values:
            if stencil is not None and value is not None and value.shape == parameter.shape and value.ndim:
                value.masked_fill_(stencil == 0, 0)


def both(masks: Sequence[Sequence[Tensor | None]], steps: int = 20) -> int:
    """So many steps with a new mask every few: equal within 1e-6, and what is pruned exactly zero. Weights compared."""
    expected, found = parameters(), parameters()
    reference = torch.optim.AdamW(expected, **OPTIONS, foreach=False, fused=False)
    ours = MaskedAdamW(found, **OPTIONS)
    for step in range(steps):
        given = masks[step * len(masks) // steps]
        for of, optimizer in ((expected, reference), (found, ours)):
            for parameter, gradient in zip(of, gradients(step), strict=True):
                parameter.grad = gradient.clone()
            masked(optimizer, of, given)  # a new mask clears what it finds, as `effi.masks.hold` does
        for parameter, gradient in zip(found, gradients(step), strict=True):
            parameter.grad = gradient
        ours.stencils = {p: stencil for p, stencil in zip(found, given, strict=True) if stencil is not None}
        reference.step()
        masked(reference, expected, given)
        ours.step()
    for one, other, stencil in zip(expected, found, given, strict=True):
        compare(reference.state[one], ours.state[other], one, other, stencil)
    return sum(map(torch.numel, found))


def compare(one_state, other_state, one: Tensor, other: Tensor, stencil: Tensor | None) -> None:
    assert float(one_state["step"]) == float(other_state["step"])
    pairs = [(one, other)] + [(one_state[name], other_state[name]) for name in ("exp_avg", "exp_avg_sq")]
    for expected, found in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        if stencil is not None:
            assert not found[stencil == 0].any()
            assert not found.numel() or not (stencil != 0).any() or found[stencil != 0].any()
