"""The k-th smallest of many keys that lie in several tensors, exactly.

On a CPU a random sample brackets the answer, one pass counts what lies below and gathers what lies between, and a
partition of those few settles it; nothing is joined. Elsewhere the tensors are joined, as every launch of a kernel
costs more than its work, and three histograms of 11, 11 and 10 bits narrow the answer down: all numbers stay on the
device, so that nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LOWEST, HIGHEST = -(2**31), 2**31 - 1
SAMPLE, CHUNK, DEVIATIONS = 2**18, 2**21, 5


@dataclass(frozen=True)
class Keyed:
    """Scores of one tensor as int32 keys in the same order, made when asked; what `kept` leaves out comes first.

    With `absolute` the keys order |score|.
    """

    scores: Tensor
    kept: Tensor | None = None
    absolute: bool = False

    def __len__(self) -> int:
        return self.scores.numel()

    def keys(self, part: slice | Tensor = slice(None)) -> Tensor:
        """Keys of some of the flattened scores; -0 and 0 have the same key."""
        bits = self.scores.detach().reshape(-1)[part].float().view(torch.int32)
        keys = bits & HIGHEST if self.absolute else torch.where(bits < 0, LOWEST - bits, bits)
        return keys if self.kept is None else keys.masked_fill_(~self.kept.reshape(-1)[part], LOWEST)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Start and keys of pieces: few, as threads meet after each."""
        for start in range(0, len(self), CHUNK):
            yield start, self.keys(slice(start, start + CHUNK))


@dataclass(frozen=True)
class Threshold:
    """Smaller keys are pruned, and the first `ties` equal ones; numbers, or tensors on the device."""

    key: int | Tensor
    ties: int | Tensor


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
        for _, chunk in tensor.chunks():
            keys = chunk.numpy()
            below += int(np.count_nonzero(keys < low))
            between.append(keys[(keys >= low) & (keys <= high)])
    return below, np.concatenate(between)


def joined(tensors: Sequence[Keyed]) -> Tensor:
    """Keys of all tensors in order, int32 (N,)."""
    scores = torch.cat([tensor.scores.detach().reshape(-1) for tensor in tensors])
    masked = [tensor.kept for tensor in tensors if tensor.kept is not None]
    kept = torch.cat([each.reshape(-1) for each in masked]) if masked else None
    return Keyed(scores, kept, tensors[0].absolute).keys()


def by_histogram(keys: Tensor, k: int) -> Threshold:
    """The same of joined keys, on any device and with no wait for it."""
    prefix, rank = torch.zeros((), dtype=torch.int32, device=keys.device), torch.full((), k, device=keys.device)
    for shift, bits, first in ((21, 11, -(2**10)), (10, 11, 0), (0, 10, 0)):
        base = (prefix << bits) + first
        counts = _histogram((keys >> shift).sub_(base), 2**bits).cumsum(0)
        digit = (counts < rank).sum()
        rank = rank - torch.where(digit > 0, counts[digit - 1], 0)
        prefix = (base + digit).int()
    return Threshold(prefix, rank)


def _histogram(digits: Tensor, bins: int) -> Tensor:
    """Counts of 0 .. bins - 1; what lies outside is not counted."""
    if digits.is_cuda:
        return torch.histc(digits, bins, 0, bins)  # reads integers on CUDA only; bincount would wait for the device
    return torch.bincount(digits[(digits >= 0) & (digits < bins)], minlength=bins)
