"""How much of scratch's cost an arm saves until it reaches a validation score that scratch reached, from records.

An arm's record has, at each evaluation, in its history `step` (so far, those of growth left out), `validation_loss`,
`spent_flops` and `spent_paper_flops` (executed, and as the paper counts; growth included, evaluations and the source
not), and `steps/KIND` for every kind of step so far, such as "large" or "growth". Of the source its metrics have
`source_flops`, `source_paper_flops` and `source_steps/KIND`; an arm without a source has none of them. Seconds come of
`step_seconds/DATASET/MODEL/KIND` in the record of CLOCK alone, which times steps one after another: those of a training
beside others are no measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effi.errors import ParameterError
from effi.ligo.savings import savings

if TYPE_CHECKING:
    from effi.records import Record

SCRATCH, METHOD, CLOCK = "scratch", "ligo", "check/seconds"
# What the paper compares with in Table 1, and all that this workbook has.
OWN_RIVALS = ("stack-progressive", "mslt", "ki", "aki")
RIVALS = (*OWN_RIVALS, "stack", "interpolate", "fpi", "copy", "zero-pad", "hyperclone", "lemon")
# A score of scratch, and after which share of its steps: the target that every arm is to reach.
TARGETS = {
    "half": ("validation_loss", 0.5),
    "late": ("validation_loss", 0.75),
    "final": ("validation_loss", 1.0),
    "accuracy": ("validation_accuracy", 1.0),
}


class Bill(NamedTuple):
    """What a training had cost at each of its evaluations, and what its source had cost before."""

    own: Sequence[float]
    source: float


# --- one curve -----------------------------------------------------------------------------------------------


def place(scores: Sequence[float], target: float) -> float | None:
    """Where a curve of scores, less being better, is first at a target or below: an evaluation, or between two.

    Linear between evaluations, so 1.5 is half way from the second to the third. None where it never is, 0 where the
    first one is. ParameterError for a curve without points, and for scores that are not finite.
    """
    if not len(scores) or not all(map(math.isfinite, (target, *scores))):
        raise ParameterError(f"a score of {target:g} is looked for in {list(scores)}: give a curve of finite scores")
    if scores[0] <= target:
        return 0.0
    for before, (above, below) in enumerate(pairwise(scores)):
        if below <= target:
            return before + (above - target) / (above - below)
    return None


def reached(costs: Sequence[float], scores: Sequence[float], target: float) -> float | None:
    """The cost at which a curve of scores, less being better, is first at a target; None where it is not reached.

    At the first evaluation that is its cost, though it may have been there before. ParameterError as of `place`, and
    for as many costs as scores that there are not.
    """
    if len(costs) != len(scores):
        raise ParameterError(f"{len(costs)} costs are given for {len(scores)} scores; give one for each evaluation")
    found = place(scores, target)
    return None if found is None else _at(costs, found)


def _at(values: Sequence[float], where: float) -> float:
    return float(np.interp(where, np.arange(len(values)), values))


# --- records of one seed -------------------------------------------------------------------------------------


def saved(records: Sequence[Record]) -> dict[str, float]:
    """Of the records of one seed, what each arm saves beside scratch of its data set and model, for every target.

    ARM is DATASET/MODEL/VARIANT. `reached/TARGET/ARM` is 1 or 0, and where it is 0 nothing else is told: a target not
    reached is no saving. `saving_ACCOUNT/TARGET/ARM` is `savings` by "flops", "paper_flops" or "seconds",
    `net_saving_ACCOUNT/...` with the source charged, `main_steps/...` its steps without growth, `evaluations/...`
    the same in intervals of its evaluation. Of METHOD `lead_ACCOUNT/TARGET/DATASET/MODEL` is its saving less that of
    the best of OWN_RIVALS that reached the target, `net_lead_ACCOUNT/...` net and of all RIVALS; `own_rivals/...` and
    `rivals/...` say how many there are. `time_ratio/ARM` is of the seconds of whole trainings, growth included and the
    source not, to scratch's. Groups without scratch are left out.
    """
    metrics = dict[str, float]()
    for group, arms in _groups(records).items():
        prices = clocked(records, group)
        bills = {name: bills_of(arm, prices) for name, arm in arms.items()}
        metrics |= {f"own_rivals/{group}": len(arms.keys() & {*OWN_RIVALS})}
        metrics |= {f"rivals/{group}": len(arms.keys() & {*RIVALS})}
        times = {name: bill["seconds"].own[-1] for name, bill in bills.items() if "seconds" in bill}
        if whole := times.get(SCRATCH):
            metrics |= {f"time_ratio/{group}/{name}": seconds / whole for name, seconds in times.items()}
        for target in TARGETS:
            for name, arm in arms.items():
                metrics |= _saving(
                    f"{target}/{group}/{name}", target, (arms[SCRATCH], bills[SCRATCH]), (arm, bills[name])
                )
            metrics |= dict(_leads(metrics, target, group))
    return metrics


def _groups(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Data set and model -> variant -> the arm with a curve, where scratch is among them."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        if record["dataset"] and "spent_flops" in record["history"]:
            found.setdefault(f"{record['dataset']}/{record['model']}", {})[record["variant"]] = record
    return {group: arms for group, arms in found.items() if SCRATCH in arms}


def clocked(records: Sequence[Record], group: str) -> dict[str, float]:
    """Kind of step -> seconds of one, timed alone; nothing where none were timed."""
    start = f"step_seconds/{group}/"
    clocks = [record["metrics"] for record in records if record["arm"] == CLOCK]
    return {name.removeprefix(start): price for own in clocks for name, price in own.items() if name.startswith(start)}


def bills_of(arm: Record, prices: Mapping[str, float]) -> dict[str, Bill]:
    """Account -> what an arm's record says that it cost; seconds only where every kind of its steps was timed."""
    history, metrics = arm["history"], arm["metrics"]
    names = ("flops", "paper_flops")
    bills = {name: Bill(history[f"spent_{name}"], metrics.get(f"source_{name}", 0)) for name in names}
    own, source = (_by_kind(each, start) for each, start in ((history, "steps/"), (metrics, "source_steps/")))
    if own and own.keys() | source.keys() <= prices.keys():
        curves = [np.array(steps) * prices[kind] for kind, steps in own.items()]
        paid = sum(steps * prices[kind] for kind, steps in source.items())
        bills["seconds"] = Bill(np.sum(curves, axis=0).tolist(), paid)
    return bills


def _by_kind(named: Mapping[str, Any], start: str) -> dict[str, Any]:
    return {name.removeprefix(start): value for name, value in named.items() if name.startswith(start)}


Billed = tuple["Record", Mapping[str, Bill]]


def _saving(name: str, target: str, reference: Billed, own: Billed) -> dict[str, float]:
    """What one arm's record tells of one target, under `name`."""
    (scratch, least), (arm, bills) = reference, own
    aim, known = _aim(scratch, target), _scores(arm, target)
    if aim is None or not known:
        return {}
    there, here = place(_scores(scratch, target), aim), place(known, aim)
    # Scratch that is never better than its new weights sets no target.
    if there is None or not _at(scratch["history"]["step"], there):
        return {}
    if here is None:
        return {f"reached/{name}": 0.0}
    steps = arm["history"]["step"]
    main = _at(steps, here)
    metrics = {f"reached/{name}": 1.0, f"main_steps/{name}": main, f"evaluations/{name}": main / _interval(steps)}
    for account in bills.keys() & least.keys():
        cost, whole = _at(bills[account].own, here), _at(least[account].own, there)
        metrics[f"saving_{account}/{name}"] = savings(cost, whole, 1)
        metrics[f"net_saving_{account}/{name}"] = savings(cost, whole, 1, source_flops=bills[account].source)
    return metrics


def _scores(arm: Record, target: str) -> list[float]:
    """An arm's curve of a target's score, less being better; empty where it has none."""
    name = TARGETS[target][0]
    sign = -1 if name.endswith("accuracy") else 1
    return [sign * each for each in arm["history"].get(name, ())]


def _aim(scratch: Record, target: str) -> float | None:
    """The score that scratch has after the target's share of its steps; None where it has no such curve."""
    steps, scores = scratch["history"]["step"], _scores(scratch, target)
    return float(np.interp(TARGETS[target][1] * steps[-1], steps, scores)) if scores else None


def _interval(steps: Sequence[float]) -> float:
    """Steps from one evaluation to the next."""
    return float(median(after - before for before, after in pairwise((0, *steps)) if after > before))


def _leads(metrics: Mapping[str, float], target: str, group: str) -> Iterator[tuple[str, float]]:
    """How far the method's saving is above that of the best rival that reached the target."""
    for lead, saving, rivals in (("lead", "saving", OWN_RIVALS), ("net_lead", "net_saving", RIVALS)):
        for account in ("flops", "paper_flops", "seconds"):
            named = f"{saving}_{account}/{target}/{group}"
            theirs = [metrics[f"{named}/{each}"] for each in rivals if f"{named}/{each}" in metrics]
            if theirs and f"{named}/{METHOD}" in metrics:
                yield f"{lead}_{account}/{target}/{group}", metrics[f"{named}/{METHOD}"] - max(theirs)
