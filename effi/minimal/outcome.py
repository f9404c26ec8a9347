"""What one training is worth, and what fewer parameters save (C11)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import linear_regression

from effi.data import Dataset
from effi.minimal.variants import overdetermination
from effi.models.vit import ViT
from effi.training import History, Objective, Outcome, evaluation


def sizes(model: ViT, data: Dataset) -> dict[str, float]:
    """Parameters P, overdetermination ratio Q on the training images, and forward FLOPs of one image."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "parameters": count,
        "q_ratio": overdetermination(len(data.train), len(data.classes), count),
        "flops_per_image": sum(model.forward_flops(1).values()),
    }


def outcome(model: ViT, history: History, data: Dataset, objective: Objective = evaluation.CLASSES) -> Outcome:
    """Every metric of one training: last and best epoch (effi.training.outcome), and the model's sizes."""
    found = evaluation.outcome(model, history, data, objective)
    return found._replace(metrics=found.metrics | sizes(model, data))


def savings(seconds: Mapping[str, float], sized: Mapping[str, Mapping[str, float]], baseline: str) -> dict[str, float]:
    """Seconds, parameters and FLOPs of every arm relative to `baseline`, and the slope of time on parameters (C11).

    A slope of 1 is the paper's proportional saving, 0 no saving at all; arms of one size have none.
    """
    time = {name: value / seconds[baseline] for name, value in seconds.items()}
    share = {name: value["parameters"] / sized[baseline]["parameters"] for name, value in sized.items()}
    flops = {name: value["flops_per_image"] / sized[baseline]["flops_per_image"] for name, value in sized.items()}
    ratios = {"time": time, "parameters": share, "flops": flops}
    named = {f"{what}_ratio/{name}": value for what, values in ratios.items() for name, value in values.items()}
    x, y = ([ratio[name] for name in seconds] for ratio in (share, time))
    return ({"slope": linear_regression(x, y).slope} if len({*x}) > 1 else {}) | named
