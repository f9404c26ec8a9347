"""What an arm does: the method, its parts left out, and what it is compared with, as settings applied to a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from effi.cost import Ledger
from effi.data import Examples, TextDataset
from effi.errors import ParameterError
from effi.masks import Mask
from effi.mixed_sparsity.attending import Attending
from effi.mixed_sparsity.blocks import Norm, check_parting
from effi.mixed_sparsity.course import Course, head_of, size_of
from effi.mixed_sparsity.densities import erdos_renyi, uniform
from effi.mixed_sparsity.evolution import Evolution, is_settled
from effi.mixed_sparsity.flops import Accounting, Free, GPTSize, solve
from effi.mixed_sparsity.listener import Distribution, First, MixedSparsity
from effi.mixed_sparsity.positions import HeadSplit, Pattern
from effi.mixed_sparsity.schedule import Phase, Phases
from effi.models.gpt import GPT
from effi.training import History, LanguageModelling, Step, Training, fit

OBJECTIVE = LanguageModelling()
SHARES = [(place + 0.5) / 1000 for place in range(1000)]  # of a training, for sums over it
ROUNDS = 10  # of solving for a FLOP ratio, as how long connections move hangs on the phases, too
DISTRIBUTIONS: dict[str, Distribution] = {"erdos_renyi": erdos_renyi, "uniform": uniform}


@dataclass(frozen=True)
class Task:
    """A new model, the text that it is trained on, and where its cost is booked; `names` are what may be pruned.

    FLOP ratios are of a dense training of a model of the `reference` size. `others` are windows of corpora by name that
    the trained model is to predict.
    """

    model: GPT
    data: TextDataset
    training: Training
    seed: int
    ledger: Ledger
    names: Sequence[str]
    reference: GPTSize
    checkpoint: Path | None = None
    others: Mapping[str, Examples] = field(default_factory=dict)

    @property
    def size(self) -> GPTSize:
        """Sizes of the model, and the tokens that it reads."""
        return size_of(self.model, self.data.train.inputs.shape[1])

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.training.all_steps(len(self.data.train))

    def fit(self, **options: Any) -> History:
        """Train the model."""
        own: dict[str, Any] = {"seeds": [self.seed], "ledger": self.ledger, "checkpoint": self.checkpoint}
        (history,) = fit(self.model, self.data, self.training, objective=OBJECTIVE, **own, **options)
        return history


@dataclass(frozen=True)
class Trained:
    """The history of a training, how it went, the mask that its weights obey, and what is told of each mask before.

    The model has its last weights, and attends as in its last step. `watched` are more curves, of its listeners.
    """

    history: History
    course: Course
    mask: Mask = field(default_factory=dict)
    told: dict[str, list[float]] = field(default_factory=dict)
    watched: dict[str, list[float]] = field(default_factory=dict)


class Recipe(Protocol):
    """Settings that can be applied."""

    def __call__(self, task: Task) -> Trained:
        """Train the task's model and leave it with its last weights."""


@dataclass(frozen=True)
class Dense:
    """Plain training on a `share` of the tokens, in which the rate's whole schedule passes.

    ParameterError for a share outside (0, 1].
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ParameterError(f"share={self.share:g} of the tokens: give more than 0 and at most 1")

    def __call__(self, task: Task) -> Trained:
        steps = max(1, round(self.share * task.steps))
        shorter = replace(task, training=replace(task.training, epochs=None, steps=steps))
        return Trained(shorter.fit(), Course(task.size, steps))


@dataclass(frozen=True)
class Sparse:
    """Training under masks that follow `phases` in how much they prune, a distribution in where, an evolution in what.

    `first` is the mask before the first step. Attention follows a pattern in the phases `within`, and sees all earlier
    tokens in the others; without a pattern it always does. With `blocks`, squares of so many weights a side live or die
    together, ranked by a `norm`, and layers of the model come to multiply by live blocks alone.
    """

    phases: Phases
    evolution: Evolution = field(default_factory=Evolution)
    distribution: Literal["erdos_renyi", "uniform"] = "erdos_renyi"
    first: First = "random"
    attention: Pattern | HeadSplit | None = None
    within: tuple[Phase, ...] = ("warm-up", "ultra")
    blocks: int | None = None
    norm: Norm = "l1"

    def __call__(self, task: Task) -> Trained:
        method, course = self.prepared(task)
        options = method.arguments()
        if self.attention is not None:
            attending = Attending(task.model, self.phases, self.attention, self.within)
            options["after_step"] = [*options["after_step"], attending]
        history = task.fit(**options, paper_flops=_Count(task, course, method))
        return Trained(history, course, method.mask, method.told)

    def prepared(self, task: Task) -> tuple[MixedSparsity, Course]:
        """The method as a listener, and how the training will go."""
        where, how = DISTRIBUTIONS[self.distribution], self.carried_out()
        own: dict[str, Any] = {"first": self.first, "blocks": self.blocks, "norm": self.norm}
        method = MixedSparsity(task.model, self.phases, where, how, names=task.names, seed=task.seed, **own)
        weights = {name: weight.numel() for name, weight in method.weights.items()}
        attention = self.densities(task.size.tokens)
        head, gradients = head_of(task.model), how.sees_gradients
        return method, Course(task.size, task.steps, self.phases, weights, head, attention, gradients)

    def carried_out(self) -> Evolution:
        """The evolution as it is carried out: once all weights are back none is dropped, which would cost a step."""
        if self.phases.end or not self.phases.restoration:
            return self.evolution
        return replace(self.evolution, until=min(self.evolution.until, self.phases.settled()))

    def densities(self, tokens: int) -> dict[Phase, float]:
        """By phase with a sparse attention, its share of all T^2 pairs in texts of so many tokens."""
        return {} if self.attention is None else dict.fromkeys(self.within, self.attention.density(tokens).square)

    def ratio(self, accounting: Accounting) -> float:
        """FLOPs of a training of many steps over those of the dense one.

        A training of T steps with an update in DT of them differs by O(DT / T), as each step has the sparsity of the
        last update; least where a schedule starts and ends at the same sparsity.
        """
        return self._counted(accounting).ratio(self.phases, self.densities(accounting.size.tokens))

    def at(self, ratio: float, accounting: Accounting, *, by: Free = "ultra") -> Sparse:
        """The same with its phases solved for a FLOP ratio, which is that of `ratio`; see `solve`."""
        found, attention = self, self.densities(accounting.size.tokens)
        for _ in range(ROUNDS):
            phases = solve(found._counted(accounting), found.phases, ratio, attention, by=by)
            found = replace(found, phases=phases)
        return found

    def check(self, steps: int, tokens: int, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        """ParameterError where a training of so many steps never trains at the schedule's last sparsity.

        An update comes after each `every` steps, and what one at the very end revives stays zero. Also where texts are
        shorter than a window of the attention, and where matrices of these shapes do not part into blocks.
        """
        if self.blocks is not None:
            for name, shape in (shapes or {}).items():
                check_parting(name, shape, self.blocks)
        if self.attention is not None:
            self.attention.check(tokens)
        every = self.evolution.every
        last, end = (steps - 1) // every * every, self.phases.sparsity(1.0)
        if not is_settled(found := self.phases.sparsity(last / steps), end):
            raise ParameterError(
                f"the last update before step {steps:,} comes after step {last:,}, at a sparsity of {found:.3g}, and "
                f"nothing is trained at {end:g}, where the schedule ends: update more often (every={every}), or let "
                "the end come sooner (settle, stairs)"
            )

    def _counted(self, accounting: Accounting) -> Accounting:
        """The accounting of steps that make dense gradients as often as this does, and at such a sparsity."""
        how, sparsities = self.carried_out(), [self.phases.sparsity(share) for share in SHARES]
        updating = (each for share, each in zip(SHARES, sparsities, strict=True) if self._updating(how, share))
        there, all_of_it = sum(updating), sum(sparsities)
        if not (there and how.sees_gradients):
            return replace(accounting, dense_every=None)
        return replace(accounting, dense_every=how.every * all_of_it / there - 1)

    def _updating(self, how: Evolution, share: float) -> bool:
        """Whether updates at a share of the training change the mask."""
        ramp = self.phases.phase(share) != "ultra"
        return (how.drop > 0 and share < how.until) or (ramp and share < self.phases.settled())


class _Count:
    """FLOPs of a step that counts kept weights and pairs alone, by the paper's rule, for `fit(paper_flops=...)`."""

    def __init__(self, task: Task, course: Course, method: MixedSparsity) -> None:
        self.model, self.course, self.method = task.model, course, method
        self.accounting = Accounting(course.size)
        self.dense = sum(self.accounting.flops().values())

    def __call__(self, step: Step, executed: int) -> int:
        """FLOPs of a step whose dense kernels executed so many."""
        updating = self.course.gradients and self.method.due(step)
        stretch = self.course.span(self.method.told, step.index, gradients=updating).stretch
        share = sum(self.accounting.realised([stretch]).values())
        length = self.course.size.tokens
        tokens = executed * length / self.model.train_flops(1, length)
        return round(tokens * self.dense * share)


# --- the method and its controls -----------------------------------------------------------------------------

PHASES = Phases(0.8, warmup=0.1, restoration=0.1, settle=0.2)
STILL = Evolution(drop=0.0, mix=0.0, order="after")


def mst(every: int, attention: Pattern | HeadSplit | None, phases: Phases = PHASES, **how: Any) -> Sparse:
    """Mixed Sparsity Training with an update after each `every` steps; `how` are more options of its evolution."""
    return Sparse(phases, Evolution(every, **how), attention=attention)


def static(sparsity: float) -> Sparse:
    """One random mask for the whole training."""
    return Sparse(Phases(sparsity, 0, 0), STILL)


def evolutionary(sparsity: float, every: int) -> Sparse:
    """SET: growth at random, after the optimiser's step; the drop fraction falls as everywhere here."""
    return Sparse(Phases(sparsity, 0, 0), Evolution(every, mix=0.0, order="after"))


def rigl(sparsity: float, every: int) -> Sparse:
    """RigL: growth by gradient in place of a step, until three quarters of the training."""
    return Sparse(Phases(sparsity, 0, 0), Evolution(every, mix=math.inf, until=0.75))


def static_then_dense(sparsity: float, dense: float = 0.1) -> Sparse:
    """SPDF: one random mask, then all weights for the last share of the training."""
    return Sparse(Phases(sparsity, 0, dense, stairs=1), replace(STILL, every=1))


def gradual(sparsity: float, every: int, warmup: float = 0.1) -> Sparse:
    """Gradual magnitude pruning (Zhu and Gupta 2017): the cubic warm-up alone, in which nothing grows."""
    return Sparse(Phases(sparsity, warmup, 0), replace(STILL, every=every))
