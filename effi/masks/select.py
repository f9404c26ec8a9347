"""Masks from scores: exactly floor(s N) weights are pruned, ties by flat index, lowest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.kernels import takes
from effi.kernels.selection import Groups, Keyed, keep
from effi.masks.fit import Mask, check_fit
from effi.masks.threshold import by_partition, chunks

Scope = Literal["global", "tensor"]
Names = Sequence[Sequence[str]]  # of the tensors of each group that is ranked together


def everything(weights: Mapping[str, Tensor]) -> Mask:
    """The mask that prunes nothing."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def smallest(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: Scope = "global",
    within: Mask | None = None,
    trusted: bool = False,
) -> Mask:
    """Prune the floor(sparsity N + 1e-9) smallest of N scores, of all tensors together or of each ("tensor").

    Scores are compared in float32. Only positions kept by `within` are candidates; what it prunes stays pruned and
    counts. ParameterError for a sparsity outside (0, 1), a score that is not a number, or a `within` that does not fit
    or already prunes more; scores and `within` that are `trusted` are not looked at first, and nothing waits for their
    device.
    """
    return _select(scores, sparsity, scope, within, absolute=False, trusted=trusted)


def magnitude(
    weights: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: Scope = "global",
    within: Mask | None = None,
    trusted: bool = False,
) -> Mask:
    """`smallest` of |w|: the mask of one snapshot (Early Transformers, Sec. 3)."""
    return _select(weights, sparsity, scope, within, absolute=True, trusted=trusted)


def largest(scores: Mapping[str, Tensor], counts: Mapping[str, int], *, within: Mask | None = None) -> Mask:
    """Keep so many of each tensor, the largest |scores| of what `within` keeps; of equal ones the last come first.

    One selection for all tensors. ParameterError for a score that is not a number, or a `within` that does not fit or
    keeps fewer.
    """
    within = _beside(within, scores)
    if not scores:
        return {}
    groups, gone = [[name] for name in scores], [score.numel() - counts[name] for name, score in scores.items()]
    _check(scores, within, groups, gone)
    return _pruned(_keyed(scores, within, absolute=True), groups, gone)


def random(
    weights: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: Scope = "global",
    generator: torch.Generator | None = None,
) -> Mask:
    """A random mask with the same exact count; a generator gives the same mask on every device of the weights."""
    drawn = {name: _uniform(weight, generator) for name, weight in weights.items()}
    return smallest(drawn, sparsity, scope=scope, trusted=True)


def random_like(mask: Mask, generator: torch.Generator | None = None) -> Mask:
    """A random mask that prunes as many weights of every tensor as `mask` does."""
    gone = torch.stack([kept.numel() - kept.count_nonzero() for kept in mask.values()])
    drawn = {name: _uniform(kept, generator) for name, kept in mask.items()}
    return _pruned(_keyed(drawn, None, absolute=False), [[name] for name in mask], gone)


def pruned_count(sparsity: float, count: int) -> int:
    """How many of `count` weights a mask prunes: floor(sparsity count + 1e-9); the guard keeps 0.29 of 100 at 29.

    ParameterError for a sparsity outside (0, 1).
    """
    if not 0 < sparsity < 1:
        raise ParameterError(f"a sparsity of {sparsity:g} is outside (0, 1); give the share of weights to prune")
    return math.floor(sparsity * count + 1e-9)


def _select(
    scores: Mapping[str, Tensor], sparsity: float, scope: Scope, within: Mask | None, *, absolute: bool, trusted: bool
) -> Mask:
    if scope not in ("global", "tensor"):
        raise ParameterError(f'scope "{scope}" is neither "global" nor "tensor"')
    if not scores:
        raise ParameterError("there are no scores to rank; give at least one tensor")
    within = _beside(within, scores)
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    counts = [pruned_count(sparsity, sum(scores[name].numel() for name in group)) for group in groups]
    if not trusted:
        _check(scores, within, groups, counts)
    return _pruned(_keyed(scores, within, absolute=absolute), groups, counts)


def _beside(within: Mask | None, scores: Mapping[str, Tensor]) -> Mask | None:
    """What fits the scores, on their device."""
    if within is None:
        return None
    check_fit(within, scores, "the scores")
    return {name: within[name].to(score.device) for name, score in scores.items()}


def _keyed(scores: Mapping[str, Tensor], within: Mask | None, *, absolute: bool) -> dict[str, Keyed]:
    return {name: Keyed(score, None if within is None else within[name], absolute) for name, score in scores.items()}


def _check(scores: Mapping[str, Tensor], within: Mask | None, groups: Names, counts: Sequence[int]) -> None:
    """All are numbers, and `within` prunes no more than is asked for; one wait for the device."""
    sums = torch.stack([score.detach().sum(dtype=torch.float32) for score in scores.values()])
    facts = [sums.isnan().long()]
    if within is not None:
        facts.append(torch.stack([score.numel() - within[name].count_nonzero() for name, score in scores.items()]))
    suspects, *gone = torch.stack(facts).tolist()
    for (name, score), suspect in zip(scores.items(), suspects, strict=True):
        # A sum is not a number when a term is not, or when infinities cancel.
        if suspect and score.isnan().any():
            raise ParameterError(f'"{name}" holds values that are not numbers, which cannot be ranked; train it anew')
    pruned = dict(zip(scores, *gone, strict=True)) if gone else dict.fromkeys(scores, 0)
    for group, count in zip(groups, counts, strict=True):
        _check_room(group, sum(pruned[name] for name in group), count)


def _check_room(group: Sequence[str], gone: int, count: int) -> None:
    if gone > count:
        where = f'"{group[0]}"' + (" and others" if len(group) > 1 else "")
        raise ParameterError(
            f"`within` already prunes {gone:,} weights of {where}, more than the {count:,} asked for; "
            "raise the sparsity"
        )


def _pruned(tensors: Mapping[str, Keyed], groups: Names, counts: Sequence[int] | Tensor) -> Mask:
    """The mask without the smallest keys of each group, so many of it."""
    first, size = next(iter(tensors.values())), sum(map(len, tensors.values()))
    device = first.scores.device
    way = _keep_on_cpu if device.type == "cpu" and not takes("selection", device, size) else keep
    kept = chain.from_iterable(way([[tensors[name] for name in group] for group in groups], counts))
    return dict(zip(chain.from_iterable(groups), kept, strict=True))


def _keep_on_cpu(groups: Groups, counts: Sequence[int] | Tensor) -> list[list[Tensor]]:
    counts = counts.tolist() if isinstance(counts, Tensor) else counts
    return [_keep_of_group(group, count) for group, count in zip(groups, counts, strict=True)]


def _keep_of_group(group: Sequence[Keyed], count: int) -> list[Tensor]:
    if not count:
        return [torch.ones_like(one.scores, dtype=torch.bool) for one in group]
    threshold, found = by_partition(group, count), []
    ties = threshold.ties
    for one in group:
        kept = torch.empty(len(one), dtype=torch.bool)
        for start, keys in chunks(one):
            part = kept[start : start + len(keys)]
            torch.ge(keys, threshold.key, out=part)
            if ties:
                pruned = (keys == threshold.key).nonzero()[:ties, 0]
                part[pruned] = False
                ties -= len(pruned)
        found.append(kept.view(one.scores.shape))
    return found


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device).to(like.device)
