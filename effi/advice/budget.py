"""A time given in words, and which methods fit in it with how many seeds."""

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
# Of fewer seeds nothing is sure; of more, methods that are still open are left to their notebooks.
LEAST_SEEDS = 3
MOST_SEEDS = 5
# Of the time, what is planned: a step is measured once, on a machine that others may use later.
PLANNED = 0.8


def seconds_of(text: str) -> float:
    """Seconds of "90s", "30m" or "1.5h"; ParameterError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or not float(found[1]):
        raise ParameterError(f"--budget {text!r} is no time: give it like 90s, 30m or 1.5h.")
    return float(found[1]) * UNITS[found[2]]


def counted(seeds: int) -> str:
    """1 seed, 3 seeds."""
    return f"{seeds} seed{'s' * (seeds != 1)}"


def stages() -> tuple[int, ...]:
    """Seeds that methods get in turn: one each, then as many as a verdict wants, then the most."""
    return tuple(sorted({1, min(LEAST_SEEDS, MOST_SEEDS), MOST_SEEDS}))


@dataclass(frozen=True)
class Split:
    """Seconds of one seed of each method, and the methods that do not fit even once."""

    seconds: Mapping[Method, float]
    left_out: tuple[Method, ...]

    @property
    def total(self) -> float:
        """Seconds that one seed of each is expected to take."""
        return sum(wanted(1, each) for each in self.seconds.values())

    def told(self, budget: float) -> str:
        """What will be done, said before it starts."""
        named = ", ".join(f"{method.name} {duration(max(1, each))}" for method, each in self.seconds.items())
        said = f"A seed of each takes about: {named}."
        if self.left_out:
            said += f" Left out, as one seed does not fit: {', '.join(method.name for method in self.left_out)}."
        more = " and ".join(map(str, stages()[1:]))
        return (
            f"{said} One of each comes first: about {duration(self.total)} of {duration(budget)} left, {OVERHEAD_S} s "
            f"for every start of a notebook among them. Then {more} seeds, the quickest first, of those that still fit."
        )


def wanted(seeds: int, seconds: float) -> float:
    """Seconds of a notebook with so many more seeds."""
    return OVERHEAD_S + seeds * seconds


def fits(seeds: int, seconds: float, left: float) -> bool:
    """Whether so many more seeds fit into four fifths of the time that is left."""
    return wanted(seeds, seconds) <= PLANNED * left


def split(seconds: Mapping[Method, float], budget: float) -> Split:
    """One seed of each in four fifths of the time; the dearest left out until the others fit."""
    kept, left = dict(seconds), list[Method]()
    while kept and Split(kept, ()).total > PLANNED * budget:
        dearest = max(kept, key=lambda method: kept[method])
        left.append(dearest)
        del kept[dearest]
    return Split(kept, tuple(left))


def refusal(seconds: Mapping[Method, float], budget: float) -> str:
    """Why nothing fits into the time that is left, and what would."""
    if not seconds:
        return "No method of the workbook can be tried on this data; why is said above."
    quickest = min(seconds, key=lambda method: seconds[method])
    whole = wanted(1, seconds[quickest]) / PLANNED
    return (
        f"--budget leaves {duration(max(0.0, budget))} to train in, and one seed of {quickest.name}, the quickest "
        f"method, wants {duration(whole)}: give more. The times that were measured are kept, so that they are not "
        "measured again."
    )


def side_by_side(hours: float) -> float:
    """Seconds that arms take which run one after another in so many hours, as many side by side as there are cores.

    Cores share memory and clock: two of them are counted as one and a half.
    """
    cores = os.cpu_count() or 1
    return 3600 * hours / (1 + 0.5 * (cores - 1))
