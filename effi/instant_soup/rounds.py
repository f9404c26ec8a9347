"""When a training prunes and how much: segments that grow, and as few rounds as the target asks for (Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

from effi.errors import ParameterError

Growth = Literal["linear", "constant"]
CLOSE = 1e-9  # sparsities that are equal but for rounding


@dataclass(frozen=True)
class Rounds:
    """Rounds of pruning until `target`; each takes the share `rate` of the weights alive, or not `relative`, of all.

    Segment i = 0, 1, ... before a prune is `first` epochs long times i + 1, or always ("constant"), at most `cap`
    epochs. All end within the share `stage` of the training. ParameterError for values outside their ranges.
    """

    target: float
    rate: float = 0.15
    relative: bool = True
    first: float = 0.1
    growth: Growth = "linear"
    cap: float | None = None
    stage: float = 0.75

    def __post_init__(self) -> None:
        for name in ("target", "rate"):
            if not 0 < getattr(self, name) < 1:
                raise ParameterError(f"{name}={getattr(self, name):g} of rounds of pruning: give a share within (0, 1)")
        if not 0 < self.stage <= 1:
            raise ParameterError(f"stage={self.stage:g} of rounds of pruning: give a share of the training up to 1")
        if self.first <= 0 or (self.cap is not None and self.cap <= 0):
            raise ParameterError(f"first={self.first:g} and cap={self.cap} of rounds of pruning are epochs above 0")
        if self.growth not in get_args(Growth):
            raise ParameterError(f"growth {self.growth!r} is unknown; give one of {', '.join(get_args(Growth))}")

    def after(self, sparsity: float) -> float:
        """Sparsity after a round whose masks agree; the last round prunes only what the target asks for.

        It takes along what is less than a hundredth of a round, such as weights left over by rounding.
        """
        step = self.rate * (1 - sparsity) if self.relative else self.rate
        return self.target if self.target - sparsity <= 1.01 * step else sparsity + step

    def ladder(self, closing: float = 0.0) -> list[float]:
        """Sparsities after each round when masks agree, up to the target, from which less than `closing` is one cut."""
        sparsities = [0.0]
        while self.target - sparsities[-1] > CLOSE:
            near = self.target - sparsities[-1] < closing
            sparsities.append(self.target if near else self.after(sparsities[-1]))
        return [*sparsities[1:-1], self.target]

    def asked(self, closing: float = 0.0) -> int:
        """Rounds that ask weak nets when masks agree: all but a last cut of less than `closing`."""
        cuts = self.ladder(closing)
        last = cuts[-2] if len(cuts) > 1 else 0.0
        return len(cuts) - (self.target - last < closing)

    def segment(self, index: int, per_epoch: int) -> int:
        """Steps of training before prune `index`, from 0; `per_epoch` steps make an epoch."""
        steps = max(1, round(self.first * per_epoch)) * (index + 1 if self.growth == "linear" else 1)
        return steps if self.cap is None else min(steps, max(1, round(self.cap * per_epoch)))

    def ends(self, per_epoch: int, steps: int) -> list[int]:
        """The steps of a training of so many `steps` after which it prunes, from 1; the target may need fewer."""
        ends, end = list[int](), 0
        for index in count():
            end += self.segment(index, per_epoch)
            if end > self.stage * steps:
                return ends
            ends.append(end)
        raise AssertionError("segments are never empty")

    def check(self, per_epoch: int, steps: int, closing: float = 0.0) -> None:
        """ParameterError, with the smallest budget that can, when the target cannot be reached in so many `steps`."""
        rounds = len(self.ladder(closing))
        needed = sum(self.segment(index, per_epoch) for index in range(rounds))
        if needed > self.stage * steps:
            least = math.ceil(needed / self.stage - CLOSE)
            raise ParameterError(
                f"{rounds} rounds to a sparsity of {self.target:g} take {needed:,} steps, and {self.stage:.0%} of "
                f"{steps:,} steps are {math.floor(self.stage * steps):,}: train for {least:,} steps "
                f"({least / per_epoch:.2f} epochs) at least, prune more in a round (rate), or sooner (first)"
            )
