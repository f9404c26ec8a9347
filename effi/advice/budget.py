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


def notebooks(seeds: int) -> int:
    """How often a method's notebook runs: for one seed, and then for all of them."""
    return min(2, seeds)


@dataclass(frozen=True)
class Split:
    """Seeds that every method gets, seconds of one seed of each, and the methods that do not fit even once."""

    seeds: int
    seconds: Mapping[Method, float]
    left_out: tuple[Method, ...]

    @property
    def total(self) -> float:
        """Seconds that all of it is expected to take."""
        return sum(notebooks(self.seeds) * OVERHEAD_S + self.seeds * each for each in self.seconds.values())

    def told(self, budget: float) -> str:
        """What will be done, said before it starts."""
        named = ", ".join(f"{method.name} {duration(max(1, each))}" for method, each in self.seconds.items())
        said = f"A seed of each takes about: {named}."
        if self.left_out:
            said += f" Left out, as one seed does not fit: {', '.join(method.name for method in self.left_out)}."
        whole = f"{duration(self.total)}, {OVERHEAD_S} s for every start of a notebook among them"
        return f"{said} {counted(self.seeds)} of each: about {whole}, of {duration(budget)} left."


def split(seconds: Mapping[Method, float], budget: float) -> Split:
    """As many seeds for all as fit into four fifths of the time, at most 5; the dearest left out where not one does."""
    kept, left, planned = dict(seconds), list[Method](), PLANNED * budget
    while kept and sum(OVERHEAD_S + each for each in kept.values()) > planned:
        dearest = max(kept, key=lambda method: kept[method])
        left.append(dearest)
        del kept[dearest]
    plans = [Split(seeds, kept, tuple(left)) for seeds in range(MOST_SEEDS, 1, -1)]
    one = Split(min(1, len(kept)), kept, tuple(left))
    return next((plan for plan in plans if kept and plan.total <= planned), one)


def refusal(seconds: Mapping[Method, float], budget: float) -> str:
    """Why nothing fits into the time that is left, and what would."""
    if not seconds:
        return "No method of the workbook can be tried on this data; why is said above."
    quickest = min(seconds, key=lambda method: seconds[method])
    wanted = (OVERHEAD_S + seconds[quickest]) / PLANNED
    return (
        f"--budget leaves {duration(max(0.0, budget))} to train in, and one seed of {quickest.name}, the quickest "
        f"method, wants {duration(wanted)}: give more. The times that were measured are kept, so that they are not "
        "measured again."
    )


def side_by_side(hours: float) -> float:
    """Seconds that arms take which run one after another in so many hours, as many side by side as there are cores.

    Cores share memory and clock: two of them are counted as one and a half.
    """
    cores = os.cpu_count() or 1
    return 3600 * hours / (1 + 0.5 * (cores - 1))
