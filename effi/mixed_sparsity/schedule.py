"""Sparsity Variation: a warm-up that prunes, an ultra-sparse phase, and a restoration (Mixed Sparsity Training)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from effi.errors import ParameterError

Phase = Literal["warm-up", "ultra", "restoration"]
Shape = Literal["mirror", "fast"]
CLOSE = 1e-9  # shares of a training that are equal but for rounding


@dataclass(frozen=True)
class Phases:
    """Sparsity by share of the training: `start` rises to `ultra` in `warmup`, and falls to `end` in `restoration`.

    Both lengths are shares of the training; one of 0 leaves its phase and its ramp out, so `Phases(s, 0, 0)` is
    constant. The warm-up is cubic, fast at first; the restoration is its "mirror" in time, slow at first, or "fast" at
    first. `stairs` equal steps make a ramp, each at the value of its end; with one, a phase is at its last sparsity at
    once. `settle` is the share of the restoration, at its end, that trains at `end`: a smooth ramp would be there only
    when the training is over. ParameterError for phases longer than the training, sparsities outside [0, ultra],
    ultra < 1, and a settle outside [0, 1).
    """

    ultra: float
    warmup: float = 0.1
    restoration: float = 0.1
    shape: Shape = "mirror"
    start: float = 0.0
    end: float = 0.0
    stairs: int | None = None
    settle: float = 0.0

    def __post_init__(self) -> None:
        self._check_sparsities()
        if not (self.warmup >= 0 and self.restoration >= 0 and self.warmup + self.restoration <= 1 + CLOSE):
            raise ParameterError(
                f"warmup={self.warmup:g} and restoration={self.restoration:g} are shares of one training that may not "
                "overlap: give two that are 0 or more and sum to 1 at most"
            )
        if self.shape not in get_args(Shape):
            raise ParameterError(f"shape {self.shape!r} is unknown; give one of {', '.join(get_args(Shape))}")
        if self.stairs is not None and (self.stairs < 1 or self.stairs != int(self.stairs)):
            raise ParameterError(
                f"stairs={self.stairs} of a ramp: give a whole number above 0, or none for a smooth one"
            )
        if not 0 <= self.settle < 1:
            raise ParameterError(f"settle={self.settle:g} of a restoration: give a share of it in [0, 1)")

    def _check_sparsities(self) -> None:
        if not 0 <= self.ultra < 1:
            raise ParameterError(f"ultra={self.ultra:g} is no sparsity; give a share of weights in [0, 1)")
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) <= self.ultra:
                raise ParameterError(
                    f"{name}={getattr(self, name):g} is no sparsity up to the ultra phase's {self.ultra:g}: give one "
                    "between, since a warm-up prunes and a restoration revives"
                )

    def phase(self, share: float) -> Phase:
        """The phase at a share of the training done; ParameterError outside [0, 1]."""
        if not 0 <= share <= 1:
            raise ParameterError(f"a share of {share:g} of the training is outside [0, 1]; give steps done / all steps")
        if share < self.warmup - CLOSE:
            return "warm-up"
        return "restoration" if self.restoration and share >= 1 - self.restoration - CLOSE else "ultra"

    def sparsity(self, share: float) -> float:
        """The sparsity that holds from a share of the training done; errors as in `phase`."""
        phase = self.phase(share)
        if phase == "warm-up":
            return self.ultra + (self.start - self.ultra) * (1 - self._place(share / self.warmup)) ** 3
        if phase == "ultra":
            return self.ultra
        place = self._place((1 - (1 - share) / self.restoration) / (1 - self.settle))
        return self.end + (self.ultra - self.end) * (1 - place**3 if self.shape == "mirror" else (1 - place) ** 3)

    def _place(self, done: float) -> float:
        """Where on its cubic a ramp is of which so much is done, in [0, 1]."""
        if self.stairs is None:
            return min(1.0, max(0.0, done))
        return min(1.0, (math.floor(max(0.0, done) * self.stairs + CLOSE) + 1) / self.stairs)

    def lengths(self) -> dict[Phase, float]:
        """Each phase's share of the training, in order."""
        ultra = max(0.0, 1 - self.warmup - self.restoration)
        return {"warm-up": self.warmup, "ultra": ultra, "restoration": self.restoration}

    def starts(self) -> tuple[float, ...]:
        """Shares of the training at which the phases that have a length start, the first at 0."""
        begins = (0.0, self.warmup, 1 - self.restoration)
        return tuple(begin for begin, length in zip(begins, self.lengths().values(), strict=True) if length > CLOSE)

    def settled(self) -> float:
        """The share of the training from which its last sparsity holds."""
        reached = 1 - 1 / (self.stairs or math.inf)
        if not self.restoration:
            return self.warmup * reached
        return 1 - self.restoration + self.restoration * (1 - self.settle) * reached

    def means(self) -> dict[Phase, float]:
        """Mean sparsity of each phase over a training of many steps; a smooth cubic ramp has 3/4 or 1/4 of its way."""
        n = self.stairs or math.inf
        early, late = (1 - 1 / n) ** 2 / 4, (1 + 1 / n) ** 2 / 4  # means of (1 - x)^3 and of x^3
        warm, restored = 1 - early, (1 - self.settle) * (1 - late if self.shape == "mirror" else early)
        return {
            "warm-up": self.start + (self.ultra - self.start) * warm,
            "ultra": self.ultra,
            "restoration": self.end + (self.ultra - self.end) * restored,
        }

    def mean(self) -> float:
        """Mean sparsity of a training of many steps."""
        means = self.means()
        return sum(length * means[phase] for phase, length in self.lengths().items())
