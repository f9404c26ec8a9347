"""What becomes of Adam's moments where a mask moves, other than a new start at zero: two listeners of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from effi import masks
from effi.errors import ParameterError
from effi.masks import Mask
from effi.training import Step
from effi.training.step import Listener

Weights = Mapping[str, nn.Parameter]
Line = Sequence[Listener]


class Kept:
    """A new mask leaves the moments of these weights alone.

    Those of what is pruned decay by themselves, without gradients, and what grows goes on from them (official code).
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.change: Callable[[Mask], None] | None = None

    def around(self, early: Line, late: Line) -> tuple[Line, Line]:
        """Listeners before and after the optimiser's step with this one among them."""
        return [self, *early], late

    def __call__(self, step: Step) -> None:
        """From the first step on, stand between updates and the loop."""
        if self.change is None:
            self.change, step.change_mask = step.change_mask, partial(self._change, step.optimizer)

    def _change(self, optimizer: torch.optim.Optimizer, mask: Mask) -> None:
        assert self.change is not None  # set with the only reference to this method
        states = [optimizer.state.get(weight, {}) for weight in self.weights.values()]
        kept = [(value, value.clone()) for state in states for value in state.values() if torch.is_tensor(value)]
        self.change(mask)
        for value, before in kept:
            value.copy_(before)


class Corrected:
    """Adam's bias is corrected by the steps of each weight since it grew, instead of the training's (SMET).

    Moves are scaled after each step, as if eps were 0. ParameterError for another optimiser than Adam and AdamW.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.born = {name: torch.zeros_like(weight, dtype=torch.int32) for name, weight in weights.items()}
        self.mask: Mask = {}
        self.before: dict[str, Tensor] = {}
        self.total = 0

    def around(self, early: Line, late: Line) -> tuple[Line, Line]:
        """Listeners before and after the optimiser's step with these among them: none stands between them and it."""
        return [*early, self.remember], [self, *late]

    def remember(self, step: Step) -> None:
        """Note what has grown, and keep the weights before a step."""
        mask = step.mask or {}
        if mask is not self.mask:
            for name, kept in self.mask.items():
                self.born[name].masked_fill_(mask[name] & ~kept, self.total)
            self.mask = mask
        if not step.skipped:
            self.before = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def __call__(self, step: Step) -> None:
        """Scale the moves of a step."""
        if step.skipped:
            return
        self.total += 1
        groups = {parameter: group for group in step.optimizer.param_groups for parameter in group["params"]}
        decays = isinstance(step.optimizer, torch.optim.AdamW)
        if not isinstance(step.optimizer, torch.optim.Adam):
            raise ParameterError(f"{type(step.optimizer).__name__} has no bias to correct; train with adam or adamw")
        for name, weight in self.weights.items():
            group = groups[weight]
            start = self.before[name].mul_(1 - group["lr"] * group["weight_decay"] * decays)
            scaled = start + (weight - start) * self._scale(name, *group["betas"])
            weight.copy_(torch.where(self.born[name] > 0, scaled, weight))

    def _scale(self, name: str, beta1: float, beta2: float) -> Tensor:
        """The own correction over that of the training; 1 / `adam_move` under a constant gradient."""

        def correction(steps: Tensor) -> Tensor:
            return (1 - beta2**steps).sqrt() / (1 - beta1**steps)

        total = torch.tensor(self.total, dtype=torch.float64, device=self.born[name].device)
        # What is pruned never moves; its age may be 0.
        scale = correction((total - self.born[name]).clamp_min(1)) / correction(total)
        return scale.to(self.weights[name].dtype)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        kept = {"mask": masks.pack(self.mask)} if self.mask else {}
        return {**kept, **{f"born/{name}": born for name, born in self.born.items()}, "total": self.total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name, born in self.born.items():
            born.copy_(state[f"born/{name}"])
        self.mask = masks.unpack(state["mask"], self.weights) if "mask" in state else {}
        self.total = state["total"]
