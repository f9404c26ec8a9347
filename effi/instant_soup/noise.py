"""What tells the weak nets of a round apart: each has a training protocol and a part of the data of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor

from effi.errors import ParameterError, did_you_mean
from effi.seeds import derive, generator
from effi.training import Group, Training

Range = tuple[float, float]


@dataclass(frozen=True)
class Noise:
    """Ranges that protocols are drawn from; None leaves what the main training has.

    `rate`: factor of its present learning rate, log-uniform. `decay`: weight decay, uniform. `dropout`: probability of
    every nn.Dropout, uniform. `fraction`: share of the training examples that a net reads, `same_data` the same ones in
    one order for all nets of a round. `warmup` as in Training, which is "constant" after it. The paper leaves ranges
    open (Algorithm 2); these are ours.
    """

    rate: Range | None = (0.3, 3.0)
    decay: Range | None = (0.0, 0.1)
    dropout: Range | None = None
    fraction: float = 0.1
    same_data: bool = False
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ParameterError(f"fraction={self.fraction:g} of a weak net's data: give a share of them up to 1")
        if self.warmup < 0:
            raise ParameterError(f"warmup={self.warmup:g} of weak nets: give a share of their steps or a number")
        for name, (least, most, values) in LIMITS.items():
            if (given := getattr(self, name)) is not None and not _is_range(given, least, most):
                raise ParameterError(f"{name}={given} of weak nets: give a range [low, high] of {values}, or None")


LIMITS = {
    "rate": (1e-12, math.inf, "factors above 0"),
    "decay": (0.0, math.inf, "weight decays from 0 on"),
    "dropout": (0.0, 1.0, "probabilities from 0 to 1"),
}


def _is_range(given: object, least: float, most: float) -> bool:
    match given:
        case [float() | int() as low, float() | int() as high]:
            return least <= low <= high <= most
    return False


def noise_of(options: Mapping[str, Any]) -> Noise:
    """Noise from a dict of its options; ParameterError for one that it does not know."""
    known = [each.name for each in fields(Noise)]
    for name in options:
        if name not in known:
            raise ParameterError(f"unknown option {name!r} of the noise of weak nets{did_you_mean(name, known)}")
    return Noise(**options)


@dataclass(frozen=True)
class Protocol:
    """How one weak net is trained: settings, seed of its order and dropout, and the training examples (k,) it reads."""

    training: Training
    seed: int
    rows: Tensor
    dropout: float | None = None


def draw(
    noise: Noise, training: Training, *, rate: float, steps: int, examples: int, nets: int, seed: int
) -> list[Protocol]:
    """Protocols of `nets` weak nets that train for `steps`, while the main training's learning rate is `rate`."""
    return [_protocol(noise, training, rate, steps, examples, derive(seed, f"net {net}"), seed) for net in range(nets)]


def _protocol(
    noise: Noise, training: Training, rate: float, steps: int, examples: int, own: int, shared: int
) -> Protocol:
    varied = vary(training, noise, own)
    settings = weak(varied, rate=rate * varied.lr / training.lr, steps=steps, warmup=noise.warmup)
    seed = shared if noise.same_data else own
    rows = torch.randperm(examples, generator=generator(seed, "part"))[: math.ceil(noise.fraction * examples)]
    dropout = _uniform(noise.dropout, own, "dropout") if noise.dropout else None
    return Protocol(settings, seed, rows, dropout)


def vary(training: Training, noise: Noise, seed: int) -> Training:
    """The settings with a rate and a weight decay drawn; groups keep rates relative to it, and their own decay."""
    factor = math.exp(_uniform(tuple(map(math.log, noise.rate)), seed, "rate")) if noise.rate else 1.0
    decay = _uniform(noise.decay, seed, "decay") if noise.decay else training.weight_decay
    return replace(_at(training, training.lr * factor), weight_decay=decay)


def _uniform(limits: tuple[float, ...], seed: int, purpose: str) -> float:
    low, high = limits
    share = torch.rand((), generator=generator(seed, purpose), dtype=torch.float64).item()
    return low + share * (high - low)


def weak(training: Training, *, rate: float, steps: int, warmup: float = 0.0) -> Training:
    """The settings of a short training at one rate."""
    return replace(
        _at(training, rate),
        epochs=None,
        steps=steps,
        schedule="constant",
        warmup=warmup,
        eval_every=f"{steps} steps",
        compile=False,  # a compilation takes longer than these few steps
    )


def _at(training: Training, rate: float) -> Training:
    groups = cast(tuple[Group, ...], training.groups)  # settings made them of mappings
    scaled = (group if group.lr is None else replace(group, lr=group.lr * rate / training.lr) for group in groups)
    return replace(training, lr=rate, groups=tuple(scaled))
