"""Small trainings of every kind, and a process that makes one of them until it is killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from effi import masks
from effi.cost import Ledger
from effi.early_bird import Search
from effi.masks import Mask
from effi.training import MovingAverage, Step, Training, checkpoint, fit
from tests.training.tiny import PER_EPOCH, images, vit

STEPS = 60
PLAIN = {"steps": STEPS, "batch_size": 16, "lr": 1e-2, "eval_every": "10 steps"}


@dataclass(frozen=True)
class Arm:
    training: Training
    seeds: tuple[int, ...] = (0,)
    sparsity: float = 0.0
    dropout: float = 0.0
    listeners: Sequence[str] = ()


EVERYTHING = {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.3, "augment": ("flip", "crop"), "accumulate": 2}
ARMS = {
    "dense": Arm(Training(**PLAIN)),
    "masked": Arm(Training(**PLAIN), sparsity=0.6),
    "bf16": Arm(Training(**PLAIN, precision="bf16")),
    "everything": Arm(Training(**PLAIN, **EVERYTHING, schedule="cosine", warmup=0.1, floor=0.1), dropout=0.2),
    "muon": Arm(Training(**PLAIN, optimizer="muon"), sparsity=0.3),
    "sgd": Arm(Training(**PLAIN, optimizer="sgd")),
    "two seeds": Arm(Training(**PLAIN, augment=("flip",)), seeds=(3, 5), dropout=0.2),
    "listeners": Arm(Training(**PLAIN), listeners=("search", "average")),
    "moving mask": Arm(Training(**PLAIN), sparsity=0.5, listeners=("mover",)),
}


class Mover:
    """Holds another random mask every seventh step and none from step 50; it keeps the mask as its own state."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    def __call__(self, step: Step) -> None:
        if step.index == 50:
            self.mask = {}
            step.hold(self.mask)
        elif step.index % 7 == 0 and step.index < 50:
            draw = torch.Generator().manual_seed(step.index)
            self.mask = masks.random(masks.prunable(step.model), 0.5, generator=draw)
            step.hold(self.mask)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.mask)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mask = dict(state)


@dataclass
class Pulse:
    """Tells another process in `told` how far a training is and since when; from step `stop` on it waits for a kill.

    `told`: last step, time before the training, after its first step here, after its last.
    """

    told: Any
    stop: int = STEPS + 1
    rest_s: float = 0.0

    def __call__(self, step: Step) -> None:
        self.told[0], self.told[3] = step.index, time.time()
        self.told[2] = self.told[2] or self.told[3]
        time.sleep(60 if step.index >= self.stop else self.rest_s)


def make(arm: Arm, file: Path | None = None, pulse: Pulse | None = None) -> dict[str, Any]:
    """Train an arm; everything that it leaves behind."""
    models = [vit(seed, dropout=arm.dropout) for seed in arm.seeds]
    mask = masks.magnitude(masks.prunable(models[0]), arm.sparsity) if arm.sparsity else None
    weights = {name: weight.detach() for name, weight in masks.prunable(models[0]).items()}
    search = Search(models[0], weights, (0.3, 0.5), PER_EPOCH, 1, threshold=0.2)
    everyone = {"search": search, "average": MovingAverage(0.9), "mover": Mover(mask or {})}
    chosen = [everyone[name] for name in arm.listeners]
    before = [listener for listener in chosen if isinstance(listener, Mover)]
    after = [listener for listener in chosen if listener not in before]
    ledger = Ledger()
    pulse = pulse or Pulse([0.0] * 4)
    after.append(pulse)
    pulse.told[1] = time.time()
    histories = fit(
        models if len(models) > 1 else models[0],
        images(),
        arm.training,
        seeds=arm.seeds,
        ledger=ledger,
        before_step=before,
        after_step=after,
        mask=mask,
        checkpoint=file,
    )
    return {
        "weights": [dict(model.state_dict()) for model in models],
        "histories": [vars(history) for history in histories],
        "states": [{k: v for k, v in each.state_dict().items() if k != "seconds"} for each in chosen],
        "training": [model.training for model in models],
        "cost": ledger.total(),
    }


def live(name: str, file: Path, out: Path, pulse: Pulse, every_s: float) -> None:
    """A process that trains an arm with a checkpoint every few milliseconds, and leaves what it found in a file."""
    torch.set_num_threads(1)
    checkpoint.EVERY_S, checkpoint.BEAT_S = every_s, 0.005
    found = make(ARMS[name], file, pulse)
    pulse.told[3] = time.time()
    torch.save(found, out)


def differing(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two results are not the same bits, seconds and costs apart."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{path}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        told = a.keys() - {"seconds", "cost"}
        return [each for key in sorted(told, key=str) for each in differing(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [each for place, (x, y) in pairs for each in differing(x, y, f"{path}/{place}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    return [] if type(a) is type(b) and a == b else [f"{path}: {a} {b}"]
