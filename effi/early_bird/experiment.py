"""What trains one arm of the comparison; the notebook chooses the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from effi import axes, data, masks
from effi.cost import Ledger, train_flops
from effi.data import Opened, TextDataset
from effi.early_bird import removal
from effi.early_bird.building import Data, build, build_language_model
from effi.early_bird.criteria import scores
from effi.early_bird.outcome import outcome
from effi.early_bird.search import Found, Search, reading
from effi.early_bird.settings import Pretraining, Settings
from effi.early_bird.structured import kept_share
from effi.early_bird.ticket import Ticket, exact
from effi.masks import Mask, Scope
from effi.models import language
from effi.training import History, LanguageModelling, Training, fit
from effi.training.checkpoint import Kept

if TYPE_CHECKING:
    from effi.records import Arm, Run
    from effi.records.artefacts import Artefacts

Facts = Mapping[str, float]
Curves = Mapping[str, list[float]]
# What gradient criteria look at.
RANKING = {"batches": 4, "batch_size": 128}


@dataclass
class Experiment:
    """What all arms share: data by group, and beside the records pretrained weights and what searches found.

    A seed is trained on its own draw of the data. `share` says where the files lie, before any arm is trained. A dry
    run starts from weights that nobody pretrained.
    """

    opened: Mapping[str, Opened]
    # Not compared: nothing of these changes what an arm's function computes.
    dry_run: bool = field(default=False, init=False, compare=False)
    pretrained: Artefacts = field(init=False, repr=False, compare=False)
    searched: Artefacts = field(init=False, repr=False, compare=False)

    def share(self, run: Run) -> None:
        """Keep what arms share beside the records of a run, until the source that makes it changes."""
        self.dry_run = run.dry_run
        self.pretrained, self.searched = run.artefacts(self.pretrain), run.artefacts(self.search)

    # --- arms: each trains one model, and records it -------------------------------------------------------------

    def train_pretraining(self, arm: Arm) -> None:
        """Pretrain a language model, and keep its weights for the other arms."""
        network, history = self._pretrain(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        if not arm.dry_run:
            kept = _backbone(network, history)
            self.pretrained.keep(arm.settings, arm.seed, kept)
            losses = {"validation_loss": kept.facts["loss"], "train_loss": history.curves["train_loss"][-1]}
            arm.record(losses, history.curves)

    def train_dense(self, arm: Arm) -> None:
        """The baseline, with the search looking on; tickets pay for that, the baseline does not."""
        settings = arm.settings
        model, history, look = self._watch(settings, arm.seed, arm.ledger, arm.checkpoint)
        if not arm.dry_run:
            metrics, curves, kept = _read(settings, look, arm.ledger)
            if arm.variant == "dense":
                self.searched.keep(settings, arm.seed, kept)
            rates = {"learning_rate": _rates(settings, self._steps(settings))}
            self._record(arm, model, history, metrics, history.curves | curves | rates)

    def train_control(self, arm: Arm) -> None:
        """A dense model that nobody watches; one that is to be as long as tickets gets their search's epochs on top."""
        settings, schedule = arm.settings, arm.settings.training
        if settings.as_long_as and not arm.dry_run:
            extra = epochs_of_search(self.searched.get(settings.dense, arm.seed).facts, settings)
            schedule = replace(schedule, epochs=settings.epochs + extra)
        model = self.build(settings, arm.seed)
        history = self._fit(arm, model, schedule)
        if not arm.dry_run:
            self._record(arm, model, history, {}, history.curves)

    def train_ticket(self, arm: Arm) -> None:
        """Draw a ticket, pay for its search, and train it with the mask held; without a draw there is no ticket."""
        wanted, model = arm.settings.ticket, self.build(arm.settings, arm.seed)
        if arm.dry_run:
            self._fit(arm, model, mask=masks.magnitude(masks.prunable(model), wanted.ratio))
            return
        tensors, facts = self.searched.get(arm.settings.dense, arm.seed)
        found, at = Found(tensors, masks.prunable(model)), int(facts[f"found_{wanted.rule}_{wanted.ratio:g}"])
        if wanted.needs_draw and at < 0:
            _pay(arm.ledger, facts, 1.0)
            arm.record({"found": -1, "closest": facts[f"closest_{wanted.ratio:g}"]})
            return
        snapshot = wanted.snapshot(at, int(facts["snapshots"]))
        _pay(arm.ledger, facts, snapshot / facts["snapshots"])
        mask = self._mask(arm, model, found, at)
        model = self._begin(arm, model, found)
        first = first_epoch(wanted, snapshot, facts, arm.settings)
        history = self._fit(arm, model, mask=mask, first_epoch=first)
        ranked: Scope = "tensor" if wanted.source == "layerwise" else arm.settings.scope
        drawn = {"found": snapshot, "exact": exact(mask, wanted.ratio, ranked)}
        self._record(arm, model, history, drawn, history.curves, mask)

    def train_structured(self, arm: Arm) -> None:
        """Learn which heads and neurons to keep, or draw them, remove the others, and train the smaller model."""
        settings, recipe = arm.settings, arm.settings.removal
        whole = self.build(settings, arm.seed)
        keep = removal.random_units(whole, arm.seed, recipe.multiple) if recipe.random else self._learn_units(arm)
        small = axes.slim(whole, keep)
        history = self._fit(arm, small, recipe.retrain)
        if not arm.dry_run:
            layers, survived = removal.heads_kept(keep, whole)
            metrics = {"alive": kept_share(whole, keep), "layers": layers}
            metrics["exact"] = removal.slim_equals_masked(whole, keep, self._data(settings, arm.seed))
            unmasked = masks.everything(masks.prunable(small))
            self._record(arm, small, history, metrics, history.curves | {"heads_kept": survived}, unmasked)

    # --- what arms share: made once for settings and a seed ------------------------------------------------------

    def pretrain(self, settings: Pretraining, seed: int) -> Kept:
        """The backbone of a language model that was trained on the unlabelled text of its group."""
        return _backbone(*self._pretrain(settings, seed, self._ledger(settings.group)))

    def search(self, settings: Settings, seed: int) -> Kept:
        """What a search sees in a dense training, for a ticket that finds no file of it."""
        ledger = self._ledger(settings.group)
        return _read(settings, self._watch(settings, seed, ledger)[-1], ledger)[-1]

    # --- parts of these ------------------------------------------------------------------------------------------

    def build(self, settings: Settings, seed: int) -> nn.Module:
        """The model that a training starts with: new weights for vision, pretrained ones and a new head for text."""
        one = self.opened[settings.group].data  # its shapes and classes are those of every draw
        model = build(settings.model, one, seed)
        if isinstance(model, language.TextModel) and settings.model.pretraining and not self.dry_run:
            language.load_backbone(model, self.pretrained.get(settings.pretraining, 0).tensors)
        return model.to(one.train.inputs.device)

    def _pretrain(
        self, settings: Pretraining, seed: int, ledger: Ledger, checkpoint: Path | None = None
    ) -> tuple[language.TextModel, History]:
        one, training = self.opened[settings.group].data, settings.model.pretraining
        assert isinstance(one, TextDataset) and training is not None
        corpus = data.corpus_dataset(one, "causal" if settings.model.kind == "gpt2" else "masked")
        network = build_language_model(settings.model, one, seed).to(one.train.inputs.device)
        options: dict[str, Any] = {"seeds": [seed], "ledger": ledger, "checkpoint": checkpoint}
        (history,) = fit(network, corpus, training, objective=LanguageModelling(), **options)
        return network, history

    def _watch(
        self, settings: Settings, seed: int, ledger: Ledger, checkpoint: Path | None = None
    ) -> tuple[nn.Module, History, Search]:
        """Train dense and read masks on the way."""
        one, model, steps = self._data(settings, seed), self.build(settings, seed), self._steps(settings)
        look = Search(model, masks.prunable(model), settings.ratios, steps, **settings.looking)
        options: dict[str, Any] = {"seeds": [seed], "ledger": ledger, "checkpoint": checkpoint}
        (history,) = fit(model, one, settings.training, after_step=[look], **options)
        return model, history, look

    def _fit(self, arm: Arm, model: nn.Module, training: Training | None = None, **options: Any) -> History:
        one, training = self._data(arm.settings, arm.seed), training or arm.settings.training
        options |= {"seeds": arm.seeds, "ledger": arm.ledger, "checkpoint": arm.checkpoint}
        (history,) = fit(model, one, training, **options)
        return history

    def _mask(self, arm: Arm, model: nn.Module, found: Found, at: int) -> Mask:
        """The ticket's mask; gradient criteria look at some batches and pay for that."""
        wanted, one = arm.settings.ticket, self._data(arm.settings, arm.seed)
        if wanted.source not in ("snip", "gradient"):
            return wanted.mask(found, at, seed=arm.seed)
        with arm.ledger.phase("search"):
            ranks = scores(model, one, wanted.source, **RANKING, seed=arm.seed)
            ranked = one.train.inputs[: RANKING["batches"] * RANKING["batch_size"]]
            arm.ledger.add_flops(train_flops(model, one.prepare(ranked)))
        return masks.smallest(ranks, wanted.ratio, scope=arm.settings.scope)

    def _begin(self, arm: Arm, model: nn.Module, found: Found) -> nn.Module:
        """The model with the weights that a ticket starts with."""
        wanted = arm.settings.ticket
        if wanted.start == "reinit":
            return self.build(arm.settings, arm.seed + 1000)
        if wanted.start in ("inherit", "continue"):
            model.load_state_dict(found.state(wanted.ratio))
        return model

    def _learn_units(self, arm: Arm) -> dict[str, list[int]]:
        """Units to keep; the arm is charged for learning them."""
        settings, one = arm.settings, self._data(arm.settings, arm.seed)
        ledger = Ledger(str(one.train.inputs.device), dry_run=arm.dry_run)
        own: dict[str, Any] = {"seed": arm.seed, "ledger": ledger, "checkpoint": _beside(arm.checkpoint, "search")}
        model = self.build(settings, arm.seed)
        keep = removal.learn_units(model, one, settings.training, settings.removal, **own)
        spent = ledger.total()
        arm.ledger.charge("search", spent["flops"], spent["seconds"], spent["joules"])
        return keep

    def _record(
        self, arm: Arm, model: nn.Module, history: History, own: Facts, curves: Curves, mask: Mask | None = None
    ) -> None:
        """What the training came to, with metrics of its own."""
        worth = outcome(model, history, self._data(arm.settings, arm.seed), mask)
        arm.record({**worth.metrics, **own}, curves, worth.marks)

    def _data(self, settings: Settings, seed: int) -> Data:
        return self.opened[settings.group].of(seed)

    def _steps(self, settings: Settings) -> int:
        """Steps of an epoch."""
        return settings.training.steps_of_epoch(len(self.opened[settings.group].data.train))

    def _ledger(self, group: str) -> Ledger:
        return Ledger(str(self.opened[group].data.train.inputs.device))


def _backbone(network: language.TextModel, history: History) -> Kept:
    state = {name: value.cpu() for name, value in language.backbone_state(network).items()}
    return Kept(state, {"loss": history.curves["validation_loss"][-1]})


def _read(settings: Settings, look: Search, ledger: Ledger) -> tuple[dict[str, float], dict[str, list[float]], Kept]:
    """Metrics and curves of a search, and what tickets need of it: what it saw, what it and its training cost."""
    found, total = Found(look.state_dict(), look.weights), ledger.total()
    metrics, curves = reading(found, settings.ratios, settings.threshold, look.per_epoch)
    trained, watched = total["phases"]["train"], total["aside"]["watch"]
    metrics["tracking_share"] = watched["seconds"] / (trained["seconds"] + watched["seconds"])
    metrics["tracking_bytes"] = sum(bits.numel() for rows in look.rows.values() for bits in rows)
    metrics |= {"snapshots": len(curves["snapshot"]) - 1, "per_epoch": look.per_epoch}
    costs = {name: (trained[name], watched[name]) for name in ("flops", "seconds", "joules")}
    facts = {name: one + other for name, (one, other) in costs.items() if one is not None and other is not None}
    return metrics, curves, Kept(dict(found.tensors), metrics | facts)


def _pay(ledger: Ledger, facts: Facts, share: float) -> None:
    """Charge a share of the dense training, masks included, as search."""
    if share:
        joules = share * facts["joules"] if "joules" in facts else None
        ledger.charge("search", round(share * facts["flops"]), share * facts["seconds"], joules)


def epochs_of_search(facts: Facts, settings: Settings) -> int:
    """Epochs until the later of the tickets is drawn, begun ones whole; a rule that never draws looks on to the end."""
    drawn = max(facts[f"found_{settings.rule}_{ratio:g}"] for ratio in settings.as_long_as)
    return ceil(drawn / facts["per_epoch"]) if drawn >= 0 else settings.epochs


def first_epoch(wanted: Ticket, snapshot: int, facts: Facts, settings: Settings) -> int:
    """Where a ticket enters the schedule: at its start, or to continue where it was drawn, with an epoch left."""
    drawn = snapshot // int(facts["per_epoch"]) if wanted.start == "continue" else 0
    return min(drawn, settings.epochs - 1)


def _rates(settings: Settings, steps: int) -> list[float]:
    """The learning rate at the start of every epoch."""
    return [settings.training.rate(epoch * steps, settings.epochs * steps) for epoch in range(settings.epochs)]


def _beside(checkpoint: Path | None, name: str) -> Path | None:
    """The files of another training of the same arm."""
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{name}")
