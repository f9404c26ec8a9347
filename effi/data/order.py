"""In which order examples come, computed and not held: a seeded permutation of any number of places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import torch
from torch import Tensor

from effi.seeds import derive

ROUNDS = 6
# Half the bits of the smallest network: one over fewer values knows few permutations.
LEAST_HALF = 4


def mix(values: np.ndarray, key: int) -> np.ndarray:
    """uint64 (n,) to uint64 (n,) that look random, another such map for each key (the finaliser of SplitMix64)."""
    mixed = values + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def uniform(places: np.ndarray, width: int, key: int) -> Tensor:
    """float64 (k, width) in [0, 1) for each of the places int64 (k,): always the same at a place, whoever asks."""
    counted = places.astype(np.uint64)[:, None] * np.uint64(width) + np.arange(width, dtype=np.uint64)
    # Twice, as numbers one after another are no noise to start from.
    mixed = mix(mix(counted, key), key)
    return torch.from_numpy((mixed >> np.uint64(11)) * 2.0**-53)


def places(of: int, count: int) -> Tensor:
    """So many places among others, evenly spaced, int64 (count,)."""
    return torch.arange(count) * of // count


@dataclass(frozen=True)
class Permutation:
    """A seeded permutation of the numbers below `count`: called with places int64 (k,) it says what stands there.

    A Feistel network over the powers of four permutes more numbers than that; what falls beyond `count` goes through it
    again until it does not (cycle walking, Black and Rogaway 2002), so that every number below it comes up once.
    """

    count: int
    seed: int

    def __call__(self, places: Tensor) -> Tensor:
        """What stands at the places, int64 (k,), each 0 or more and below `count`."""
        values = self._once(places.numpy().astype(np.uint64))
        while (beyond := values >= self.count).any():
            values[beyond] = self._once(values[beyond])
        return torch.from_numpy(values.astype(np.int64))

    @cached_property
    def _keys(self) -> tuple[int, ...]:
        return tuple(derive(self.seed, f"round {number}") for number in range(ROUNDS))

    @cached_property
    def _half(self) -> int:
        """Bits of each of the two halves."""
        return max(LEAST_HALF, ceil((self.count - 1).bit_length() / 2))

    def _once(self, values: np.ndarray) -> np.ndarray:
        half, low = np.uint64(self._half), np.uint64(2**self._half - 1)
        left, right = values >> half, values & low
        for key in self._keys:
            left, right = right, left ^ (mix(right, key) & low)
        return (left << half) | right


@dataclass(frozen=True)
class Draws:
    """Batches of `size` of `count` examples, every epoch in an order of its own that nothing holds.

    Any step can be asked for, so that a training goes on from its number alone. Of `world` processes the one of `rank`
    is given its own part, of a batch that is the same for any number of them.
    """

    count: int
    size: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch; the last one may be short."""
        return ceil(self.count / self.size)

    def batch(self, step: int) -> Tensor:
        """Examples int64 (k,) of this rank at step 0, 1, ...; the parts by rank, one after another, are the batch."""
        epoch, number = divmod(step, self.per_epoch)
        whole = torch.arange(number * self.size, min((number + 1) * self.size, self.count))
        own = whole.tensor_split(self.world)[self.rank]
        return Permutation(self.count, derive(self.seed, f"epoch {epoch}"))(own)
