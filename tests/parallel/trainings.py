"""Small trainings of every kind, which one process makes as well as two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effi import masks
from effi.cost import Ledger
from effi.ligo.recipes import Ligo
from effi.mixed_sparsity.densities import erdos_renyi
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.listener import MixedSparsity
from effi.training import LanguageModelling, Listener, Step, Training, fit
from tests.ligo import toy as pairs
from tests.mixed_sparsity import toy as gpts
from tests.training.tiny import Reader, images, sentences, vit, weights_of

STEPS = 20
# Of 40 images batches of 13 leave one, which one of two processes cannot share.
COMMON: dict[str, Any] = {"steps": STEPS, "batch_size": 13, "lr": 1e-2, "eval_every": "1 step"}
EVERYTHING: dict[str, Any] = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "clip": 0.3,
    "augment": ("flip", "crop"),
    "accumulate": 2,
    "schedule": "cosine",
}
Found = dict[str, Any]


class Ramp:
    """Sparsity from 0.8 down to 0.5 over the training."""

    def sparsity(self, share: float) -> float:
        return 0.8 - 0.3 * share

    def starts(self) -> list[float]:
        return []


def dense(parallel: Any, **options: Any) -> Found:
    return trained(vit(), images(), Training(**COMMON, **EVERYTHING, parallel=parallel), **options)


def plain(parallel: Any, **options: Any) -> Found:
    """By SGD, whose steps are as long as gradients are: Adam would not see a factor."""
    return trained(vit(), images(), Training(**COMMON, optimizer="sgd", parallel=parallel), **options)


def masked(parallel: Any, **options: Any) -> Found:
    model = vit()
    mask = masks.magnitude(masks.prunable(model), 0.6)
    return trained(model, images(), Training(**COMMON, **EVERYTHING, parallel=parallel), mask=mask, **options)


def noisy(parallel: Any, **options: Any) -> Found:
    """With dropout, which each process draws by itself."""
    return trained(vit(dropout=0.2), images(), Training(**COMMON, parallel=parallel), **options)


def text(parallel: Any, **options: Any) -> Found:
    """Labels that do not count lie unevenly on the processes."""
    training = Training(**COMMON | {"batch_size": 7, "lr": 0.1}, optimizer="sgd", accumulate=2, parallel=parallel)
    return trained(Reader(), sentences(), training, objective=LanguageModelling(), **options)


def moving(parallel: Any, *, precision: torch.dtype = torch.float32, blocks: int | None = None) -> Found:
    """A mask that changes every fourth step, by gradients and at random."""
    training = replace(gpts.TRAINING, steps=STEPS, batch_size=7, eval_every="1 step", parallel=parallel)
    task = gpts.task(training)
    task.model.to(precision)
    mst = MixedSparsity(task.model, Ramp(), erdos_renyi, Evolution(every=4), names=task.names, seed=0, blocks=blocks)
    seen: list[masks.Mask] = []
    given = mst.arguments()
    given["after_step"] = [*given["after_step"], lambda step: seen.append(mst.mask)]
    found = trained(task.model, task.data, training, objective=LanguageModelling(), **given)
    return found | {"masks": seen, "told": mst.told}


def precisely(parallel: Any) -> Found:
    """The same in float64, where the order of a sum flips no mask."""
    return moving(parallel, precision=torch.float64)


def in_blocks(parallel: Any) -> Found:
    """The same by blocks of weights."""
    return moving(parallel, blocks=8)


def growth(parallel: Any) -> Found:
    """An operator that is learned, and the model that it grew."""
    training = replace(pairs.TRAINING, steps=STEPS, eval_every="1 step", parallel=parallel)
    task = pairs.task("gpt", training)
    learned = Ligo(steps=8)(task)
    return {
        "losses": learned.history.curves["train_loss"][1:],
        "validation": learned.history.curves["validation_loss"],
        "weights": weights_of(task.model),
        "facts": learned.facts,
        "flops": task.ledger.total()["flops"],
    }


def trained(model: nn.Module, data: Any, training: Training, **options: Any) -> Found:
    """What a training leaves behind."""
    ledger = Ledger()
    (history,) = fit(model, data, training, seeds=[0], ledger=ledger, **options)
    return {
        "losses": history.curves["train_loss"],
        "accuracies": history.curves["train_accuracy"],
        "validation": history.curves["validation_loss"],
        "weights": weights_of(model),
        "flops": ledger.total()["flops"],
        "best": history.best_epoch,
    }


def at(step: int, act: Callable[[], object]) -> Sequence[Listener]:
    """A listener that does something after one step."""

    def listener(seen: Step) -> None:
        if seen.index == step:
            act()

    return [listener]


def file(folder: Path, name: str) -> Path:
    """Where a training goes on from."""
    return folder / "checkpoints" / name


KINDS: dict[str, Callable[..., Found]] = {
    "dense": dense,
    "plain": plain,
    "masked": masked,
    "text": text,
    "moving": moving,
    "precisely": precisely,
    "in blocks": in_blocks,
    "growth": growth,
}
# Of these a process may hold a part of the weights.
IN_PARTS = ("dense", "plain", "masked", "text", "growth")
