"""What is recorded of a training: scores, sizes, bytes; and what masks of several models say of each other (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from effi import masks
from effi.data import Dataset, TextDataset
from effi.masks import Mask
from effi.models import language
from effi.training import History, Outcome, evaluation


def outcome(model: nn.Module, history: History, data: Dataset | TextDataset, mask: Mask | None = None) -> Outcome:
    """Scores (effi.training.outcome), size, bytes held in training, and with a mask the bytes of files by format."""
    weights, scored = masks.prunable(model), evaluation.outcome(model, history, data)
    files = masks.file_formats(weights, mask) if mask else {}
    sizes = {
        **masks.sizes(model, mask),
        "training_bytes": history.held_bytes,
        "epochs": len(history.curves["train_loss"]),
        **{f"file_{kind}": size for kind, size in files.items()},
    }
    return scored._replace(metrics=scored.metrics | sizes)


def distance_ratios(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """C4, of one seed's dense records: distance of masks one epoch apart, the worst language model's over the ViT's.

    At every ratio that the language models were searched at; those fine-tuned at another rate are left out.
    """
    metrics = {record["model"]: record["metrics"] for record in records}
    vision, spoken = metrics["vit"], [metrics[kind] for kind in language.NAMES if kind in metrics]
    names = [name for name in spoken[0] if name.startswith("epoch_distance_")]
    worst = {name: max(each[name] for each in spoken) for name in names}
    return {name.replace("epoch_distance", "distance_ratio"): worst[name] / vision[name] for name in names}
