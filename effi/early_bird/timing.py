"""What arms cost in seconds beside dense training: steps timed alone, times how many of them each arm takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import truediv
from statistics import median
from typing import Any

from torch import nn

from effi import axes, masks
from effi.cost import Ledger, measure
from effi.data import Opened
from effi.early_bird import removal
from effi.early_bird.building import Data, build
from effi.early_bird.criteria import scores
from effi.early_bird.experiment import RANKING, epochs_of_search, first_epoch
from effi.early_bird.search import Search
from effi.early_bird.settings import Settings
from effi.early_bird.structured import draw_step
from effi.masks import Mask
from effi.training.evaluation import CLASSES
from effi.training.loop import Loop
from effi.training.networks import Single

Facts = Mapping[str, float]
Act = Callable[[], object]
ROUNDS = 9


def of_groups(
    groups: Mapping[str, Settings],
    arms: Mapping[Any, Settings],
    opened: Mapping[str, Opened],
    records: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    budget_s: float,
) -> dict[str, float]:
    """`time_ratios` of all groups whose dense arm of this seed is among the records, one after another."""
    told = [record for record in records if (record["variant"], record["seed"]) == ("dense", seed)]
    facts = {f"{record['dataset']}/{record['model']}": record["metrics"] for record in told}
    found: dict[str, float] = {}
    for name in (name for name in groups if name in facts):
        own = {arm: settings for arm, settings in arms.items() if settings.group == name}
        found |= time_ratios(groups[name], own, opened[name].of(seed), facts[name], seed=seed, budget_s=budget_s)
    return found


def time_ratios(
    group: Settings, arms: Mapping[Any, Settings], data: Data, facts: Facts, *, seed: int, budget_s: float
) -> dict[str, float]:
    """`time_ratio/ARM` of arms of one group: search plus training over dense training, evaluation left out.

    Every kind of step is timed once a round, for 9 rounds or `budget_s`; a ratio of kinds is the median over rounds.
    `facts` are metrics of the seed's dense arm: where tickets are drawn; one that never is has no ratio. Also
    `step_seconds/GROUP/KIND`, the median of each kind.
    """
    steps = group.training.steps_of_epoch(len(data.train))
    arms = {str(name).removeprefix(f"{group.group}/"): settings for name, settings in arms.items()}
    bills = {name: bill(group, name, settings, steps, facts) for name, settings in arms.items()}
    wanted = {"dense"}.union(*filter(None, bills.values()))
    makers = _makers(group, arms, data, seed, steps)
    seconds = measure({kind: makers[kind]() for kind in makers if kind in wanted}, repeats=ROUNDS, budget_s=budget_s)
    ratios = {kind: median(map(truediv, own, seconds["dense"])) for kind, own in seconds.items()}
    found = {f"step_seconds/{group.group}/{kind}": median(own) for kind, own in seconds.items()}
    paid = {name: sum(count * ratios[kind] for kind, count in each.items()) for name, each in bills.items() if each}
    return found | {f"time_ratio/{group.group}/{name}": cost / (group.epochs * steps) for name, cost in paid.items()}


def bill(group: Settings, name: str, settings: Settings, steps: int, facts: Facts) -> dict[str, float] | None:
    """Kind of step -> how many of them an arm takes, at `steps` an epoch; None for a ticket that is never drawn."""
    if settings.removal:
        recipe = settings.removal
        learnt: dict[str, float] = {} if recipe.random else {"gates": draw_step(steps, recipe.search)}
        return learnt | {"removed": (recipe.retrain.epochs or 0) * steps}
    if settings.ticket:
        return _of_ticket(settings, steps, facts)
    extra = epochs_of_search(facts, settings) if settings.as_long_as else 0
    return {"dense" if settings.model == group.model else name: (settings.epochs + extra) * steps}


def _of_ticket(settings: Settings, steps: int, facts: Facts) -> dict[str, float] | None:
    wanted = settings.ticket
    assert wanted is not None
    drawn = int(facts[f"found_{wanted.rule}_{wanted.ratio:g}"])
    if wanted.needs_draw and drawn < 0:
        return None
    snapshot = wanted.snapshot(drawn, int(facts["snapshots"]))
    trained = settings.epochs - first_epoch(wanted, snapshot, facts, settings)
    search = {"dense": snapshot / facts["per_epoch"] * steps, "look": snapshot} if snapshot else {}
    ranked = {"scores": 1} if wanted.source in ("snip", "gradient") else {}
    return {**search, **ranked, "masked": trained * steps}


def _makers(
    group: Settings, arms: Mapping[str, Settings], data: Data, seed: int, steps: int
) -> dict[str, Callable[[], Act]]:
    """Kind of step -> what prepares one: steps of training, a look of the search, and scores by gradients."""

    def model(settings: Settings = group) -> nn.Module:
        return build(settings.model, data, seed).to(data.train.inputs.device)

    def look() -> Act:
        whole = model()
        return Search(whole, masks.prunable(whole), group.ratios[:1], steps, **group.looking).look

    def masked() -> Act:
        whole = model()
        return _step(whole, data, group, masks.magnitude(masks.prunable(whole), group.ratios[-1]))

    def gates() -> Act:
        whole = model()
        axes.with_gates(whole)
        return _step(whole, data, group)

    def removed() -> Act:
        whole = model()
        recipe = next(settings.removal for settings in arms.values() if settings.removal)
        return _step(axes.slim(whole, removal.random_units(whole, seed, recipe.multiple)), data, group)

    own = {name: settings for name, settings in arms.items() if settings.model != group.model}
    return {
        "dense": lambda: _step(model(), data, group),
        "masked": masked,
        "look": look,
        "scores": lambda: partial(scores, model(), data, "snip", **RANKING, seed=seed),
        "gates": gates,
        "removed": removed,
        **{name: partial(_step, model(settings), data, group) for name, settings in own.items()},
    }


def _step(model: nn.Module, data: Data, group: Settings, mask: Mask | None = None) -> Act:
    """A step of training on one and the same batch, as an arm makes it."""
    ledger = Ledger(str(data.train.inputs.device))
    loop = Loop(Single(model), model, data, group.training, CLASSES, (0,), ledger)
    if mask is not None:
        loop.step.hold(mask)
    return partial(loop.update, loop.batch())
