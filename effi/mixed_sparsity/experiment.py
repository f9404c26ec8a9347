"""What trains one arm of the comparison; the notebook chooses the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from effi import masks
from effi.cost import Ledger
from effi.data import Opened, TextDataset
from effi.data.windows import drawn
from effi.errors import ParameterError
from effi.mixed_sparsity.building import Unseen, gpt_size
from effi.mixed_sparsity.course import head_of
from effi.mixed_sparsity.outcome import curves, outcome
from effi.mixed_sparsity.recipes import Sparse, Task
from effi.mixed_sparsity.settings import Model, Settings
from effi.models.gpt import GPT

if TYPE_CHECKING:
    from effi.records import Arm


@dataclass
class Experiment:
    """What all arms share: the corpora by name, as the settings of an arm name its data.

    `others` has for each the windows of other corpora that models of it are to predict, made by `zero_shot`.
    """

    opened: Mapping[str, Opened]
    others: Mapping[str, Mapping[str, Unseen]] = field(default_factory=dict)

    def check(self, arms: Mapping[Any, Settings]) -> None:
        """Errors of `Sparse.check`, with the arm's name."""
        for name, settings in arms.items():
            one, recipe = self.data(settings, 0), settings.recipe
            if isinstance(recipe, Sparse):
                try:
                    steps, tokens = settings.training.all_steps(len(one.train)), one.train.inputs.shape[1]
                    recipe.check(steps, tokens, None if recipe.blocks is None else shapes(settings.model, one))
                except ParameterError as error:
                    raise ParameterError(f"{name}: {error}") from None

    def train(self, arm: Arm) -> None:
        """Apply an arm's recipe to a new model, and record what became of it."""
        task = self.task(arm.settings, arm.seed, arm.ledger, arm.checkpoint)
        found = arm.settings.recipe(task)
        if not arm.dry_run:
            arm.record(outcome(task, found).metrics, curves(task, found))

    def task(self, settings: Settings, seed: int, ledger: Ledger, checkpoint: Path | None = None) -> Task:
        """The new model of an arm and what it is trained on."""
        one = self.data(settings, seed)
        tokens = one.train.inputs.shape[1]
        model = build(settings.model, one, seed).to(one.train.inputs.device)
        reference = gpt_size(settings.reference or settings.model.size, tokens, one.vocabulary)
        names = prunable(model, settings.model)
        others = self.others.get(settings.data["name"], {})
        return Task(model, one, settings.training, seed, ledger, names, reference, checkpoint, others=others)

    def data(self, settings: Settings, seed: int) -> TextDataset:
        """A seed's windows."""
        one: TextDataset = self.opened[settings.data["name"]].of(0)
        return drawn(one, settings.rows, seed)


def build(model: Model, one: TextDataset, seed: int) -> GPT:
    """A new model for a corpus, with weights of the seed."""
    return GPT(one.vocabulary, one.train.inputs.shape[1], model.size, tied=model.tied, std=model.std, seed=seed)


def shapes(model: Model, one: TextDataset) -> dict[str, torch.Size]:
    """Shapes of what may be pruned."""
    made = build(model, one, 0)
    return {name: made.get_parameter(name).shape for name in prunable(made, model)}


def prunable(model: GPT, settings: Model) -> list[str]:
    """Names of what may be pruned: matrices of the blocks, and the output matrix unless it stays dense."""
    return list(masks.prunable(model, include=[head_of(model)] if settings.head == "sparse" else []))
