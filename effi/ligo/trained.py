"""What every arm ends with: a training of the large model, its curves from before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import nn

from effi.axes import depth
from effi.ligo.clock import Clock
from effi.ligo.moments import Inherited, Last, Moments
from effi.ligo.task import Task
from effi.ligo.thrift import Thrift, Thrifty
from effi.training import History


@dataclass(frozen=True)
class Trained:
    """The history of an arm's training, numbers about its growth, curves that figures need, and moments of Adam's end.

    The task's model has its last weights. The first point of the history is the model before its first step.
    """

    history: History
    facts: dict[str, float] = field(default_factory=dict)
    drawn: dict[str, list[float]] = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)


class Recipe(Protocol):
    """Settings that can be applied; `grows` says whether they want a trained small model, which is then paid for."""

    grows: ClassVar[bool]

    def __call__(self, task: Task) -> Trained:
        """Train the task's model and leave it with its last weights."""


def ordinary(
    task: Task, thrift: Thrift | None = None, moments: Moments | None = None, last: Last | None = None
) -> History:
    """Train the task's model by its settings, with what a rule leaves out of each step.

    Adam begins with `moments`, if there are any, and `last` takes those of its end.
    """
    first, clock = before(task, task.model), Clock()
    model, kind = task.model, task.kind(task.model)
    if thrift is not None:
        model, kind = Thrifty(model, stack(model), thrift, clock), f"{kind}-{type(thrift).__name__}"
    history = task.fit(
        model,
        kind=kind,
        paper_step=task.paper_step(task.model),
        before_step=[Inherited(moments)] if moments else [],
        after_step=[clock, last] if last else [clock],
    )
    return begun(history, first)


def before(task: Task, model: nn.Module) -> dict[str, float]:
    """Scores of a model before its first step, and what was paid until then; nothing in a dry run."""
    if task.ledger.dry_run:
        return {}
    scores, spent = task.stand(model), task.spent()
    seconds = sum(phase.seconds for phase in task.ledger.phases.values() if not phase.aside)
    paid = {"flops": spent.flops, "spent_flops": spent.flops, "spent_paper_flops": spent.paper_flops}
    return {**scores, **paid, "step": 0, "seconds": seconds}


def begun(history: History, first: Mapping[str, float]) -> History:
    """A history with a point at its beginning, unless there is none; steps of each kind are 0 there."""
    if first:
        history.curves = {name: [first.get(name, 0), *values] for name, values in history.curves.items()}
    return history


def joined(histories: Sequence[History]) -> History:
    """Histories of one training after the other as one, which ends as the last does; counts of steps go on."""
    curves: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for history in histories for name in history.curves):
        curves[name], so_far = [], 0.0
        for history in histories:
            own = history.curves.get(name, [0.0] * len(history.curves["spent_flops"]))
            curves[name] += [so_far + value for value in own]
            so_far = curves[name][-1] if own and name.startswith("step") else 0.0
    histories[-1].curves = curves
    return histories[-1]


def stack(model: nn.Module) -> str:
    """Path of the model's only stack of layers."""
    (path,) = depth(model)
    return path
