"""Knowledge inheritance (Qin et al. 2022): the large model learns from the small one, too, at first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.ligo.clock import Clock
from effi.ligo.task import Task
from effi.ligo.trained import Trained, before, begun
from effi.training import Objective


@dataclass(frozen=True)
class Distilled:
    """Training of new weights on (1 - a) task + a KL(teacher, student), the small model being the teacher.

    a falls from `first` on a line to 0 at the share `until` of the steps. ParameterError for values outside (0, 1].
    """

    grows: ClassVar[bool] = True
    first: float = 1.0
    until: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("first", self.first), ("until", self.until)):
            if not 0 < value <= 1:
                raise ParameterError(f"{name}={value:g} of knowledge inheritance: give more than 0 and at most 1")

    def __call__(self, task: Task) -> Trained:
        clock, teacher = Clock(), task.need_small()
        first, taught = before(task, task.model), Taught(task.model, teacher)
        objective = Inheritance(task.objective, taught, self, clock)
        paper_step = task.paper_step(task.model) + task.paper_step(teacher) // 2
        how: dict[str, Any] = {"objective": objective, "after_step": [clock]}
        history = task.fit(taught, kind=f"{task.kind(task.model)}-taught", paper_step=paper_step, **how)
        return Trained(begun(history, first))

    def share(self, passed: float) -> float:
        """a, once so much of the training has passed."""
        return self.first * max(0.0, 1 - passed / self.until)


class Taught(nn.Module):
    """A student whose outputs are followed, in training, by those of a teacher that rests: (..., C) or (..., 2 C)."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        # A list hides it from parameters(): it is not trained, and no checkpoint need keep it.
        self.teacher = [teacher.eval()]

    def forward(self, x_B: Tensor) -> Tensor:
        own: Tensor = self.student(x_B)
        if not self.training:
            return own
        with torch.no_grad():
            theirs: Tensor = self.teacher[0](x_B)
        return torch.cat([own, theirs], -1)

    def forward_flops(self, *size: int) -> dict[str, int]:
        """FLOPs of the student's forward by part."""
        return cast(Any, self.student).forward_flops(*size)

    def train_flops(self, *size: int) -> int:
        """FLOPs of the student's forward and backward, and of the teacher's forward."""
        teacher = cast(Any, self.teacher[0]).forward_flops(*size)
        return cast(Any, self.student).train_flops(*size) + sum(teacher.values())


class Inheritance:
    """An objective of the student's outputs, in training mixed with their divergence from the teacher's."""

    whole: ClassVar[bool] = False
    steady: ClassVar[bool] = False  # a step that is replayed would keep the teacher's share

    def __init__(self, task: Objective, taught: Taught, how: Distilled, clock: Clock) -> None:
        self.task, self.taught, self.how, self.clock = task, taught, how, clock
        self.per_token = task.per_token

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each label; 0 where one does not count."""
        own, theirs = self._parted(outputs)
        losses, share = self.task.losses(own, labels), self.how.share(self.clock.passed)
        if theirs is None or not share:
            return losses
        chances, wanted = own.log_softmax(-1), theirs.log_softmax(-1)
        divergence = (wanted.exp() * (wanted - chances)).sum(-1) * self.counted(labels)
        return (1 - share) * losses + share * divergence

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Which labels the student meets."""
        return self.task.hits(self._parted(outputs)[0], labels)

    def counted(self, labels: Tensor) -> Tensor:
        """Which labels count for the task."""
        return self.task.counted(labels)

    def _parted(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.taught.training:
            return outputs, None
        own, theirs = outputs.chunk(2, -1)
        return own, theirs

    def __repr__(self) -> str:
        return f"Inheritance({self.task!r}, {self.how!r})"
