"""The k-th smallest of many keys that lie in several tensors, exactly, on a CPU; elsewhere `effi.kernels.selection`.

A random sample brackets the answer, one pass counts what lies below and gathers what lies between, and a partition of
those few settles it; nothing is joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from effi.kernels.selection import HIGHEST, LOWEST, Keyed

SAMPLE, CHUNK, DEVIATIONS = 2**18, 2**21, 5


@dataclass(frozen=True)
class Threshold:
    """Smaller keys are pruned, and the first `ties` equal ones."""

    key: int
    ties: int


def chunks(tensor: Keyed) -> Iterator[tuple[int, Tensor]]:
    """Start and keys of pieces of a tensor: few, as threads meet after each."""
    for start in range(0, len(tensor), CHUNK):
        yield start, tensor.keys(slice(start, start + CHUNK))


def by_partition(tensors: Sequence[Keyed], k: int) -> Threshold:
    """Threshold that prunes the k smallest keys, 1 <= k <= their number, on a CPU.

    Where a sample misled or would be no smaller, all keys are gathered.
    """
    low, high = _bracket(tensors, k) if sum(map(len, tensors)) > SAMPLE else (LOWEST, HIGHEST)
    below, between = _split(tensors, low, high)
    if not below < k <= below + len(between):
        below, between = _split(tensors, LOWEST, HIGHEST)
    rank = k - below - 1
    between.partition(rank)
    key = int(between[rank])
    return Threshold(key, rank + 1 - int(np.count_nonzero(between[:rank] < key)))


def _bracket(tensors: Sequence[Keyed], k: int) -> tuple[int, int]:
    """Two keys between which the k-th one lies, up to five standard deviations of a sampled quantile."""
    total, draw = sum(map(len, tensors)), torch.Generator().manual_seed(0)
    sizes = [-(-len(tensor) * SAMPLE // total) for tensor in tensors]
    places = [torch.randint(len(t), (size,), generator=draw) for t, size in zip(tensors, sizes, strict=True) if len(t)]
    sample = np.sort(torch.cat([t.keys(p) for t, p in zip(filter(len, tensors), places, strict=True)]).numpy())
    share, count = k / total, len(sample)
    spread = DEVIATIONS * (count * share * (1 - share)) ** 0.5 + 1
    first, last = int(share * count - spread), int(share * count + spread)
    return (LOWEST if first < 0 else int(sample[first])), (HIGHEST if last >= count else int(sample[last]))


def _split(tensors: Sequence[Keyed], low: int, high: int) -> tuple[int, np.ndarray]:
    """How many keys are below `low`, and those from `low` to `high`."""
    below, between = 0, []
    for tensor in tensors:
        for _, chunk in chunks(tensor):
            keys = chunk.numpy()
            below += int(np.count_nonzero(keys < low))
            between.append(keys[(keys >= low) & (keys <= high)])
    return below, np.concatenate(between)
