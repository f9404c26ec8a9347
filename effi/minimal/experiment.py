"""What trains one arm of the comparison and what times the arms' steps; the notebook chooses the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effi.cost import measure
from effi.data import Dataset
from effi.minimal.diagnosis import layers
from effi.minimal.outcome import outcome, savings, sizes
from effi.minimal.variants import Variant
from effi.models.vit import ViT
from effi.training import Classification, Training, fit, stepper
from effi.training.objectives import Loss

if TYPE_CHECKING:
    from effi.records import Arm


@dataclass(frozen=True)
class Settings:
    """Everything that one arm is trained with; `patch` is the pixels a side of one patch, `data` tells which images."""

    variant: Variant
    training: Training
    patch: int
    data: Mapping[str, Any]
    loss: Loss = "cross_entropy"

    def model(self, data: Dataset, seed: int = 0) -> ViT:
        """The arm's model for these images, on the CPU, with weights of `seed`."""
        return self.variant.model(data.shape, self.patch, len(data.classes), seed=seed)


def train(arm: Arm, data: Dataset) -> None:
    """Train the seeds of one arm, then record the last epoch, the best one and what attention became."""
    settings: Settings = arm.settings
    models = [settings.model(data, seed).to(arm.device) for seed in arm.seeds]
    training, objective = settings.training, Classification(settings.loss)
    histories = fit(
        models, data, training, objective=objective, seeds=arm.seeds, ledger=arm.ledger, checkpoint=arm.checkpoint
    )
    if not arm.dry_run:
        pairs = list(zip(models, histories, strict=True))
        worth = [outcome(model, history, data, objective) for model, history in pairs]
        curves = [history.curves | layers(model, data) for model, history in pairs]
        arm.record([each.metrics for each in worth], curves, [each.marks for each in worth])


def sizes_of(arms: Mapping[str, Settings], data: Dataset) -> dict[str, dict[str, float]]:
    """Arm -> its parameters, Q and forward FLOPs of an image on a data set."""
    return {name: sizes(settings.model(data), data) for name, settings in arms.items()}


def time_steps(arms: Mapping[str, Settings], data: Dataset, baseline: str, repeats: int = 4) -> dict[str, float]:
    """C11: a training step of every arm timed in turn, the fastest of `repeats`, as `savings` beside the baseline.

    Seconds are those of the device that holds the data.
    """
    device = data.train.inputs.device
    models = {name: settings.model(data).to(device) for name, settings in arms.items()}
    steps = {
        name: stepper(models[name], data, settings.training, objective=Classification(settings.loss))
        for name, settings in arms.items()
    }
    seconds = {name: min(times) for name, times in measure(steps, repeats=repeats, budget_s=20).items()}
    return savings(seconds, {name: sizes(model, data) for name, model in models.items()}, baseline)
