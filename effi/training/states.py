"""Arithmetic on the weights of models: average, interpolation, and a moving average during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.training.step import Step

State = Mapping[str, Tensor]


def average(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The mean of states, or their weighted mean with weights that sum to 1; whole numbers come from the first.

    Floating-point tensors are summed in float64 and given back in their own type. ParameterError when names or shapes
    differ, there are no states, or the weights do not fit.
    """
    if not states:
        raise ParameterError("an average wants at least one state")
    shares = [1 / len(states)] * len(states) if weights is None else list(weights)
    if len(shares) != len(states) or abs(sum(shares) - 1) > 1e-6:
        raise ParameterError(f"{len(states)} states want as many weights that sum to 1, not {shares}")
    for other in states[1:]:
        _same(states[0], other)
    return {name: _mean([state[name] for state in states], shares) for name in states[0]}


def interpolate(a: State, b: State, share: float) -> dict[str, Tensor]:
    """(1 - share) a + share b; ParameterError when names or shapes differ."""
    return average([a, b], [1 - share, share])


def _mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not values[0].is_floating_point():
        return values[0].clone()
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for value, share in zip(values, shares, strict=True):
        total += share * value
    return total.to(values[0].dtype)


def _same(a: State, b: State) -> None:
    differing = [
        name for name in a.keys() | b.keys() if name not in a or name not in b or a[name].shape != b[name].shape
    ]
    if differing:
        raise ParameterError(f"states of different models: {min(differing)} is not in both with one shape")


class MovingAverage:
    """A listener after each step: an exponential moving average of the weights, e <- decay e + (1 - decay) w."""

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ParameterError(f"decay={decay:g} of a moving average: give at least 0 and less than 1")
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, step: Step) -> None:
        """Take in the new weights."""
        for name, value in step.model.state_dict().items():
            if name not in self.average or not value.is_floating_point():
                self.average[name] = value.detach().clone()
            else:
                # A checkpoint gives the average back on the CPU.
                self.average[name] = self.average[name].to(value.device).lerp_(value, 1 - self.decay)

    def copy_to(self, model: nn.Module) -> None:
        """Give a model the averaged weights."""
        model.load_state_dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        """The average, for a checkpoint."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average = dict(state)
