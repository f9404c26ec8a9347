"""What pruning buys: accuracy against compression and speed-up, all methods in one figure.

After the checklist of Blalock et al., "What is the state of neural network pruning?" (MLSys 2020, arXiv 2003.03033).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from effi.claims import Pair, Results, measures, stats
from effi.claims.measures import bounds
from effi.report.canvas import SIZE, colour_of, question, whiskers
from effi.report.early_bird.tables import TIMED

if TYPE_CHECKING:
    from effi.records.store import Record

PANELS = {
    "compression": "compression: dense over live parameters",
    "speedup_theory": "theoretical speed-up: dense over own multiply-adds, zeros skipped",
    "speedup_step": "measured speed-up of a training step, timed alone",
}


# The least range of a panel, either side of 1, and the room at its ends.
WIDE, EDGE = 1.25, 1.08


def with_gains(results: Results, shares: Mapping[str, float]) -> Results:
    """The same arms with what pruning gains each seed as metrics: the keys of PANELS, and `relative_time`.

    `shares` says of each group which share of a forward's FLOPs its prunable weights do; every such weight counts
    alike. Speed and time are those of check/C9 at the same seed, where it ran. Arms without a dense partner are left
    out, such as tickets that were never drawn.
    """
    timed = results.seeds(TIMED) if TIMED in results else {}
    pairs = ((results.group(arm), pair) for arm, own in results.pairs("dense").items() for pair in own)
    drawn = ((group, pair) for group, pair in pairs if "alive" in pair.arm["metrics"])
    return Results([_gained(pair, group, shares[group], timed.get(pair.arm["seed"])) for group, pair in drawn])


def _gained(pair: Pair, group: str, share: float, timed: Record | None) -> Record:
    own, dense = (record["metrics"] for record in pair)
    alive = own["alive"] if pair.arm["settings"].get("ticket") else 1.0
    live = own["parameters"] - own["prunable"] * (1 - alive)
    work = (1 - (1 - alive) * share) * _flops(pair.arm) / _flops(pair.baseline)
    found = {"compression": dense["parameters"] / live, "speedup_theory": 1 / work}
    found |= dict(_seconds(pair.arm, group, timed["metrics"])) if timed else {}
    return {**pair.arm, "metrics": {**own, **found}}


def _flops(record: Record) -> float:
    """Training FLOPs of an epoch."""
    return record["cost"]["phases"]["train"]["flops"] / record["metrics"]["epochs"]


def _seconds(arm: Record, group: str, timed: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    kind, step = _kind(arm["settings"], arm["arm"].removeprefix(f"{group}/")), f"step_seconds/{group}"
    if f"{step}/{kind}" in timed:
        yield "speedup_step", timed[f"{step}/dense"] / timed[f"{step}/{kind}"]
    elif f"{step}/dense" in timed:
        yield "speedup_step", 1.0
    if f"time_ratio/{arm['arm']}" in timed:
        yield "relative_time", timed[f"time_ratio/{arm['arm']}"]


def _kind(settings: Mapping[str, Any], name: str) -> str:
    """What the check calls a step of the arm; a model of its own has the arm's name, the dense one none."""
    return "masked" if settings.get("ticket") else "removed" if settings.get("removal") else name


def tradeoff(gained: Results, series: Mapping[str, Sequence[str]], *, level: str, title: str) -> Figure:
    """A panel per gain: a line per method through its arms, mean and 95 % interval of test accuracy over seeds.

    `series` maps methods to arms, of which those that did not run are left out, `level` is the dense arm, dashed.
    Panels that no arm holds are left out. RecordError when none is left.
    """
    metric = "test_accuracy"
    names = [arm for arms in series.values() for arm in arms if arm in gained]
    shown = gained.where(arms=names).holding(metric)
    panels = [gain for gain in PANELS if any(shown.holds(arm, gain) for arm in shown.arms)]
    figure, grid = plt.subplots(len(panels), 1, figsize=(SIZE[0], 0.9 + 2.3 * len(panels)), squeeze=False)
    for axes, gain in zip(grid[:, 0], panels, strict=True):
        for method, arms in series.items():
            _method(axes, shown, gain, metric, method, [arm for arm in arms if arm in shown and shown.holds(arm, gain)])
        axes.axhline(stats.interval(gained.values(level, metric)).mean, color=colour_of("dense"), ls="--", lw=1)
        axes.set(xscale="log", xlim=_limits(shown, gain), xlabel=PANELS[gain], ylabel=measures.title(metric))
        axes.xaxis.set(major_locator=MaxNLocator(7), minor_locator=NullLocator())
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}x")
    handles, words = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=5, fontsize=8)
    return question(figure, title)


def _limits(results: Results, gain: str) -> tuple[float, float]:
    """Around all points, and wide enough that gains of a few per cent look like what they are."""
    means = [stats.interval(results.values(arm, gain)).mean for arm in results.arms if results.holds(arm, gain)]
    return min(*means, 1 / WIDE) / EDGE, max(*means, WIDE) * EDGE


def _method(axes: Axes, results: Results, gain: str, metric: str, method: str, arms: Sequence[str]) -> None:
    if not arms:
        return
    places = {arm: stats.interval(results.values(arm, gain)).mean for arm in arms}
    ordered = dict(sorted(places.items(), key=lambda place: place[1]))
    spans = [stats.interval(results.values(arm, metric)) for arm in ordered]
    means = [span.mean for span in spans]
    lows, highs = np.transpose([whiskers(span, bounds(metric)) for span in spans])
    style: dict[str, Any] = {"color": colour_of(method), "label": method, "ms": 4, "lw": 1.2, "capsize": 2}
    axes.errorbar(list(ordered.values()), means, yerr=[means - lows, highs - means], fmt="o-", **style)
