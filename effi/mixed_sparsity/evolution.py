"""One topology update: every layer drops its weakest weights and grows others, by gradient and at random (MG)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from effi import masks
from effi.errors import ParameterError
from effi.masks import Mask
from effi.masks.fit import check_fit

Score = Literal["magnitude", "mest", "sensitivity", "accumulated"]
Order = Literal["instead", "after"]
Weights = Mapping[str, Tensor]
Name = TypeVar("Name")
ORIGINS = ("gradient", "random")
CLOSE = 1e-4  # between sparsities that count as the same (official code)
ENDLESS = 1e16  # a mix that no count of weights tells from infinity, and that a record can hold
GUARD = 1e-9  # keeps 0.29 of 100 weights at 29


@dataclass(frozen=True)
class Evolution:
    """How connections move; the static, SET and RigL arms are drop=0, mix=0 and mix=inf.

    An update after each `every` steps (DT) drops at most the share `drop` (zeta) of the active weights, less along a
    cosine of the training, or with `restart` of each phase, and none from the share `until` of the training on, when
    only a schedule's own sparsity is followed. `mix` (r) weights are grown by gradient for each one at random.
    Dropped is what has the lowest `score`: |w| ("magnitude"), |w| + `gradient_weight` |g| ("mest", its lambda),
    |w / (g + 1e-9)| ("sensitivity"), or |w| until the share is one of the sum of |w| ("accumulated").
    `order`: the update takes the place of the optimiser's step ("instead", RigL) or comes after it ("after", SET).
    ParameterError for values outside their ranges. Official code; MEST (Yuan et al. 2021).
    """

    every: int = 100
    drop: float = 0.3
    mix: float = 3.0
    score: Score = "magnitude"
    gradient_weight: float = 0.01
    restart: bool = True
    until: float = 1.0
    order: Order = "instead"

    def __post_init__(self) -> None:
        for name, known in (("score", Score), ("order", Order)):
            if getattr(self, name) not in get_args(known):
                raise ParameterError(
                    f"{name} {getattr(self, name)!r} of an evolution is unknown; use {', '.join(get_args(known))}"
                )
        if self.every < 1:
            raise ParameterError(f"every={self.every} of an evolution: give 1 step between updates, or more")
        for name in ("drop", "until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ParameterError(f"{name}={getattr(self, name):g} of an evolution: give a share from 0 to 1")
        for name in ("mix", "gradient_weight"):
            if not getattr(self, name) >= 0:
                raise ParameterError(f"{name}={getattr(self, name):g} of an evolution: give 0 or more")
        object.__setattr__(self, "mix", min(self.mix, ENDLESS))

    @property
    def sees_gradients(self) -> bool:
        """Whether an update asks for dense gradients."""
        return self.mix > 0 or self.score in ("mest", "sensitivity")


class Turnover(NamedTuple):
    """How many weights a layer drops, and how many it grows by gradient and at random, just-dropped ones included."""

    pruned: int
    gradient: int
    random: int


class Evolved(NamedTuple):
    """The mask after an update, what is to be told of it, and by origin what was inactive before and is active now."""

    mask: Mask
    facts: dict[str, float]
    activated: dict[str, Mask]


def drop_fraction(share: float, options: Evolution, starts: Sequence[float] = ()) -> float:
    """f = zeta / 2 (1 + cos(pi (t - t0) / (t1 - t0))) at a share t of the training; 0 from `until` on.

    From t0 to t1 reaches the training up to `until`, or with `restart` a phase of it, which begin at `starts`.
    """
    if share >= options.until:
        return 0.0
    ends = [0.0, *(starts if options.restart else ()), options.until]
    start, end = max(each for each in ends if each <= share), min(each for each in ends if each > share)
    return options.drop / 2 * (1 + math.cos(math.pi * (share - start) / (end - start)))


def turnover(size: int, active: int, target: float, least: int, mix: float) -> Turnover:
    """Counts of one layer of `size` weights that is to have the sparsity `target`, and to drop at least so many.

    gap = floor((target - S) N); max(least, gap) are dropped and as many less the gap grown (official code): the layer
    ends with floor(target N) pruned. Clamped to free positions, as a target of rounded densities may be below 0.
    """
    gap = math.floor(target * size - (size - active) + GUARD)
    pruned = max(least, gap)
    grown = min(pruned - gap, size - active + pruned)
    by_gradient = grown if math.isinf(mix) else math.floor(grown * mix / (mix + 1) + GUARD)
    return Turnover(pruned, by_gradient, grown - by_gradient)


def evolve(
    weights: Weights,
    mask: Mask,
    targets: Mapping[str, float],
    *,
    share: float,
    gradients: Weights | None = None,
    options: Evolution,
    generator: torch.Generator,
    starts: Sequence[float] = (),
) -> Evolved:
    """One update at a `share` of the training towards `targets`, name -> sparsity.

    Layers keep their own sparsity when all of them together are within 1e-4 of the targets. A CPU `generator` gives
    the same masks on every device. `gradients` are dense, and needed where `options.sees_gradients`. Facts: `pruned`,
    `gradient` and `random` as in Turnover, of all layers; `active` after the update, `activated/ORIGIN` of them
    inactive before, and `churn`, the share of these. ParameterError where mask, weights and gradients do not fit.
    """
    check_fit(mask, weights, "the set of weights")
    if options.sees_gradients:
        check_fit(mask, gradients or {}, "the set of gradients")
    counts = _counts(mask)
    targets = _settled(targets, mask, counts)
    fraction = drop_fraction(share, options, starts)
    layers = {
        name: _Layer(weights[name], kept, counts[name], (gradients or {}).get(name), options)
        for name, kept in mask.items()
    }
    asked = {
        name: turnover(layer.size, layer.active, targets[name], layer.least(fraction), options.mix)
        for name, layer in layers.items()
    }
    found, activated = _evolved(layers, asked, generator)
    return Evolved(found, _facts(counts, asked, activated), activated)


def _evolved(
    layers: Mapping[str, _Layer], asked: Mapping[str, Turnover], generator: torch.Generator
) -> tuple[Mask, dict[str, Mask]]:
    """The mask after an update, and what was inactive before, by origin; a few waits for all layers together."""
    left = {name: layer.active - asked[name].pruned for name, layer in layers.items()}
    stay = {name: layer.kept for name, layer in layers.items()}
    stay |= _largest({name: layer.scores() for name, layer in layers.items() if asked[name].pruned}, left, stay)
    free = {name: ~each for name, each in stay.items()}
    gradients = {name: layer.dense() for name, layer in layers.items() if asked[name].gradient}
    grown = {"gradient": _largest(gradients, {name: each.gradient for name, each in asked.items()}, free)}
    for name, each in grown["gradient"].items():
        free[name] ^= each
    places = {name: layer.size - left[name] - asked[name].gradient for name, layer in layers.items()}
    grown["random"] = drawn(free, {name: each.random for name, each in asked.items()}, places, generator)
    mask, activated = stay, {}
    for origin, new in grown.items():
        mask = mask | {name: mask[name] | each for name, each in new.items()}
        activated[origin] = {name: _new(new.get(name), layer.kept) for name, layer in layers.items()}
    return mask, activated


def _largest(scores: Weights, counts: Mapping[str, int], within: Mask) -> Mask:
    return masks.largest(scores, counts, within={name: within[name] for name in scores})


def _new(grown: Tensor | None, kept: Tensor) -> Tensor:
    """What has grown and was inactive before."""
    return torch.zeros_like(kept) if grown is None else grown & ~kept


def is_settled(target: float, sparsity: float) -> bool:
    """Whether two sparsities count as the same."""
    return abs(target - sparsity) < CLOSE


def _settled(targets: Mapping[str, float], mask: Mask, counts: Mapping[str, int]) -> Mapping[str, float]:
    """The targets, or the layers' own sparsities where there is nothing to close."""
    sizes = {name: kept.numel() for name, kept in mask.items()}
    whole = sum(sizes.values())
    wanted = sum(targets[name] * size for name, size in sizes.items()) / whole
    if is_settled(wanted, 1 - sum(counts.values()) / whole):
        return {name: (size - counts[name]) / size for name, size in sizes.items()}
    return targets


@dataclass(frozen=True)
class _Layer:
    """One layer before an update; `active` counts what is kept."""

    weight: Tensor
    kept: Tensor
    active: int
    gradient: Tensor | None
    options: Evolution

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.kept.numel()

    def least(self, fraction: float) -> int:
        """How many weights the drop fraction stands for."""
        if self.options.score != "accumulated":
            return math.floor(fraction * self.active + GUARD)
        magnitudes = self.weight.detach()[self.kept].abs().float().cpu().numpy()
        return _smallest_within(magnitudes, fraction * float(magnitudes.sum(dtype=np.float64))) if fraction else 0

    def scores(self) -> Tensor:
        """What is dropped first is smallest, by absolute value."""
        weight = self.weight.detach()
        if self.options.score == "mest":
            return weight.abs() + self.options.gradient_weight * self.dense().abs()
        return weight / (self.dense() + 1e-9) if self.options.score == "sensitivity" else weight

    def dense(self) -> Tensor:
        """The gradient of all weights."""
        assert self.gradient is not None  # checked for all layers at once
        return self.gradient


def drawn(free: Mask, counts: Mapping[str, int], places: Mapping[str, int], generator: torch.Generator) -> Mask:
    """So many of the `places` positions that are `free` in each layer, each set equally likely; bool of its shape.

    Drawn layer by layer, and sent to the device of `free` at once.
    """
    chosen = [_chosen(places[name], counts[name], generator) for name in free if counts[name]]
    device = next(iter(free.values())).device
    sent = iter(torch.cat(chosen).to(device).split([len(each) for each in chosen]) if chosen else ())
    found = {name: torch.zeros_like(each) for name, each in free.items()}
    for name in free:
        if counts[name]:
            found[name].masked_scatter_(free[name], next(sent))
    return found


def _chosen(places: int, count: int, generator: torch.Generator) -> Tensor:
    """The first `count` different numbers of a stream of uniform ones, as flags (places,)."""
    if 2 * count > places:  # most numbers would have come before
        return ~_chosen(places, places - count, generator)
    flags, missing = torch.zeros(places, dtype=torch.bool), count
    while missing:
        flags[torch.randint(places, (missing,), generator=generator)] = True
        missing = count - int(np.count_nonzero(flags.numpy()))
    return flags


def _smallest_within(values: np.ndarray, budget: float) -> int:
    """How many of the smallest values sum to at most a budget; halves what is left, so that nothing is sorted."""
    count = 0
    while len(values):
        middle = len(values) // 2
        values.partition(middle)
        lower = float(values[: middle + 1].sum(dtype=np.float64))
        if lower <= budget:
            count, budget, values = count + middle + 1, budget - lower, values[middle + 1 :]
        else:
            values = values[:middle]
    return count


def _counts(mask: Mapping[Name, Tensor]) -> dict[Name, int]:
    """Name -> active weights; one wait for the device."""
    found = torch.stack([kept.count_nonzero() for kept in mask.values()]).tolist()
    return dict(zip(mask, found, strict=True))


def _facts(before: Mapping[str, int], asked: Mapping[str, Turnover], activated: Mapping[str, Mask]) -> dict[str, float]:
    sums = {name: sum(getattr(each, name) for each in asked.values()) for name in Turnover._fields}
    active = sum(before.values()) - sums["pruned"] + sums["gradient"] + sums["random"]
    each = _counts({(origin, name): new for origin, own in activated.items() for name, new in own.items()})
    new = {f"activated/{origin}": sum(each[origin, name] for name in own) for origin, own in activated.items()}
    return sums | {"active": active, **new, "churn": sum(new.values()) / active if active else 0.0}
