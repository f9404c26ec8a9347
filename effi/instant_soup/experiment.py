"""What trains one arm of the comparison; the notebook chooses the arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.data import Dataset, Opened, tokens
from effi.data.pairs import PairDataset, paired
from effi.data.tokens import Tokenizer
from effi.errors import DataError, ParameterError
from effi.instant_soup.building import captions, coloured, gathered, seen_as, tokenizer_of
from effi.instant_soup.flops import SparseFlops
from effi.instant_soup.lottery import Climb
from effi.instant_soup.outcome import curves, outcome
from effi.instant_soup.pruned import Pruned, chosen
from effi.instant_soup.recipes import Beside, Cut, Lottery, Rung, Soup, Task
from effi.instant_soup.settings import Pretraining, Settings
from effi.instant_soup.weak_nets import Data
from effi.models import clip, language
from effi.training import Classification, Contrastive, History, Objective, Regression, fit
from effi.training.checkpoint import Kept

if TYPE_CHECKING:
    from effi.records import Arm, Run
    from effi.records.artefacts import Artefacts

PROMPT = 32  # tokens of a prompt, in an alphabet that was trained on prompts alone


# A function that trains arms, these, and their seeds.
Stage = tuple["Callable[[Arm], None]", dict[Any, Settings], list[int]]


@dataclass
class Experiment:
    """What all arms share: data by group, images by name that CLIP is pretrained on, and its weights.

    A seed is trained on its own draw of the data. `share` says where the weights lie, before any arm is trained. A dry
    run starts from weights that nobody pretrained.
    """

    opened: Mapping[str, Opened]
    images: Mapping[str, Opened] = field(default_factory=dict)
    # Not compared: nothing of these changes what an arm's function computes.
    dry_run: bool = field(default=False, init=False, compare=False)
    pretrained: Artefacts = field(init=False, repr=False, compare=False)
    souped: Artefacts = field(init=False, repr=False, compare=False)
    climbed: Artefacts = field(init=False, repr=False, compare=False)

    def share(self, run: Run) -> None:
        """Keep what arms share beside the records of a run, until the source that makes it changes."""
        self.dry_run = run.dry_run
        self.pretrained, self.souped = run.artefacts(self.pretrain), run.artefacts(self.soup)
        self.climbed = run.artefacts(self.climb)

    def stages(self, arms: Mapping[Any, Settings], seeds: Mapping[Any, Sequence[int]]) -> Iterator[Stage]:
        """What trains which arms at which of `seeds`; those that go by a soup, or by a lottery's rounds, come last."""
        rules = ((self.train_beside, Beside), (self.train_rung, Rung))
        later = {train: [arm for arm, each in arms.items() if isinstance(each.recipe, kind)] for train, kind in rules}
        first = [arm for arm in arms if not any(arm in own for own in later.values())]
        for train, own in ((self.train, first), *later.items()):
            for asked in dict.fromkeys(tuple(seeds[arm]) for arm in own):
                yield train, {arm: arms[arm] for arm in own if tuple(seeds[arm]) == asked}, list(asked)

    def check(self, arms: Mapping[Any, Settings]) -> None:
        """ParameterError, which names the arm, where a soup's rounds cannot reach their target in its training."""
        for name, each in arms.items():
            recipe = each.recipe.soup if isinstance(each.recipe, Beside) else each.recipe
            if isinstance(recipe, Soup):
                try:
                    recipe.check(each.training, len(self.opened[each.group].of(0).train))
                except ParameterError as error:
                    raise ParameterError(f"{name}: {error}") from None

    # --- arms: each trains one model, and records it -------------------------------------------------------------

    def train_pretraining(self, arm: Arm) -> None:
        """Pretrain a small CLIP, and keep its weights for the other arms."""
        towers, history = self._pretrain(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        if not arm.dry_run:
            self.pretrained.keep(arm.settings, arm.seed, _kept(towers, history))
            losses = {f"{split}_loss": history.curves[f"{split}_loss"][-1] for split in ("train", "validation")}
            arm.record(losses, history.curves)

    def train(self, arm: Arm) -> None:
        """Apply an arm's recipe to its pretrained model."""
        task = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        recipe = arm.settings.recipe
        found, climb = recipe.drawn(task) if isinstance(recipe, Lottery) else (recipe(task), None)
        if not arm.dry_run:
            if isinstance(recipe, Soup):
                self.souped.keep(arm.settings, arm.seed, _told(found))
            if climb is not None:
                self.climbed.keep(arm.settings, arm.seed, Kept(climb.tensors, {}))
            _record(arm, task, found)

    def train_beside(self, arm: Arm) -> None:
        """Apply a recipe that takes its measure from a soup: of the same seed, trained before."""
        task, recipe = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint), arm.settings.recipe
        assert isinstance(recipe, Beside)
        if arm.dry_run:
            recipe(task)
            return
        soup = self.souped.get(replace(arm.settings, recipe=recipe.soup), arm.seed)
        told = {name: values.tolist() for name, values in soup.tensors.items()}
        _record(arm, task, recipe.beside(task, told))

    def train_rung(self, arm: Arm) -> None:
        """Train a ticket whose rounds a lottery of the same seed has trained before; a dry run counts the ticket."""
        task, recipe = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint), arm.settings.recipe
        assert isinstance(recipe, Rung)
        if arm.dry_run:
            Cut(recipe.sparsity)(task)
            return
        _record(arm, task, recipe.beside(task, self._climb_of(arm.settings, recipe.lottery, arm.seed, task)))

    def compare_masks(self, arm: Arm) -> None:
        """C7: how much the mask of a lottery ticket shares with one cut, one that is random, and chance."""
        if arm.dry_run:
            return
        task, recipe = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint), arm.settings.recipe
        assert isinstance(recipe, Lottery | Rung)
        cuts = {by: Cut(recipe.sparsity, by).mask(task) for by in ("magnitude", "random")}
        rung = recipe if isinstance(recipe, Rung) else Rung(recipe.sparsity, recipe)
        ticket = rung.charged_mask(task, self._climb_of(arm.settings, rung.lottery, arm.seed, task))
        shared = {f"pruned_iou/{by}": masks.overlap(ticket, cut) for by, cut in cuts.items()}
        chance = dict.fromkeys((f"chance_iou/{by}" for by in cuts), recipe.sparsity / (2 - recipe.sparsity))
        arm.record(shared | chance)

    def _climb_of(self, settings: Settings, lottery: Lottery, seed: int, task: Task) -> Climb:
        kept = self.climbed.get(replace(settings, recipe=lottery), seed)
        return Climb.of(kept.tensors, chosen(task.model, task.names))

    # --- what arms share -----------------------------------------------------------------------------------------

    def pretrain(self, settings: Pretraining, seed: int) -> Kept:
        """Weights of a small CLIP, for arms that find no file of them."""
        (first, *_) = self.images.values()
        return _kept(*self._pretrain(settings, seed, Ledger(str(first.data.train.inputs.device))))

    def soup(self, settings: Settings, seed: int) -> Kept:
        """What a soup tells of its prunes, for arms that find no file of it."""
        return _told(settings.recipe(self._uncharged(settings, seed)))

    def climb(self, settings: Settings, seed: int) -> Kept:
        """The rounds of a lottery, for arms that find no file of them."""
        assert isinstance(settings.recipe, Lottery)
        return Kept(settings.recipe.rounds(self._uncharged(settings, seed)).tensors, {})

    # --- parts of these ------------------------------------------------------------------------------------------

    def _uncharged(self, settings: Settings, seed: int) -> Task:
        """A task that no arm's ledger hears of."""
        (first, *_) = self.opened.values()
        return self.task(settings, seed, Ledger(str(first.data.train.inputs.device)))

    def task(self, settings: Settings, seed: int, ledger: Ledger, checkpoint: Path | None = None) -> Task:
        """The pretrained model of an arm and what it is trained on."""
        one = self.data(settings, seed)
        model = self.build(settings, one, seed).to(one.train.inputs.device)
        names = list(masks.prunable(model, include=settings.include))
        example = one.prepare(one.train.inputs[: settings.training.batch_size])
        return Task(
            model,
            one,
            settings.training,
            seed,
            ledger,
            objective_of(one),
            settings.metric,
            names,
            SparseFlops(model, example, names),
            checkpoint,
        )

    def data(self, settings: Settings, seed: int) -> Data:
        """A seed's examples; images as the pretrained model wants them."""
        one: Data = self.opened[settings.group].of(seed)
        if not isinstance(one, Dataset):
            return one
        if settings.model.pretraining is None:
            return replace(coloured(one), mean=clip.MEAN, std=clip.STD)
        return seen_as(one, self._gathered(settings.model.pretraining, 0))

    def build(self, settings: Settings, one: Data, seed: int) -> nn.Module:
        """A pretrained model with a head for the data: CLIP's own by prompts, a new one of `seed` for texts."""
        model = settings.model
        if isinstance(one, Dataset):
            towers, words = self._towers(settings, one)
            ids = captions(words, one.classes, model.templates, towers.length)
            return clip.image_classifier(towers, clip.zero_shot_head(towers, ids))
        assert model.kind != "clip" and one.tokenizer is not None
        options: dict[str, Any] = {"separator": one.tokenizer.special[3]} if model.pairs else {}
        options |= {"vocabulary": one.vocabulary, "length": model.length, "pad": one.pad, "seed": seed}
        checkpoint = language.need_checkpoint(model.kind)
        return language.classifier(model.kind, len(one.classes) or 1, checkpoint=checkpoint, **options)

    def _towers(self, settings: Settings, one: Dataset) -> tuple[clip.TwoTowers, Tokenizer]:
        pretraining = settings.model.pretraining
        if pretraining is None:
            return _published(one)
        images = self._gathered(pretraining, 0)
        words = tokenizer_of(images.classes, pretraining.templates)
        towers = _small(pretraining, images, words, 0)
        if not self.dry_run:
            towers.load_state_dict(self.pretrained.get(pretraining, 0).tensors)
        return towers, words

    def _gathered(self, settings: Pretraining, seed: int) -> Dataset:
        return gathered([self.images[name].of(seed) for name in settings.data])

    def _pretrain(
        self, settings: Pretraining, seed: int, ledger: Ledger, checkpoint: Path | None = None
    ) -> tuple[clip.TwoTowers, History]:
        pairs, words = self.pairs(settings, seed)
        towers = _small(settings, self._gathered(settings, seed), words, seed).to(pairs.train.inputs.device)
        options: dict[str, Any] = {"seeds": [seed], "ledger": ledger, "checkpoint": checkpoint}
        (history,) = fit(towers, pairs, settings.training, objective=Contrastive(), **options)
        return towers, history

    def pairs(self, settings: Pretraining, seed: int = 0) -> tuple[PairDataset, Tokenizer]:
        """Images with prompts of their classes, and the tokenizer of these."""
        images = self._gathered(settings, seed)
        words = tokenizer_of(images.classes, settings.templates)
        return paired(images, captions(words, images.classes, settings.templates, PROMPT), seed=seed), words


def _record(arm: Arm, task: Task, found: Pruned) -> None:
    worth = outcome(task, found)
    arm.record(worth.metrics, curves(found), worth.marks)


def _told(found: Pruned) -> Kept:
    return Kept({name: torch.tensor(values, dtype=torch.float64) for name, values in found.told.items()}, {})


def objective_of(data: Data) -> Objective:
    """Classes are told apart, numbers met."""
    return Classification() if data.classes else Regression()


def _small(settings: Pretraining, images: Dataset, words: Tokenizer, seed: int) -> clip.TwoTowers:
    channels, side, _ = images.shape
    size = clip.ClipSize(**settings.options)
    shape: dict[str, Any] = {"image_size": side, "channels": channels, "length": PROMPT}
    return clip.two_towers(size=size, vocabulary=words.vocabulary, seed=seed, **shape)


def _published(one: Dataset) -> tuple[clip.TwoTowers, Tokenizer]:
    """CLIP from its checkpoint, and its tokenizer."""
    found = clip.find_checkpoint()
    if found is None:
        raise DataError(f"no checkpoint of {clip.NAMES[0]} is on this machine: put its files into $EFFI_DATA")
    channels, side, _ = one.shape
    words = tokens.load(Path(found) / "tokenizer.json")
    shape: dict[str, Any] = {"image_size": side, "channels": channels, "length": PROMPT}
    return clip.two_towers(vocabulary=words.vocabulary, checkpoint=found, **shape), words


def _kept(towers: clip.TwoTowers, history: History) -> Kept:
    state: dict[str, Tensor] = {name: value.detach().cpu().clone() for name, value in towers.state_dict().items()}
    return Kept(state, {"loss": history.curves["validation_loss"][-1]})
