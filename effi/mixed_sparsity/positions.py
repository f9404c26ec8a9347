"""Causal attention patterns as functions of position: which query sees which key, counted in closed form.

Shapes: T tokens; a query stands at i, a key at j, both from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from effi.errors import ParameterError, did_you_mean

Kind = Literal["causal", "local", "strided", "merged", "fixed"]
TILE = 128


class Density(NamedTuple):
    """Share of pairs among all T^2, and among the T (T + 1) / 2 causal ones."""

    square: float
    causal: float


@dataclass(frozen=True)
class Pattern:
    """The keys j <= i that a query sees, by a window or stride s of tokens (Child et al. 2019; official code).

    "causal" all of them, with no window; "local" i - j < s; "strided" (i - j) % s = 0; "merged" local or strided;
    "fixed" those of its own block of s tokens, and j % s = s - 1, the summaries of earlier blocks.
    ParameterError for an unknown kind, a window below 1, and one too many or missing.
    """

    kind: Kind
    window: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParameterError(f"attention pattern {self.kind!r} is unknown{did_you_mean(self.kind, get_args(Kind))}")
        if self.kind == "causal" and self.window is not None:
            raise ParameterError(f"causal attention sees all earlier tokens: leave out its window of {self.window}")
        if self.kind != "causal" and (self.window is None or self.window < 1):
            raise ParameterError(f"a window of {self.window} for {self.kind} attention: give one of 1 token at least")

    @property
    def size(self) -> int:
        """The window as a number; 1 for causal attention, which has none."""
        return self.window or 1

    def check(self, tokens: int) -> None:
        """ParameterError for a window longer than a context of so many tokens."""
        if self.size > tokens:
            raise ParameterError(
                f"a window of {self.window} for {self.kind} attention is longer than the context of {tokens} tokens; "
                "shorten it"
            )

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether queries at these positions see keys at those, bool; integer tensors that broadcast."""
        apart, size = query - key, self.size
        local, strided = apart < size, apart % size == 0
        own = query.div(size, rounding_mode="floor") == key.div(size, rounding_mode="floor")
        seen = {
            "causal": torch.ones_like(local),
            "local": local,
            "strided": strided,
            "merged": local | strided,
            "fixed": own | (key % size == size - 1),
        }
        return seen[self.kind] & (apart >= 0)

    def dense(self, tokens: int) -> Tensor:
        """The mask itself, bool (T, T), True where row i sees column j: the reference of everything else."""
        self.check(tokens)
        positions = torch.arange(tokens)
        return self.allows(positions[:, None], positions)

    def pairs(self, tokens: int) -> int:
        """How many pairs of a query and a key it sees there are, in closed form."""
        self.check(tokens)
        size, (blocks, rest) = self.size, divmod(tokens, self.size)
        causal, earlier = _triangle(tokens), size * _triangle(blocks - 1) + rest * blocks
        local, strided = size * tokens - _triangle(size - 1), earlier + tokens
        return {
            "causal": causal,
            "local": local,
            "strided": strided,
            "merged": local + strided - tokens,  # both have the diagonal, and nothing else
            "fixed": blocks * _triangle(size) + _triangle(rest) + earlier,
        }[self.kind]

    def density(self, tokens: int) -> Density:
        """Shares of the pairs, relative to T^2 and to causal attention."""
        pairs = self.pairs(tokens)
        return Density(pairs / tokens**2, pairs / _triangle(tokens))

    def tiles(self, tokens: int, tile: int = TILE) -> int:
        """How many tiles of tile x tile pairs hold at least one that is seen: what a block-sparse kernel computes."""
        self.check(tokens)
        if tile < 1:
            raise ParameterError(f"tiles of {tile} pairs: give a length of 1 at least")
        first = torch.arange(0, tokens, tile)
        last = (first + tile).clamp_max(tokens) - 1
        return int(self._occupied(first[:, None], last[:, None], first, last).count_nonzero())

    def _occupied(self, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Whether queries top .. bottom see any of the keys left .. right, where the tiles are of one grid."""
        size, nearest, farthest = self.size, (top - right).clamp_min(0), bottom - left
        causal, local = farthest >= 0, nearest < size
        strided = _multiple(nearest, farthest, size)
        # The last key and the first query share a block if any two of different tiles do; one tile of two blocks has a
        # summary.
        own = top.div(size, rounding_mode="floor") == right.div(size, rounding_mode="floor")
        summary = _multiple(left + 1, right.minimum(bottom) + 1, size)
        seen = {"causal": causal, "local": local, "strided": strided, "merged": local | strided, "fixed": own | summary}
        return seen[self.kind] & causal


@dataclass(frozen=True)
class HeadSplit:
    """Half of the heads with a "local" pattern, the others with a "strided" one (Child et al. 2019, Sec. 5.1).

    The official code gives all heads one pattern. Counts are means of the two, so those of a head on average.
    ParameterError for a window below 1.
    """

    window: int

    def __post_init__(self) -> None:
        Pattern("local", self.window)  # checks it

    @property
    def patterns(self) -> tuple[Pattern, Pattern]:
        """That of the first half of the heads, and that of the second."""
        return Pattern("local", self.window), Pattern("strided", self.window)

    def check(self, tokens: int) -> None:
        """ParameterError for a window longer than a context of so many tokens."""
        self.patterns[0].check(tokens)

    def dense(self, tokens: int) -> Tensor:
        """The masks themselves, bool (2, T, T), one for each half: the reference of everything else."""
        return torch.stack([pattern.dense(tokens) for pattern in self.patterns])

    def pairs(self, tokens: int) -> float:
        """How many pairs of a query and a key it sees there are."""
        return sum(pattern.pairs(tokens) for pattern in self.patterns) / 2

    def density(self, tokens: int) -> Density:
        """Shares of the pairs, relative to T^2 and to causal attention."""
        pairs = self.pairs(tokens)
        return Density(pairs / tokens**2, pairs / _triangle(tokens))

    def tiles(self, tokens: int, tile: int = TILE) -> float:
        """How many tiles of tile x tile pairs hold at least one that is seen."""
        return sum(pattern.tiles(tokens, tile) for pattern in self.patterns) / 2


def _triangle(count: int) -> int:
    """1 + 2 + ... + count."""
    return count * (count + 1) // 2


def _multiple(low: Tensor, high: Tensor, of: int) -> Tensor:
    """Whether low .. high, none of them negative, has a multiple of a number."""
    return high - high % of >= low
