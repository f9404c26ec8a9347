"""A time given in words, and how many seeds of which methods fit in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from effi.advice.methods import Method
from effi.errors import ParameterError, duration

UNITS = {"s": 1, "m": 60, "h": 3600}
# Kernel start, data, figures and tables of a notebook.
OVERHEAD_S = 45
MOST_SEEDS = 5


def seconds_of(text: str) -> float:
    """Seconds of "90s", "30m" or "1.5h"; ParameterError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or not float(found[1]):
        raise ParameterError(f"--budget {text!r} is no time: give it like 90s, 30m or 1.5h.")
    return float(found[1]) * UNITS[found[2]]


def counted(seeds: int) -> str:
    """1 seed, 3 seeds."""
    return f"{seeds} seed{'s' * (seeds != 1)}"


@dataclass(frozen=True)
class Split:
    """Seeds that every method gets, seconds of one seed of each, and the methods that do not fit even once."""

    seeds: int
    seconds: Mapping[Method, float]
    left_out: tuple[Method, ...]

    @property
    def total(self) -> float:
        """Seconds that all of it is expected to take."""
        return sum(OVERHEAD_S + self.seeds * each for each in self.seconds.values())

    def told(self, budget: float) -> str:
        """What will be done, said before it starts."""
        named = ", ".join(f"{method.name} {duration(each)}" for method, each in self.seconds.items())
        said = f"A seed of each takes about: {named}." if named else "No method fits."
        if self.left_out:
            said += f" Left out, as one seed does not fit: {', '.join(method.name for method in self.left_out)}."
        return f"{said} {counted(self.seeds)} of each: about {duration(self.total)}, of {duration(budget)} left."


def split(seconds: Mapping[Method, float], budget: float) -> Split:
    """As many seeds for all as fit, at most 5; where not one of each does, the dearest methods are left out."""
    kept, left = dict(seconds), list[Method]()
    while kept and sum(OVERHEAD_S + each for each in kept.values()) > budget:
        dearest = max(kept, key=lambda method: kept[method])
        left.append(dearest)
        del kept[dearest]
    spare = budget - OVERHEAD_S * len(kept)
    seeds = int(min(MOST_SEEDS, spare // sum(kept.values()))) if kept and sum(kept.values()) else 0
    return Split(seeds, kept, tuple(left))


def side_by_side(hours: float) -> float:
    """Seconds that arms take which run one after another in so many hours, as many side by side as there are cores.

    Cores share memory and clock: two of them are counted as one and a half.
    """
    cores = os.cpu_count() or 1
    return 3600 * hours / (1 + 0.5 * (cores - 1))
