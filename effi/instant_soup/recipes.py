"""What an arm does to a pretrained model: every method and control as settings that can be applied to a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isclose
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from torch import nn

from effi import masks
from effi.cost import Ledger
from effi.instant_soup.accounts import SEARCH
from effi.instant_soup.criteria import scores
from effi.instant_soup.denoise import Denoiser
from effi.instant_soup.early_bird import Watch, early_bird
from effi.instant_soup.gradual import cubic, progressive, prune_gradually
from effi.instant_soup.ingredients import Ingredients, model_soup
from effi.instant_soup.judge import Judge
from effi.instant_soup.lottery import Climb, lottery_rounds, lottery_ticket
from effi.instant_soup.noise import Noise
from effi.instant_soup.pruned import Pruned, Told, chosen, copied, looks
from effi.instant_soup.rounds import Rounds
from effi.instant_soup.soup import instant_soup
from effi.instant_soup.soups import fine_tunes, greedy_soup, lottery_pool
from effi.instant_soup.weak_nets import Data
from effi.masks import Mask, Scope
from effi.seeds import generator
from effi.training import History, Objective, Training, average, fit
from effi.training.evaluation import CLASSES
from effi.training.loop import PaperFlops

# What SNIP and GraSP look at.
RANKING: Mapping[str, Any] = {"batches": 4, "batch_size": 128}


@dataclass(frozen=True)
class Task:
    """A pretrained model, what it is trained on, and where its cost is booked; `metric` is what validation chooses by.

    `names` are the weights that may be pruned, None all prunable ones; `paper_flops` counts steps under a mask.
    """

    model: nn.Module
    data: Data
    training: Training
    seed: int
    ledger: Ledger
    objective: Objective = CLASSES
    metric: str = "accuracy"
    names: Sequence[str] | None = None
    paper_flops: PaperFlops | None = None
    checkpoint: Path | None = None

    @property
    def shared(self) -> dict[str, Any]:
        """Options that all methods take."""
        return {name: getattr(self, name) for name in ("seed", "ledger", "objective", "checkpoint")}

    @property
    def pruning(self) -> dict[str, Any]:
        """Options that all methods of pruning take."""
        return self.shared | {"names": self.names, "paper_flops": self.paper_flops}

    def fit(self, **options: Any) -> History:
        """Train the model."""
        own: dict[str, Any] = {"seeds": [self.seed], "ledger": self.ledger, "objective": self.objective}
        own |= {"paper_flops": self.paper_flops, "checkpoint": self.checkpoint}
        (history,) = fit(self.model, self.data, self.training, **own, **options)
        return history


class Recipe(Protocol):
    """Settings that can be applied."""

    def __call__(self, task: Task) -> Pruned:
        """Train the task's model and leave it with its last weights, which obey the mask."""


@dataclass(frozen=True)
class Soup:
    """Instant Soup Pruning; `fresh` as in `instant_soup`."""

    rounds: Rounds
    denoiser: Denoiser
    fresh: bool = False

    def __call__(self, task: Task) -> Pruned:
        return instant_soup(
            task.model, task.data, task.training, self.rounds, self.denoiser, fresh=self.fresh, **task.pruning
        )

    def check(self, training: Training, examples: int) -> None:
        """ParameterError where the rounds cannot reach their target in such a training."""
        steps = training.steps_of_epoch(examples), training.all_steps(examples)
        self.rounds.check(*steps, self.denoiser.left)

    def look_ahead(self, training: Training, examples: int) -> float:
        """Steps of the main training for as many examples as a round's weak nets take, whose batches may be smaller."""
        how = self.denoiser
        if how.gaussian is not None or not how.nets:
            return 0.0
        part, batch = ceil(cast(Noise, how.noise).fraction * examples), training.batch_size
        passes, rest = divmod(how.steps, training.steps_of_epoch(part))
        return how.nets * (passes * part + min(part, rest * batch)) / batch


@dataclass(frozen=True)
class Longer:
    """Another recipe with what `soup` looks ahead on top; a lottery's rounds take these steps and no others."""

    recipe: Recipe
    soup: Soup

    def __call__(self, task: Task) -> Pruned:
        """As long as a soup whose masks agree."""
        return self._extended(task, self.soup.rounds.asked(self.soup.denoiser.left))

    def beside(self, task: Task, told: Told) -> Pruned:
        """As long as the soup was."""
        return self._extended(task, looks(told))

    def _extended(self, task: Task, rounds: int) -> Pruned:
        steps = task.training.all_steps(len(task.data.train))
        more = round(rounds * self.soup.look_ahead(task.training, len(task.data.train)))
        if isinstance(self.recipe, Lottery):
            return replace(self.recipe, share=more / (steps * len(self.recipe.sparsities)))(task)
        return self.recipe(replace(task, training=replace(task.training, epochs=None, steps=steps + more)))


@dataclass(frozen=True)
class Paced:
    """Plain magnitude cuts at the pace that the soup had: the same steps, the same sparsities."""

    soup: Soup

    def __call__(self, task: Task) -> Pruned:
        """At the pace of masks that agree."""
        return replace(self.soup, denoiser=Denoiser(0))(task)

    def beside(self, task: Task, told: Told) -> Pruned:
        """At the soup's own."""
        plan = {int(step): after for step, after in zip(told["step"], told["after"], strict=True)}
        return prune_gradually(task.model, task.data, task.training, plan, **task.pruning)


@dataclass(frozen=True)
class Noisy:
    """The soup with normal noise in place of training, of the size by which its weak nets moved, mean over rounds."""

    soup: Soup

    def __call__(self, task: Task) -> Pruned:
        """With noise of a hundredth of the weights' own size."""
        return self._moved(task, 0.01)

    def beside(self, task: Task, told: Told) -> Pruned:
        """With noise of the size that the weak nets' training had."""
        sizes = [size for size in told["moved"] if size > 0]
        return self._moved(task, sum(sizes) / max(1, len(sizes)))

    def _moved(self, task: Task, size: float) -> Pruned:
        return replace(self.soup, denoiser=replace(self.soup.denoiser, gaussian=size))(task)


# Recipes that take their measure from what a soup told at the same seed.
Beside = Longer | Paced | Noisy


@dataclass(frozen=True)
class Dense:
    """Plain fine-tuning."""

    def __call__(self, task: Task) -> Pruned:
        return Pruned(task.fit(), {})


@dataclass(frozen=True)
class Cut:
    """One cut of the pretrained weights, then training: by magnitude (OMP), at random, or by gradients."""

    sparsity: float
    by: Literal["magnitude", "random", "snip", "grasp"] = "magnitude"
    scope: Scope = "global"

    def __call__(self, task: Task) -> Pruned:
        mask = self.mask(task)
        return Pruned(task.fit(mask=mask), mask, {"after": [self.sparsity]})

    def mask(self, task: Task) -> Mask:
        """The mask of a task's model before any training."""
        weights = chosen(task.model, task.names)
        if self.by == "magnitude":
            return masks.magnitude(weights, self.sparsity, scope=self.scope)
        if self.by == "random":
            stream = generator(task.seed, "random mask")
            return masks.random(weights, self.sparsity, scope=self.scope, generator=stream)
        own: dict[str, Any] = {"seed": task.seed, "ledger": task.ledger, "objective": task.objective}
        ranks = scores(task.model, task.data, self.by, names=task.names, **RANKING, **own)
        return masks.smallest(ranks, self.sparsity, scope=self.scope)


@dataclass(frozen=True)
class Gradual:
    """Magnitude cuts on the way: `points` more after each `every` epochs, or a cubic plan that ends at `stage`.

    The cubic plan cuts every `every` epochs.
    """

    sparsity: float
    plan: Literal["progressive", "cubic"] = "cubic"
    every: float = 0.1
    points: float = 0.1
    stage: float = 0.75

    def __call__(self, task: Task) -> Pruned:
        return prune_gradually(task.model, task.data, task.training, self.steps(task), **task.pruning)

    def steps(self, task: Task) -> dict[int, float]:
        """Step -> sparsity."""
        examples = len(task.data.train)
        every = max(1, round(self.every * task.training.steps_of_epoch(examples)))
        if self.plan == "progressive":
            return progressive(Rounds(self.sparsity, self.points, relative=False), every)
        return cubic(self.sparsity, max(1, int(self.stage * task.training.all_steps(examples))), every)


@dataclass(frozen=True)
class Lottery:
    """Iterative magnitude pruning, `points` a round; `rewind` is a share of an epoch, one step at least, None never.

    Rounds are trained for `share` of the training, as a share of its steps.
    """

    sparsity: float
    points: float = 0.1
    rewind: float | None = 0.0
    share: float = 1.0
    scope: Scope = "global"

    def __call__(self, task: Task) -> Pruned:
        return self.drawn(task)[0]

    def drawn(self, task: Task) -> tuple[Pruned, Climb]:
        """The trained ticket, and the rounds that lead to it."""
        options = self.options(task) | task.pruning
        pruned, _, climb = lottery_ticket(task.model, task.data, task.training, self.sparsities, **options)
        return pruned, climb

    def rounds(self, task: Task) -> Climb:
        """The rounds alone."""
        options = self.options(task) | task.pruning
        training = options.pop("search") or task.training
        return lottery_rounds(task.model, task.data, training, self.sparsities, **options)

    @property
    def sparsities(self) -> list[float]:
        """Those of all rounds."""
        return Rounds(self.sparsity, self.points, relative=False).ladder()

    def at(self, sparsity: float) -> Lottery | Rung:
        """The ticket of another sparsity, which shares the rounds of this one where it lies on its way."""
        other = replace(self, sparsity=sparsity)
        own = self.sparsities[: len(other.sparsities)]
        shared = sparsity < self.sparsity and self.rewind is not None and all(map(isclose, own, other.sparsities))
        return Rung(sparsity, self) if shared else other

    def options(self, task: Task) -> dict[str, Any]:
        """Where weights go back to, and how rounds are trained."""
        examples = len(task.data.train)
        per_epoch, steps = task.training.steps_of_epoch(examples), task.training.all_steps(examples)
        rewind = self.rewind and max(1, round(self.rewind * per_epoch))
        shorter = replace(task.training, epochs=None, steps=max(1, round(self.share * steps)))
        return {"rewind": rewind, "search": None if self.share == 1 else shorter, "scope": self.scope}


@dataclass(frozen=True)
class Rung:
    """A lower sparsity on the way of a lottery: its rounds are charged here too, and trained once for all tickets."""

    sparsity: float
    lottery: Lottery

    def __call__(self, task: Task) -> Pruned:
        """With rounds of its own."""
        return replace(self.lottery, sparsity=self.sparsity)(task)

    def beside(self, task: Task, climb: Climb) -> Pruned:
        """With the lottery's rounds."""
        mask = self.charged_mask(task, climb)
        if climb.early:
            task.model.load_state_dict(climb.early)
        return Pruned(task.fit(mask=mask), mask, {"after": self.lottery.sparsities[: self._rounds]})

    def charged_mask(self, task: Task, climb: Climb) -> Mask:
        """The lottery's mask of this sparsity; the task is charged for the search that found it."""
        task.ledger.charge(SEARCH, **climb.spent[self._rounds - 1])
        return climb.masks[self._rounds - 1]

    @property
    def _rounds(self) -> int:
        return len(replace(self.lottery, sparsity=self.sparsity).sparsities)


@dataclass(frozen=True)
class Pool:
    """Lottery Pools over the networks of all rounds of iterative magnitude pruning."""

    lottery: Lottery

    def __call__(self, task: Task) -> Pruned:
        lottery, options = self.lottery, self.lottery.options(task) | task.pruning | {"keep": True}
        pruned, networks, _ = lottery_ticket(task.model, task.data, task.training, lottery.sparsities, **options)
        if task.ledger.dry_run:
            return pruned
        judge = Judge(task.data, task.ledger, task.objective, task.metric)
        with task.ledger.phase(SEARCH):
            mask, shares = lottery_pool(task.model, networks, lottery.sparsity, judge, scope=lottery.scope)
        _mixed(pruned.history, task.model)
        return Pruned(pruned.history, mask, pruned.told | {"share": shares})


@dataclass(frozen=True)
class EarlyBird:
    """The early-bird ticket at a sparsity."""

    sparsity: float
    watch: Watch = field(default_factory=Watch)

    def __call__(self, task: Task) -> Pruned:
        return early_bird(task.model, task.data, task.training, self.sparsity, self.watch, **task.pruning)


@dataclass(frozen=True)
class Averaged:
    """A soup of `count` whole fine-tunes: of all ("uniform"), or of those that validation wants ("greedy")."""

    kind: Literal["uniform", "greedy"]
    count: int = 8
    noise: Noise = field(default_factory=Noise)

    def __call__(self, task: Task) -> Pruned:
        """The last of the fine-tunes is the arm's own training; the others are charged as "search"."""
        others = fine_tunes(task.model, task.data, task.training, count=self.count - 1, noise=self.noise, **task.shared)
        history = task.fit()
        if not task.ledger.dry_run:
            states = [*others, {name: value.clone() for name, value in task.model.state_dict().items()}]
            self._mix(task, states)
            _mixed(history, task.model)
        return Pruned(history, {})

    def _mix(self, task: Task, states: Sequence[dict[str, Any]]) -> None:
        if self.kind == "uniform":
            task.model.load_state_dict(average(states))
            return
        with task.ledger.phase(SEARCH):
            greedy_soup(task.model, states, Judge(task.data, task.ledger, task.objective, task.metric))


def _mixed(history: History, model: nn.Module) -> None:
    """What was mixed after the training has no better epoch behind it."""
    history.best_state = copied(model)


@dataclass(frozen=True)
class Mixed:
    """Instant Model Soup."""

    ingredients: Ingredients

    def __call__(self, task: Task) -> Pruned:
        souped = model_soup(
            task.model, task.data, task.training, self.ingredients, metric=task.metric, names=task.names, **task.shared
        )
        return Pruned(souped.history, {}, souped.told)
