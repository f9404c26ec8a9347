"""How a model is trained: budget, optimiser, schedule, precision."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from effi.errors import ParameterError, did_you_mean
from effi.kernels import dispatch

_LEAST = {"epochs": 1, "steps": 1, "batch_size": 1, "accumulate": 1, "lr": 1e-12, "eps": 0}
_LEAST |= {"weight_decay": 0, "warmup": 0, "floor": 0, "clip": 0, "momentum": 0}
Augmentation = Literal["flip", "crop", "randaugment"]
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Group:
    """Parameters with a learning rate or weight decay of their own; None leaves that of the training.

    `of` is a role ("matrix", "vector", "embedding", "norm", "bias") or a pattern of names ("*.attention.*"). `lr` is
    the highest rate, which the schedule scales.
    """

    of: str
    lr: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay"):
            if (getattr(self, name) or 0) < 0:
                raise ParameterError(f"training groups: {name}={getattr(self, name)} of {self.of!r} is below 0")


@dataclass(frozen=True)
class Training:
    """How a model is trained, for `epochs` or for `steps`.

    `batch_size` examples make a step, in `accumulate` parts of which each is held alone. `eval_every` is a number of
    epochs or steps ("1 epoch", "0.5 epochs", "200 steps"). `warmup` is a share of all steps up to 1, above a number of
    steps; `floor` the share of `lr` at which a schedule ends. Weight decay touches matrices only; the first of
    `groups` that fits a parameter counts. `momentum` is that of SGD and Muon, `betas` and `eps` those of Adam. With
    `parallel` the processes that torchrun started share out every batch among them; without it each takes it whole.
    `compile` is by torch.compile; with "graphs" a GPU replays the forward and the backward pass as CUDA graphs, with
    "step" also clipping and the optimiser, for small models, whose steps are mostly launches: numbers of the host are
    then those of the first steps, but for the rate. `kernels` names those of
    `effi.kernels` that steps and evaluations take where they can.
    """

    epochs: int | None = None
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    clip: float | None = None
    augment: tuple[Augmentation, ...] = ()
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    compile: bool | Literal["graphs", "step"] = False
    steps: int | None = None
    eval_every: str = "1 epoch"
    accumulate: int = 1
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float | None = None
    floor: float = 0.0
    groups: tuple[Group | Mapping[str, Any], ...] = ()
    parallel: Parallel | None = None
    kernels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ParameterError(f"training {name}={value} is too small; give at least {least:g}")
        for name, known in _choices().items():
            if getattr(self, name) not in known:
                raise ParameterError(f"unknown {name} {getattr(self, name)!r} of a training; use {', '.join(known)}")
        if self.parallel not in (None, *get_args(Parallel)):
            raise ParameterError(
                f"unknown parallel {self.parallel!r} of a training; use {', '.join(get_args(Parallel))} or None"
            )
        self._check_compile()
        if (self.epochs is None) == (self.steps is None):
            raise ParameterError(f"training wants epochs or steps, not {'both' if self.steps else 'neither'}")
        if self.momentum is not None and self.momentum >= 1:
            raise ParameterError(f"training momentum={self.momentum:g} never forgets; give less than 1")
        if self.floor > 1:
            raise ParameterError(f"training floor={self.floor:g} is a share of the rate; give at most 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ParameterError(f"training betas={list(self.betas)} must be two numbers from 0 to below 1")
        dispatch.check(self.kernels)
        self.evaluation()
        object.__setattr__(self, "groups", tuple(map(_group, self.groups)))

    def _check_compile(self) -> None:
        if self.compile not in (False, True, "graphs", "step"):
            raise ParameterError(f'unknown compile {self.compile!r} of a training; use False, True, "graphs" or "step"')
        if self.compile == "graphs" and (self.accumulate > 1 or self.parallel == "fsdp"):
            raise ParameterError(
                'training compile="graphs" wants weights and gradients that stay in place: leave accumulate at 1, '
                'and parallel at None or "ddp"'
            )
        if self.compile == "step" and (self.accumulate > 1 or self.parallel):
            raise ParameterError(
                'training compile="step" replays a whole batch of one process: leave accumulate at 1 and parallel away'
            )
        if self.compile == "step" and (self.optimizer == "muon" or "adamw" in self.kernels):
            what = "muon" if self.optimizer == "muon" else 'the kernel "adamw"'
            raise ParameterError(f'training compile="step": {what} keeps numbers off the device; take "graphs"')

    def evaluation(self) -> tuple[float, str]:
        """How often the validation split is read: a number, and "epoch" or "step"."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?(?= epoch)|\d+) (epoch|step)s?", self.eval_every)
        if found is None or not float(found[1]):
            raise ParameterError(
                f'training eval_every={self.eval_every!r} is no interval; write "1 epoch" or "200 steps"'
            )
        return float(found[1]), found[2]

    def steps_of_epoch(self, examples: int) -> int:
        """Optimiser steps of an epoch over so many examples; the last may be a smaller batch."""
        return math.ceil(examples / self.batch_size)

    def all_steps(self, examples: int) -> int:
        """Optimiser steps of the whole training on so many examples."""
        return self.steps or (self.epochs or 0) * self.steps_of_epoch(examples)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0 .. steps - 1: linear warm-up, then constant, or a line or cosine to the floor."""
        warm = round(self.warmup * steps) if self.warmup <= 1 else round(self.warmup)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        done = (step - warm) / max(1, steps - warm)
        left = 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (self.floor + (1 - self.floor) * left)


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(Training)
    return {name: get_args(hints[name]) for name in ("optimizer", "schedule", "precision")}


def _group(given: Group | Mapping[str, Any]) -> Group:
    if isinstance(given, Group):
        return given
    known = [field.name for field in fields(Group)]
    for name in given:
        if name not in known:
            raise ParameterError(f"unknown option of a group {name!r}{did_you_mean(name, known)}")
    if "of" not in given:
        raise ParameterError(f"a group of parameters {dict(given)} wants of: a role or a pattern of names")
    return Group(**given)
