"""Adam's moments grown with the weights, as staged training does (Shen et al. 2022, arXiv 2203.06211).

The first moment is mapped like the weights, the second by squared coefficients: a sum of independent gradients has the
weighted sum of their squares. Neither is exact, as gradients of the grown model are not the map of the small one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.ligo.maps import stacked
from effi.ligo.operator import GrowthOperator
from effi.ligo.pieces import split
from effi.training import Step

Moments = Mapping[str, Mapping[str, Tensor]]
POWERS = {"exp_avg": 1, "exp_avg_sq": 2}


def moments(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """ "exp_avg", "exp_avg_sq" and "step" -> parameter name -> a copy of Adam's state.

    ParameterError for another optimiser, or one that has made no step.
    """
    found: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*POWERS, "step")}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for kind, table in found.items():
            if kind not in state:
                raise ParameterError(f"{name} has no {kind}: only moments of Adam or AdamW after a step can be grown")
            table[name] = state[kind].detach().clone()
    return found


@torch.no_grad()
def grow_moments(operator: GrowthOperator, small: nn.Module, of: Moments) -> dict[str, dict[str, Tensor]]:
    """`moments` of the small model -> those of the large one; all parameters have made as many steps as the first."""
    grown = {kind: operator.grown(stacked(split(small, of[kind])), power) for kind, power in POWERS.items()}
    step = next(iter(of["step"].values()))
    return {**grown, "step": {name: step.clone() for name in grown["exp_avg"]}}


class Last:
    """Adam's moments after the last step of a training, which a listener takes; none of another optimiser."""

    def __init__(self) -> None:
        self.found: Moments = {}

    def __call__(self, step: Step) -> None:
        """After the last step, take them."""
        if step.index == step.steps and isinstance(step.optimizer, torch.optim.Adam | torch.optim.AdamW):
            self.found = moments(step.optimizer, step.model)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return flat(self.found)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.found = nested(state)


def flat(of: Moments) -> dict[str, Tensor]:
    """Moments as one table, by "KIND:PARAMETER"."""
    return {f"{kind}:{name}": value for kind, table in of.items() for name, value in table.items()}


def nested(table: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What `flat` made of moments, among other names or not."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in table.items():
        kind, _, name = key.partition(":")
        if name:
            found.setdefault(kind, {})[name] = value
    return found


class Inherited:
    """A training begins with these moments: a listener before its first step."""

    def __init__(self, of: Moments) -> None:
        self.of = of

    def __call__(self, step: Step) -> None:
        """Before the first step, give every parameter its state."""
        if step.index == 1:
            for name, parameter in step.model.named_parameters():
                state = step.optimizer.state[parameter]
                state |= {kind: self.of[kind][name].to(parameter.device, copy=True) for kind in (*POWERS, "step")}
