"""What an arm's schedule costs in seconds beside dense training, its phases and updates of the mask included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from operator import truediv
from statistics import median
from typing import TYPE_CHECKING

from effi.cost import Ledger, measure
from effi.mixed_sparsity.settings import Settings

if TYPE_CHECKING:
    from effi.mixed_sparsity.experiment import Experiment

ROUNDS = 9
EVALUATION = "evaluate"


def time_ratios(
    work: Experiment, arms: Mapping[str, Settings], baseline: str, *, seed: int, steps: int, budget_s: float
) -> dict[str, float]:
    """`time_ratio/ARM`: seconds of training over the baseline's, without evaluation; `step_seconds/ARM` of all.

    Every arm's whole schedule is trained once a round, drawn together to so many steps, with as many updates of the
    mask per step as it has, and a new model each time; a ratio is the median over 9 rounds or `budget_s`.
    """
    short = {name: partial(_seconds, work, _shortened(settings, steps), seed) for name, settings in arms.items()}
    seconds = measure(short, repeats=ROUNDS, budget_s=budget_s, clock=_own_clock)
    ratios = {f"time_ratio/{name}": median(map(truediv, own, seconds[baseline])) for name, own in seconds.items()}
    return ratios | {f"step_seconds/{name}": median(own) / steps for name, own in seconds.items()}


def _shortened(settings: Settings, steps: int) -> Settings:
    training = replace(settings.training, epochs=None, steps=steps, eval_every=f"{steps} steps")
    return replace(settings, training=training)


def _seconds(work: Experiment, settings: Settings, seed: int) -> float:
    """Train, and say how long that took."""
    ledger = Ledger(str(work.data(settings, seed).train.inputs.device))
    settings.recipe(work.task(settings, seed, ledger))
    phases = ledger.total()["phases"]
    return sum(float(phase["seconds"]) for name, phase in phases.items() if name != EVALUATION)


def _own_clock(act: Callable[[], object]) -> float:
    """What is timed says itself how long it took."""
    found = act()
    assert isinstance(found, float)
    return found
