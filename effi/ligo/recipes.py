"""How a large model begins: anew, by a rule from a small one, or by the learned growth operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from effi.errors import ParameterError
from effi.ligo.flops import growth_step
from effi.ligo.moments import Last, Moments, grow_moments
from effi.ligo.operator import Growth, GrowthOperator
from effi.ligo.pieces import place
from effi.ligo.rivals import RIVALS
from effi.ligo.task import GROWTH, Task, growing
from effi.ligo.thrift import Thrift
from effi.ligo.trained import Trained, ordinary
from effi.ligo.tuning import Grown, export
from effi.spec.options import choose
from effi.training import Group, Training

# Names of the operator's depth weights, which learn at a rate of their own.
DEPTH = "*depth*"


@dataclass(frozen=True)
class Scratch:
    """Ordinary training of new weights."""

    grows: ClassVar[bool] = False

    def __call__(self, task: Task) -> Trained:
        history = ordinary(task, last=(last := Last()))
        return Trained(history, moments=last.found)


@dataclass(frozen=True)
class Rival:
    """The large model begins with what a rule without learning makes of the small one's weights.

    ParameterError for a name that is not among RIVALS.
    """

    grows: ClassVar[bool] = True
    name: str

    def __post_init__(self) -> None:
        choose("rival", self.name, RIVALS)

    def __call__(self, task: Task) -> Trained:
        with task.ledger.phase(GROWTH):
            place(task.model, RIVALS[self.name](task.need_small(), task.model, task.seed))
        return Trained(ordinary(task))


@dataclass(frozen=True)
class Ligo:
    """The operator is learned for so many `steps` on the task's loss, the small weights frozen; then all is trained.

    `operator` is what is learned, its seed that of the task. `lr` is the highest rate of width maps, `depth_lr` that of
    depth weights; it rises over `warmup`, as of Training, and falls to 0. With 0 steps the operator stays as it begins.
    With `moments` the optimiser's moments are grown, too (`effi.ligo.moments`). ParameterError for fewer steps, and for
    a small model without moments.
    """

    grows: ClassVar[bool] = True
    steps: int = 100
    lr: float = 1e-3
    depth_lr: float = 1e-2
    warmup: float = 10
    operator: Growth = field(default_factory=Growth)
    thrift: Thrift | None = None
    moments: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ParameterError(f"steps={self.steps} of growth: give 0 or more")
        if self.moments and self.thrift:
            raise ParameterError("moments=True does not go with what leaves out parts of a step: give thrift=None")

    def __call__(self, task: Task) -> Trained:
        with task.ledger.phase(GROWTH):
            operator = GrowthOperator(task.need_small(), task.model, **asdict(replace(self.operator, seed=task.seed)))
        begun, kind = depths(operator, "depth_initial"), self.kind(task)
        if self.steps:
            self._learn(task, operator, kind)
        with task.ledger.phase(GROWTH):
            export(operator, task.model)
        facts = {f"moved/{name}": value for name, value in operator.moved().items()}
        facts["operator_parameters"] = sum(each.numel() for each in operator.parameters())
        facts |= task.transferred("grown_transfer")
        history = ordinary(task, self.thrift, self._moments(task, operator))
        if self.steps:
            history.curves[f"steps/{kind}"] = [self.steps] * len(history.curves["spent_flops"])
        return Trained(history, facts, begun | depths(operator, "depth"))

    def _moments(self, task: Task, operator: GrowthOperator) -> Moments:
        """The small model's moments, grown; a dry run has none."""
        if not self.moments or task.ledger.dry_run:
            return {}
        if not task.moments:
            raise ParameterError("moments=True grows those of Adam, and the small model has none: train it with adamw")
        with task.ledger.phase(GROWTH):
            return grow_moments(operator, task.need_small(), task.moments)

    def kind(self, task: Task) -> str:
        """What steps of growth are called: the two models, and options of the operator that change what it computes."""
        usual, own = asdict(Growth()), asdict(self.operator)
        words = [f"{name}_{own[name]}" for name in ("share", "full", "tie", "head") if own[name] != usual[name]]
        return "-".join([task.kind(task.model), "from", task.kind(task.need_small()), *words])

    def _learn(self, task: Task, operator: GrowthOperator, kind: str) -> None:
        """Train the operator on the task's own batches."""
        small, large = task.sizes(task.need_small()), task.sizes(task.model)
        paper_step = growth_step(small, large, task.training.batch_size)
        with growing(task.ledger) as ledger:
            model, training = Grown(operator, task.model), self.training(task.training)
            task.fit(model, training, kind=kind, paper_step=paper_step, name=GROWTH, ledger=ledger)

    def training(self, main: Training) -> Training:
        """How the operator is trained beside a training: on its batches, with its clip and decay, at rates of its own.

        All coefficients decay, as in the official code.
        """
        depth_weights = (Group(DEPTH, lr=self.depth_lr, weight_decay=main.weight_decay),)
        groups = depth_weights if self.operator.tune_depth else ()
        own: dict[str, Any] = {"lr": self.lr, "warmup": self.warmup, "schedule": "linear", "floor": 0.0}
        own |= {"epochs": None, "steps": self.steps, "eval_every": f"{self.steps} steps"}
        return replace(main, groups=groups, **own)


def depths(operator: GrowthOperator, kind: str) -> dict[str, list[float]]:
    """Depth weights of each role, row by row, as "KIND/ROLE"."""
    found = operator.depth_weights().items()
    return {f"{kind}/{role}": weights.detach().flatten().tolist() for role, weights in found}
