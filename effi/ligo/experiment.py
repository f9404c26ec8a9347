"""What trains one arm of the comparison; the notebook chooses the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from effi.cost import Ledger
from effi.data import Opened, TextDataset
from effi.data.windows import drawn
from effi.errors import ParameterError
from effi.ligo.building import build, objective_of
from effi.ligo.masked import masked_corpus, most_passes
from effi.ligo.moments import Moments, flat, nested
from effi.ligo.outcome import curves, outcome
from effi.ligo.pieces import check_pair
from effi.ligo.recipes import Scratch
from effi.ligo.settings import Model, Settings
from effi.ligo.task import SOURCE, Data, Task, unwatched
from effi.ligo.trained import Trained
from effi.models.gpt import GPT
from effi.training.checkpoint import Kept

if TYPE_CHECKING:
    from effi.records import Arm, Name, Run
    from effi.records.artefacts import Artefacts


@dataclass
class Experiment:
    """What all arms share: data by name, as the settings of an arm name them, and the small models trained on them.

    `share` says where the weights of these lie, before any arm is trained. A dry run grows from what nobody trained.
    """

    opened: Mapping[str, Opened]
    # Not compared: nothing of these changes what an arm's function computes.
    dry_run: bool = field(default=False, init=False, compare=False)
    sources: Artefacts = field(init=False, repr=False, compare=False)

    def share(self, run: Run) -> None:
        """Keep small models beside the records of a run, until the source that trains them changes."""
        self.dry_run, self.sources = run.dry_run, run.artefacts(self.source)

    def check(self, arms: Mapping[Any, Settings]) -> None:
        """ParameterError, which names the arm, where its small model cannot grow into its large one."""
        fit: list[tuple[str, Model, Model]] = []  # a large pair takes seconds to make, and most arms share theirs
        for name, settings in arms.items():
            if settings.source is not None and settings.recipe.grows:
                pair = (settings.data["name"], settings.source.model, settings.model)
                if pair in fit:
                    continue
                data = self.data(settings, 0, copies=1)
                small, large = (build(each, data, 0) for each in (settings.source.model, settings.model))
                try:
                    check_pair(small, large)
                except ParameterError as error:
                    raise ParameterError(f"{name}: {error}") from None
                fit.append(pair)

    # --- arms: each trains one model, and records it -------------------------------------------------------------

    def train_source(self, arm: Arm) -> None:
        """Train a small model, and keep its weights for the arms that grow from it."""
        task = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        found = _trained(task, arm.settings)
        if not arm.dry_run:
            self.sources.keep(arm.settings, arm.seed, _kept(task, found))
            _record(arm, task, found)

    def train(self, arm: Arm) -> None:
        """Apply an arm's recipe to a new model, and record what became of it."""
        task = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        found = _trained(task, arm.settings)
        if not arm.dry_run:
            _record(arm, task, found)

    # --- what arms share -----------------------------------------------------------------------------------------

    def source(self, settings: Settings, seed: int) -> Kept:
        """Weights of a small model and what they cost, for arms that find no file of them."""
        task = self.task(settings, seed, Ledger(str(self.data(settings, seed).train.inputs.device)))
        return _kept(task, _trained(task, settings))

    # --- parts of these ------------------------------------------------------------------------------------------

    def task(self, settings: Settings, seed: int, ledger: Ledger, checkpoint: Path | None = None) -> Task:
        """The new model of an arm, the small one that it grows from, and what it is trained on."""
        data = self.data(settings, seed)
        small, facts, moments = self._small(settings, data, seed)
        if facts:
            with ledger.phase(SOURCE, aside=True):
                flops, paper_flops = round(facts["flops"]), round(facts["paper_flops"])
            ledger.charge(SOURCE, flops, facts["seconds"], paper_flops=paper_flops)
        of_depth = partial(build, settings.model, data, seed)
        own: dict[str, Any] = {"small": small, "source": facts, "moments": moments}
        own |= {"checkpoint": checkpoint, "transfer": settings.transfer}
        return Task(
            of_depth(None), data, settings.training, objective_of(data), seed, unwatched(ledger), of_depth, **own
        )

    def data(self, settings: Settings, seed: int, copies: int | None = None) -> Data:
        """A seed's examples; of a masked corpus as many copies as the training reads, unless fewer will do."""
        one: Data = self.opened[settings.data["name"]].of(seed)
        if not isinstance(one, TextDataset):
            return one
        own = drawn(one, settings.rows, seed)
        if settings.model.kind != "bert":
            return own
        passes = -(-settings.training.all_steps(len(own.train)) * settings.training.batch_size // len(own.train))
        fewer = 1 if self.dry_run else copies or most_passes(own)
        return masked_corpus(own, min(passes, fewer), seed=seed)

    def _small(
        self, settings: Settings, data: Data, seed: int
    ) -> tuple[nn.Module | None, Mapping[str, float], Moments]:
        """The trained small model of an arm that has one, what is known of it, and its optimiser's moments."""
        if settings.source is None or not settings.recipe.grows:
            return None, {}, {}
        small = build(settings.source.model, data, seed)
        if settings.source.checkpoint:
            cast(GPT, small).load_gpt2(settings.source.checkpoint)
            return small, {}, {}
        if self.dry_run:
            return small, {}, {}
        kept = self.sources.get(source_of(settings), seed)
        moments = nested(kept.tensors)
        small.load_state_dict({name: kept.tensors[name] for name in kept.tensors.keys() - flat(moments).keys()})
        return small, kept.facts, moments


def sources_of(arms: Mapping[Name, Settings]) -> dict[Name, Settings]:
    """The arms that train small models: "source", and "source-WORD" for those that differ, by the arm's last word."""
    found: dict[Name, Settings] = {}
    for name, settings in arms.items():
        if settings.recipe.grows and settings.source is not None and settings.source.training is not None:
            small = source_of(settings)
            beside = [own for each, own in found.items() if (each.dataset, each.model) == (name.dataset, name.model)]
            if small not in beside:
                word = f"source-{name.variant.rpartition('-')[2]}" if beside else "source"
                found[replace(name, variant=word)] = small
    return found


def source_of(settings: Settings) -> Settings:
    """The arm that trains the small model of another."""
    assert settings.source is not None and settings.source.training is not None
    small, training, transfer = settings.source.model, settings.source.training, settings.source.transfer
    return replace(settings, model=small, training=training, recipe=Scratch(), source=None, transfer=transfer)


def _trained(task: Task, settings: Settings) -> Trained:
    """What a recipe makes of a task's model, with its worth on other tasks."""
    found = settings.recipe(task)
    found.facts.update(task.transferred("transfer"))
    return found


def _kept(task: Task, found: Trained) -> Kept:
    """Weights, moments, and what growing models are told: cost, steps by kind, last scores, worth on other tasks."""
    facts = outcome(task, found).metrics
    scores = {name: facts[f"validation_{name}"] for name in ("loss", "accuracy")} | {"test_loss": facts["test_loss"]}
    ended = {name: values[-1] for name, values in found.history.curves.items()}
    cost = {"flops": ended["spent_flops"], "paper_flops": ended["spent_paper_flops"], "seconds": ended["seconds"]}
    steps = {name: value for name, value in ended.items() if name.startswith("steps/")}
    elsewhere = {name: value for name, value in found.facts.items() if name.startswith("transfer/")}
    weights = {name: value.detach().cpu().clone() for name, value in task.model.state_dict().items()}
    weights |= {name: value.cpu() for name, value in flat(found.moments).items()}
    return Kept(weights, scores | cost | steps | elsewhere)


def _record(arm: Arm, task: Task, found: Trained) -> None:
    worth = outcome(task, found)
    arm.record(worth.metrics, curves(found), worth.marks)
