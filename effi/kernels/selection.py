"""The k-th smallest of many keys that lie in several tensors, exactly, of several groups at once; nothing waits.

The reference joins tensors, as every launch costs more than its work on a small one, and narrows the answer down by
histograms of 11, 11 and 10 bits. All numbers stay on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor

from effi.kernels.dispatch import takes
from effi.kernels.sending import to_device

LOWEST, HIGHEST = -(2**31), 2**31 - 1
MOST = 2**31  # keys that 32-bit counts can tell apart
# Shift and width of each digit, and its lowest value: the first one has the sign.
DIGITS = ((21, 11, -(2**10)), (10, 11, 0), (0, 10, 0))


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


Groups = Sequence[Sequence[Keyed]]


def keep(groups: Groups, counts: Sequence[int] | Tensor) -> list[list[Tensor]]:
    """For each group the bool masks of its tensors without its `counts` smallest keys, ties by position.

    All tensors lie on one device, all have a `kept` or none, and all are `absolute` or none; counts (G,) go from 0 to
    the number of keys of a group.
    """
    tensors = list(chain.from_iterable(groups))
    size, device = sum(map(len, tensors)), tensors[0].scores.device
    if size < MOST and takes("selection", device, size):
        from effi.kernels.gpu import selection

        return selection.keep(groups, _counts(counts, device))
    return by_torch(groups, counts)


def by_torch(groups: Groups, counts: Sequence[int] | Tensor) -> list[list[Tensor]]:
    """`keep` in plain torch, on any device."""
    tensors = list(chain.from_iterable(groups))
    keys, segment = joined(tensors), segments(groups)
    answers, ranks = by_histogram(keys, segment, _counts(counts, keys.device))
    key, ties = answers[segment], ranks[segment]
    tied = keys == key
    running = tied.cumsum(0)
    kept = (keys > key) | (tied & (running - _before(running, groups)[segment] > ties))
    parts = iter(kept.split([len(tensor) for tensor in tensors]))
    return [[next(parts).view(tensor.scores.shape) for tensor in group] for group in groups]


def joined(tensors: Sequence[Keyed]) -> Tensor:
    """Keys of all tensors in order, int32 (N,)."""
    scores = torch.cat([tensor.scores.detach().reshape(-1) for tensor in tensors])
    masked = [tensor.kept for tensor in tensors if tensor.kept is not None]
    kept = torch.cat([each.reshape(-1) for each in masked]) if masked else None
    return Keyed(scores, kept, tensors[0].absolute).keys()


def segments(groups: Groups) -> Tensor:
    """The group of each key (N,), or 0 as a number where there is only one."""
    device = groups[0][0].scores.device
    if len(groups) == 1:
        return torch.zeros((), dtype=torch.int64, device=device)
    sizes = to_device([sum(map(len, group)) for group in groups], device)
    return torch.arange(len(groups), dtype=torch.int32, device=device).repeat_interleave(
        sizes, output_size=_size(groups)
    )


def by_histogram(keys: Tensor, segment: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Per group (G,) the `counts`-th smallest of the joined keys (N,), and how many equal ones it counts among them."""
    prefix, rank = torch.zeros_like(counts, dtype=torch.int32), counts
    for shift, bits, first in DIGITS:
        base = (prefix << bits) + first
        digits = (keys >> shift).sub_(base[segment])
        below = _histogram(digits, segment, 2**bits, len(counts)).cumsum(1)
        digit = (below < rank[:, None]).sum(1)
        before = below.gather(1, (digit - 1).clamp_min(0)[:, None])[:, 0]
        rank = rank - torch.where(digit > 0, before, 0)
        prefix = (base + digit).int()
    return prefix, rank


def _counts(values: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    return values.to(device, torch.int64) if isinstance(values, Tensor) else to_device(values, device)


def _histogram(digits: Tensor, segment: Tensor, bins: int, groups: int) -> Tensor:
    """Counts (G, bins) of 0 .. bins - 1 in each group; what lies outside is not counted."""
    inside = (digits >= 0) & (digits < bins)
    places = digits if groups == 1 else torch.where(inside, segment * bins + digits, -1)
    if digits.is_cuda:
        # Reads integers on CUDA only; bincount would wait for the device.
        return torch.histc(places, groups * bins, 0, groups * bins).view(groups, bins)
    return torch.bincount(places[inside], minlength=groups * bins).view(groups, bins)


def _before(running: Tensor, groups: Groups) -> Tensor:
    """What a running sum (N,) was before each group (G,)."""
    if len(groups) == 1:
        return running.new_zeros(1)
    firsts = [0, *accumulate(sum(map(len, group)) for group in groups[:-1])]
    return torch.cat([running.new_zeros(1), running])[to_device(firsts, running.device)]


def _size(groups: Groups) -> int:
    return sum(map(len, chain.from_iterable(groups)))
