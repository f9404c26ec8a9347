"""Seconds of a step of every kind, timed one after another with nothing beside them, for savings by the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from torch import nn

from effi.cost import Ledger, measure
from effi.ligo.experiment import Experiment
from effi.ligo.settings import Settings
from effi.ligo.task import Task
from effi.training import History, Objective, Training, stepper

if TYPE_CHECKING:
    from effi.records import Name

Step = Callable[[], object]


@dataclass(frozen=True)
class Clocked(Task):
    """A task that trains nothing, and keeps what makes a step of each kind that its recipe asks for."""

    steps_of: dict[str, Step] = field(default_factory=dict)

    def fit(
        self,
        model: nn.Module,
        training: Training | None = None,
        *,
        kind: str,
        objective: Objective | None = None,
        **rest: Any,
    ) -> History:
        """Keep a step of the model."""
        if kind not in self.steps_of:
            how: dict[str, Any] = {"objective": objective or self.objective, "seed": self.seed}
            self.steps_of[kind] = stepper(model, self.data, training or self.training, **how)
        return History(self.seed, {"spent_flops": []})


def step_seconds(
    work: Experiment, arms: Mapping[Name, Settings], *, seed: int, steps: int, budget_s: float
) -> dict[str, float]:
    """`step_seconds/DATASET/MODEL/KIND`: median seconds of a step of every kind that the arms make.

    All kinds are timed in every one of `steps` rounds, as far as `budget_s` goes; a first one of each does not count.
    """
    found: dict[str, dict[str, Step]] = {}
    for name, settings in arms.items():
        task = work.task(settings, seed, Ledger(dry_run=True))
        own = found.setdefault(f"{name.dataset}/{name.model}", {})
        settings.recipe(Clocked(**vars(task), steps_of=own))
    every = {f"step_seconds/{group}/{kind}": step for group, own in found.items() for kind, step in own.items()}
    return {name: median(seconds) for name, seconds in measure(every, repeats=steps, budget_s=budget_s).items()}
