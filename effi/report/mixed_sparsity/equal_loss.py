"""How many FLOPs dense training of equal loss takes: the saving to quote in place of one beside a whole training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from effi.claims import Results, measures, stats
from effi.errors import RecordError
from effi.mixed_sparsity.equal_loss import INSIDE, METHOD, RATIO, Equal, equal_loss_ratio, flops_at_equal_loss
from effi.mixed_sparsity.flops import CONVENTIONS, Convention
from effi.report.canvas import band, colour_of, ink, label, whiskers
from effi.report.mixed_sparsity.losses import COUNTED, Point
from effi.report.tables import Table

if TYPE_CHECKING:
    from effi.records import Record

# The stricter one first.
BOTH = CONVENTIONS[::-1]

# A tick of the arm beside one of a dense run would be unreadable.
APART = 1.15


def equal_loss_ratios(
    results: Results, arm: str, dense: Sequence[str], *, metric: str = "test_loss", convention: Convention = "causal"
) -> dict[int, Equal]:
    """Seed -> FLOPs of an arm over those of dense training of equal loss, of the seeds that all these arms have.

    RecordError when they have none in common, and for an arm that failed; else errors as of `equal_loss_ratio`.
    """
    own, *runs = (results.seeds(each) for each in (arm, *dense))
    common = [seed for seed in own if all(seed in run for run in runs)]
    if not common:
        raise RecordError(f"{arm} and {', '.join(dense)} share no finished seed: run all of them.")
    return {
        seed: equal_loss_ratio(
            own[seed]["metrics"], [run[seed]["metrics"] for run in runs], metric=metric, convention=convention
        )
        for seed in common
    }


def equal_loss_table(results: Results, check: str = "check/C7") -> Table:
    """Each arm's FLOPs over those of dense training of equal test loss, and how many seeds lie inside the dense runs.

    Lowest first. RecordError where the check was not run.
    """
    records = list(results.seeds(check).values())
    if not records:
        raise RecordError(f"{check} has no finished record: run the arms that it reads, dense runs and mst.")
    begin = f"{RATIO}/{BOTH[0]}/"
    names = dict.fromkeys(name for record in records for name in record["metrics"] if name.startswith(begin))
    rows = [_row(name.removeprefix(begin), records) for name in names]
    columns = ("arm", "n", *(COUNTED[each] for each in BOTH), "seeds inside the dense runs")
    title = "FLOPs on paper over those of dense training of equal test loss: mean [95 % interval] over seeds"
    note = "A seed outside takes the nearest dense run: its own ratio would be further."
    return Table(title, columns, tuple(row for _, row in sorted(rows)), (note,))


def _row(name: str, records: Sequence[Record]) -> tuple[float, tuple[str, ...]]:
    """What an arm takes, and its cells; the method itself has the data set's name alone."""
    told = [record["metrics"] for record in records if f"{INSIDE}/{name}" in record["metrics"]]
    spans = [stats.interval([own[f"{RATIO}/{each}/{name}"] for own in told], within=(0.0, math.inf)) for each in BOTH]
    shown, inside = name if "/" in name else f"{name}/{METHOD}", sum(own[f"{INSIDE}/{name}"] for own in told)
    cells = (stats.measured(span, len(told), "", 2) for span in spans)
    return spans[0].mean, (shown, str(len(told)), *cells, f"{inside:g} of {len(told)}")


def equal_loss(
    results: Results,
    arm: str,
    dense: Sequence[str],
    *,
    title: str,
    metric: str = "test_loss",
    convention: Convention = "causal",
) -> Figure:
    """Last losses of dense runs over FLOPs, logarithmic, and an arrow from an arm to dense training of equal loss.

    Means and 95 % intervals over seeds. The ratio in words is the mean of those read off seed by seed; seeds whose loss
    lies beyond all dense runs take the nearest, and are counted. Errors as of `equal_loss_ratios`.
    """
    ratios = equal_loss_ratios(results, arm, dense, metric=metric, convention=convention)
    figure, axes = plt.subplots()
    words = f"FLOPs on paper, of dense training's ({COUNTED[convention]}), logarithmic"
    axes.set(xscale="log", xlabel=words, ylabel=measures.title(metric), title=title)
    names = (f"flops_ratio/{convention}", metric)
    line, own = _line(axes, results, dense, names), _mark(axes, results, arm, names)
    reached = (flops_at_equal_loss(dict(line.values()), own[1]).ratio, own[1])
    _say(axes, list(ratios.values()), metric, results.label(arm))
    _mark_x(axes, [flops for flops, _ in line.values()], own[0])
    _arrow(axes, own, reached, colour_of(results.label(arm)))
    points = {**line, arm: own}
    shown = results.where(arms=list(points)).labels()
    labels = [(*points[each], name, colour_of(results.label(each))) for each, name in shown.items()]
    label(axes, labels, list(points.values()), [*pairwise(line.values()), (own, reached)])
    return figure


def _line(axes: Axes, results: Results, dense: Sequence[str], names: Sequence[str]) -> dict[str, Point]:
    """Draw dense runs in the order of their FLOPs; arm -> its mean point."""
    flops = {each: stats.interval(results.values(each, names[0])).mean for each in dense}
    ordered = dict(sorted(flops.items(), key=lambda run: run[1]))
    samples = [results.values(each, names[1]) for each in ordered]
    means = band(axes, list(ordered.values()), samples, colour_of("dense"), within=measures.bounds(names[1]))
    axes.plot(list(ordered.values()), means, "o", color=colour_of("dense"), ms=4)
    return {each: (x, y) for (each, x), y in zip(ordered.items(), means, strict=True)}


def _mark(axes: Axes, results: Results, arm: str, names: Sequence[str]) -> Point:
    """Draw an arm with its intervals of FLOPs and loss; its mean point."""
    spans = [stats.interval(results.values(arm, name)) for name in names]
    x, y = (span.mean for span in spans)
    ends = [whiskers(span, measures.bounds(name)) for span, name in zip(spans, names, strict=True)]
    (left, right), (low, high) = ends
    colour, reach = colour_of(results.label(arm)), ([[y - low], [high - y]], [[x - left], [right - x]])
    axes.errorbar(x, y, *reach, fmt="o", color=colour, capsize=2)
    return x, y


def _mark_x(axes: Axes, runs: Sequence[float], own: float) -> None:
    """Ticks where runs are; margins leave room for words at the top."""
    near = any(1 / APART < own / run < APART for run in runs)
    ticks = sorted([*runs, *([] if near else [own])])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.margins(0.12, 0.2)


def _arrow(axes: Axes, own: Point, reached: Point, colour: str) -> None:
    axes.annotate("", reached, own, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.5, "shrinkB": 0})


def _say(axes: Axes, ratios: Sequence[Equal], metric: str, name: str) -> None:
    """Write the mean ratio and its interval, and how many seeds were not read off between runs."""
    found = [each.ratio for each in ratios]
    said = stats.measured(stats.interval(found, within=(0.0, math.inf)), len(found), digits=2)
    beyond = sum(not each.inside for each in ratios)
    note = f"\n({beyond} of {len(ratios)} seeds beyond all dense runs: the nearest counts)" if beyond else ""
    text = f"{name} takes {said} of the FLOPs of\ndense training of equal {measures.words(metric)}{note}"
    axes.text(0.99, 0.98, text, transform=axes.transAxes, ha="right", va="top", color=ink(colour_of(name)))
