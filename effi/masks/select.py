"""Masks from scores: exactly floor(s N) weights are pruned, ties by flat index, lowest first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.masks.fit import Mask, check_fit
from effi.masks.threshold import Keyed, by_histogram, by_partition, joined

Scope = Literal["global", "tensor"]


def everything(weights: Mapping[str, Tensor]) -> Mask:
    """The mask that prunes nothing."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def smallest(
    scores: Mapping[str, Tensor], sparsity: float, *, scope: Scope = "global", within: Mask | None = None
) -> Mask:
    """Prune the floor(sparsity N + 1e-9) smallest of N scores, of all tensors together or of each ("tensor").

    Scores are compared in float32. Only positions kept by `within` are candidates; what it prunes stays pruned and
    counts. ParameterError for a sparsity outside (0, 1), a score that is not a number, or a `within` that does not fit
    or already prunes more.
    """
    return _select(scores, sparsity, scope, within, absolute=False)


def magnitude(
    weights: Mapping[str, Tensor], sparsity: float, *, scope: Scope = "global", within: Mask | None = None
) -> Mask:
    """`smallest` of |w|: the mask of one snapshot (Early Transformers, Sec. 3)."""
    return _select(weights, sparsity, scope, within, absolute=True)


def random(
    weights: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: Scope = "global",
    generator: torch.Generator | None = None,
) -> Mask:
    """A random mask with the same exact count; a generator gives the same mask on every device of the weights."""
    return smallest({name: _uniform(weight, generator) for name, weight in weights.items()}, sparsity, scope=scope)


def random_like(mask: Mask, generator: torch.Generator | None = None) -> Mask:
    """A random mask that prunes as many weights of every tensor as `mask` does."""
    drawn: Mask = {}
    for name, kept in mask.items():
        gone = kept.numel() - int(kept.count_nonzero())
        drawn |= _pruned({name: Keyed(_uniform(kept, generator))}, gone)
    return drawn


def pruned_count(sparsity: float, count: int) -> int:
    """How many of `count` weights a mask prunes: floor(sparsity count + 1e-9); the guard keeps 0.29 of 100 at 29.

    ParameterError for a sparsity outside (0, 1).
    """
    if not 0 < sparsity < 1:
        raise ParameterError(f"a sparsity of {sparsity:g} is outside (0, 1); give the share of weights to prune")
    return math.floor(sparsity * count + 1e-9)


def _select(
    scores: Mapping[str, Tensor], sparsity: float, scope: Scope, within: Mask | None, *, absolute: bool
) -> Mask:
    if scope not in ("global", "tensor"):
        raise ParameterError(f'scope "{scope}" is neither "global" nor "tensor"')
    if not scores:
        raise ParameterError("there are no scores to rank; give at least one tensor")
    if within is not None:
        check_fit(within, scores, "the scores")
    _reject_nan(scores)
    keyed = {name: Keyed(score, None if within is None else within[name], absolute) for name, score in scores.items()}
    groups = [keyed] if scope == "global" else [{name: one} for name, one in keyed.items()]
    mask: Mask = {}
    for group in groups:
        k = pruned_count(sparsity, sum(map(len, group.values())))
        _check_room(group, k)
        mask |= _pruned(group, k)
    return mask


def _reject_nan(scores: Mapping[str, Tensor]) -> None:
    """One wait for the device; a sum is not a number when a term is not, or when infinities cancel."""
    suspects = torch.stack([score.detach().sum(dtype=torch.float32) for score in scores.values()]).isnan().tolist()
    for (name, score), suspect in zip(scores.items(), suspects, strict=True):
        if suspect and score.isnan().any():
            raise ParameterError(f'"{name}" holds values that are not numbers, which cannot be ranked; train it anew')


def _check_room(group: Mapping[str, Keyed], k: int) -> None:
    gone = sum(len(one) - int(one.kept.count_nonzero()) for one in group.values() if one.kept is not None)
    if gone > k:
        where = f'"{next(iter(group))}"' + (" and others" if len(group) > 1 else "")
        raise ParameterError(
            f"`within` already prunes {gone:,} weights of {where}, more than the {k:,} asked for; raise the sparsity"
        )


def _pruned(tensors: Mapping[str, Keyed], k: int) -> Mask:
    """The mask without the k smallest keys."""
    if k == 0:
        return everything({name: one.scores for name, one in tensors.items()})
    on_cpu = next(iter(tensors.values())).scores.device.type == "cpu"
    return (_keep_on_cpu if on_cpu else _keep_on_device)(tensors, k)


def _keep_on_cpu(tensors: Mapping[str, Keyed], k: int) -> Mask:
    threshold = by_partition(list(tensors.values()), k)
    mask, ties = {}, threshold.ties
    for name, one in tensors.items():
        kept = torch.empty(len(one), dtype=torch.bool)
        for start, keys in one.chunks():
            part = kept[start : start + len(keys)]
            torch.ge(keys, threshold.key, out=part)
            if ties:
                pruned = (keys == threshold.key).nonzero()[:ties, 0]
                part[pruned] = False
                ties -= len(pruned)
        mask[name] = kept.view(one.scores.shape)
    return mask


def _keep_on_device(tensors: Mapping[str, Keyed], k: int) -> Mask:
    """As on a CPU, but of joined keys, and ties are counted with a running sum, so that nothing waits."""
    keys = joined(list(tensors.values()))
    threshold = by_histogram(keys, k)
    tied = keys == threshold.key
    kept = (keys > threshold.key) | (tied & (tied.cumsum(0) > threshold.ties))
    parts = zip(tensors.items(), kept.split([len(one) for one in tensors.values()]), strict=True)
    return {name: part.view(one.scores.shape) for (name, one), part in parts}


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device).to(like.device)
