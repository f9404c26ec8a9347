"""Adam's cold start: how far weights move that an update has grown, whose moments start at zero, in learning rates.

Adam corrects moments for a start at zero by the steps of the whole training, so that those of a weight that starts
late stay uncorrected: a high second beta makes its first moves too long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from effi import masks
from effi.errors import ParameterError
from effi.masks import Mask
from effi.mixed_sparsity.moments import Corrected, Kept
from effi.mixed_sparsity.recipes import OBJECTIVE, Sparse, Task, Trained
from effi.training import History, Step, evaluate

STEPS = (1, 2, 4, 8, 16)  # after an update, of which moves are told
Moments = Literal["zero", "kept", "corrected"]
STARTS: Mapping[Moments, type[Kept | Corrected]] = {"kept": Kept, "corrected": Corrected}
TOLD = ("update", "taken", "since", "grown", "old", "loss")


# --- in closed form ------------------------------------------------------------------------------------------


def adam_move(step: int, beta1: float, beta2: float, *, before: float = math.inf) -> float:
    """Learning rates that a weight moves in its k-th step from zero moments, under a constant gradient.

    (1 - b1^k) / sqrt(1 - b2^k) late in training; earlier times sqrt(1 - b2^t) / (1 - b1^t) with t = k + `before`, the
    steps that the optimiser made until then. With 0, as with a bias correction of each weight's own, it is 1.
    ParameterError for a step below 1.
    """
    if step < 1:
        raise ParameterError(f"step {step} after a weight grew: give 1 for its first")
    own, whole = (math.sqrt(1 - beta2**steps) / (1 - beta1**steps) for steps in (step, step + before))
    return whole / own


class Left(NamedTuple):
    """Shares left of a first moment, and of the root of a second."""

    first: float
    root: float


def moments_left(steps: int, beta1: float, beta2: float) -> Left:
    """What so many steps without a gradient leave of a weight's moments where nothing zeroes them: b1^n, b2^(n / 2)."""
    return Left(beta1**steps, beta2 ** (steps / 2))


# --- measured ------------------------------------------------------------------------------------------------


class Moves:
    """Listeners before and after the optimiser's step, last in line, that tell of moves after updates of the mask.

    `told` has a value per name for each of 1, 2, 4, 8 and 16 steps after an update that grew weights, and for 0: the
    step of the `update`, the optimiser steps `taken` before, the steps `since`; the mean |change| in this step, over
    the scheduled rate, of weights that are `grown` (0 or pruned until then) and `old`, weight decay included; and the
    `loss` after it on the first batch of training windows, always the same. A next update ends it.
    """

    def __init__(self, task: Task) -> None:
        self.model, self.data = task.model, task.data
        self.weights = {name: task.model.get_parameter(name) for name in task.names}
        first = torch.arange(min(task.training.batch_size, len(task.data.train)))
        self.windows = task.data.train.take(first.to(task.data.train.inputs.device))
        self.mask: Mask = {}
        self.grown: Mask = {}
        self.updated = self.taken = self.total = 0
        self.before: dict[str, Tensor] = {}
        self.told: dict[str, list[float]] = {name: [] for name in TOLD}

    def remember(self, step: Step) -> None:
        """Keep the weights before a step of which moves are told."""
        if self.grown and not step.skipped and step.index - self.updated in STEPS:
            self.before = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def __call__(self, step: Step) -> None:
        """Look for an update, or tell of moves since the last one."""
        self.total += not step.skipped
        if not self._same(step.mask or {}):
            self._begin(step)
        elif self.before:
            old = {name: kept & ~self.grown[name] for name, kept in self.mask.items()}
            self._tell(step, *(self._moved(each) / step.rate for each in (self.grown, old)))
        self.before = {}

    def _same(self, mask: Mask) -> bool:
        """Whether the mask is as it was, although one that a checkpoint gave back is another object."""
        if mask is not self.mask and self.mask:
            equal = all(torch.equal(kept, mask[name]) for name, kept in self.mask.items())
            self.mask = mask if equal else self.mask
        return mask is self.mask

    def _begin(self, step: Step) -> None:
        """Take a new mask; what an update has grown, unless it is nothing."""
        before, self.mask = self.mask, step.mask or {}
        grown = {name: self.mask[name] & ~kept for name, kept in before.items()}
        self.grown = grown if any(map(torch.any, grown.values())) else {}
        self.updated, self.taken = step.index, self.total
        if self.grown:
            self._tell(step, 0.0, 0.0)

    def _moved(self, chosen: Mask) -> float:
        """Mean |change| of chosen weights; 0 where there are none."""
        moves = [(self.weights[name].detach() - self.before[name])[kept].abs() for name, kept in chosen.items()]
        return float(torch.cat(moves).double().sum()) / max(1, sum(map(len, moves)))

    def _tell(self, step: Step, grown: float, old: float) -> None:
        with step.ledger.phase("cold start", aside=True):
            loss = evaluate(self.model, self.windows, self.data, OBJECTIVE)["loss"]
        row = (self.updated, self.taken, step.index - self.updated, grown, old, loss)
        for name, value in zip(TOLD, row, strict=True):
            self.told[name].append(value)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        kept = {name: masks.pack(mask) for name, mask in (("mask", self.mask), ("grown", self.grown)) if mask}
        return kept | {"updated": self.updated, "taken": self.taken, "total": self.total, "told": self.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.mask, self.grown = (
            masks.unpack(state[name], self.weights) if name in state else {} for name in ("mask", "grown")
        )
        self.updated, self.taken, self.total = (state[name] for name in ("updated", "taken", "total"))
        self.told = state["told"]


@dataclass(frozen=True)
class ColdStart(Sparse):
    """The same training to the bit, of which moves after updates are told; `ColdStart(**vars(sparse))` makes it.

    Unless `moments` of what grows are not to start at "zero", but from what is left of them ("kept", official code),
    or to be "corrected" by each weight's own steps (SMET). ParameterError for others.
    """

    moments: Moments = "zero"

    def __post_init__(self) -> None:
        if self.moments not in get_args(Moments):
            raise ParameterError(f"moments={self.moments!r} of what grows: give one of {', '.join(get_args(Moments))}")

    def __call__(self, task: Task) -> Trained:
        moves = Moves(task)
        found = super().__call__(_Watched(**vars(task), moves=moves, moments=self.moments))
        return replace(found, watched={f"cold/{name}": values for name, values in moves.told.items() if values})


@dataclass(frozen=True)
class _Watched(Task):
    """A task with more listeners."""

    moves: Moves | None = None
    moments: Moments = "zero"

    def fit(self, **options: Any) -> History:
        assert self.moves is not None  # a default is there because those before it have one
        early, late = (options.pop(name, ()) for name in ("before_step", "after_step"))
        if self.moments != "zero":
            early, late = STARTS[self.moments](self.moves.weights).around(early, late)
        more = {"before_step": [*early, self.moves.remember], "after_step": [*late, self.moves]}
        return super().fit(**options, **more)


def means(watched: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """`cold_start/STEPS/NAME`: over updates, the mean moves of `grown` and `old` weights and `loss` so long after one.

    Nothing where no moves were told.
    """
    found: dict[str, float] = {}
    since = watched.get("cold/since", ())
    for steps in sorted(set(since)):
        rows = [row for row, after in enumerate(since) if after == steps]
        for name in ("grown", "old", "loss") if steps else ("loss",):
            values = [watched[f"cold/{name}"][row] for row in rows]
            found[f"cold_start/{steps:g}/{name}"] = math.fsum(values) / len(values)
    return found
