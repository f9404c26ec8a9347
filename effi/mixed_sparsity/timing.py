"""What an arm's schedule costs in seconds beside dense training: steps of all its phases, and updates of the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from operator import truediv
from statistics import median
from typing import TYPE_CHECKING

from effi.cost import Ledger, measure
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.recipes import STILL, Dense, Sparse
from effi.mixed_sparsity.schedule import Phases
from effi.mixed_sparsity.settings import Settings

if TYPE_CHECKING:
    from effi.mixed_sparsity.experiment import Experiment

ROUNDS, PARTS = 9, 10
EVALUATION = "evaluate"


def time_ratios(
    work: Experiment, arms: Mapping[str, Settings], baseline: str, *, seed: int, steps: int, budget_s: float
) -> dict[str, float]:
    """`time_ratio/ARM`: seconds of training over the baseline's, without evaluation; `step_seconds/ARM` of all.

    So many steps are timed in the middle of each tenth of an arm's schedule, with the sparsity and the attention that
    hold there, and as many that each update the mask, of which an arm makes one in `every` steps; a share of the tokens
    counts as a share of the seconds. A ratio is the median over 9 rounds or `budget_s`.
    """
    bills = {name: partial(_seconds, work, settings, seed, steps) for name, settings in arms.items()}
    seconds = measure(bills, repeats=ROUNDS, budget_s=budget_s, clock=_own_clock)
    ratios = {f"time_ratio/{name}": median(map(truediv, own, seconds[baseline])) for name, own in seconds.items()}
    return ratios | {f"step_seconds/{name}": median(own) for name, own in seconds.items()}


def _seconds(work: Experiment, settings: Settings, seed: int, steps: int) -> float:
    """Seconds of a training per step of the dense one's."""
    recipe, step = settings.recipe, partial(_step, work, settings, seed, steps)
    if not isinstance(recipe, Sparse):
        return recipe.share * step(Dense()) if isinstance(recipe, Dense) else step(recipe)
    middles = [(part + 0.5) / PARTS for part in range(PARTS)]
    held = {share: step(as_at(recipe, share, STILL)) for share in middles}
    mean, how = sum(held.values()) / PARTS, recipe.evolution
    if not how.drop:
        return mean
    share = middles[PARTS // 2]
    update = step(as_at(recipe, share, replace(how, every=1, restart=False)))
    return mean + how.until * (update - held[share]) / how.every


def as_at(recipe: Sparse, share: float, evolution: Evolution) -> Sparse:
    """Training with the sparsity and the attention of a share of the schedule, from its first step to its last."""
    seen = recipe.attention if recipe.phases.phase(share) in recipe.within else None
    phases = Phases(recipe.phases.sparsity(share), 0, 0)
    return replace(recipe, phases=phases, evolution=evolution, attention=seen, within=("ultra",))


def _step(work: Experiment, settings: Settings, seed: int, steps: int, recipe: Callable[..., object]) -> float:
    """Mean seconds of so many steps of a new model, its evaluation left out."""
    training = replace(settings.training, epochs=None, steps=steps, eval_every=f"{steps} steps")
    ledger = Ledger(str(work.data(settings, seed).train.inputs.device))
    recipe(work.task(replace(settings, training=training), seed, ledger))
    phases = ledger.total()["phases"]
    return sum(float(phase["seconds"]) for name, phase in phases.items() if name != EVALUATION) / steps


def _own_clock(act: Callable[[], object]) -> float:
    """What is timed says itself how long it took."""
    found = act()
    assert isinstance(found, float)
    return found
