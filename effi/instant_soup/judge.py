"""Choosing by validation: a score that counts its looks, and the line between two models that it searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effi.cost import Ledger, forward_flops
from effi.data import Examples
from effi.instant_soup.weak_nets import Data
from effi.training import Objective, evaluate, interpolate
from effi.training.evaluation import CLASSES, batches
from effi.training.states import State


@dataclass
class Judge:
    """The score of a model on examples, by default those of validation; more is better, of a loss less.

    `metric` is "accuracy", "loss" or one of the usual metrics by name. Every look is booked in the ledger's phase that
    is open.
    """

    data: Data
    ledger: Ledger
    objective: Objective = CLASSES
    metric: str = "accuracy"
    examples: Examples | None = None
    looks: int = 0
    _flops: dict[torch.Size, int] = field(default_factory=dict, repr=False)

    def __call__(self, model: nn.Module) -> float:
        """Look once."""
        examples = self.data.validation if self.examples is None else self.examples
        more = () if self.metric in ("accuracy", "loss") else (self.metric,)
        found = evaluate(model, examples, self.data, self.objective, more)
        self.ledger.add_flops(sum(self._cost(model, self.data.prepare(inputs)) for inputs, _ in batches(examples)))
        self.looks += 1
        return -found["loss"] if self.metric == "loss" else found[self.metric]

    def _cost(self, model: nn.Module, x_B: Tensor) -> int:
        if x_B.shape not in self._flops:
            self._flops[x_B.shape] = sum(forward_flops(model, x_B).values())
        return self._flops[x_B.shape]


class Best(NamedTuple):
    """A place on a line, its score and the weights there."""

    share: float
    score: float
    state: dict[str, Tensor]


def line_search(
    model: nn.Module,
    start: State,
    end: State,
    grid: Sequence[float],
    judge: Judge,
    settle: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> Best:
    """The best of (1 - a) start + a end over a in the grid, ties to the smaller a; the model is left with its weights.

    `settle` makes of such weights those that are judged.
    """
    best: Best | None = None
    for share in sorted(grid):
        state = settle(interpolate(start, end, share))
        model.load_state_dict(state)
        score = judge(model)
        if best is None or score > best.score:
            best = Best(share, score, state)
    assert best is not None, "a grid has a share"
    model.load_state_dict(best.state)
    return best
