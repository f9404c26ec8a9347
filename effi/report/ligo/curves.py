"""What an arm reaches for what it spends: with its source for nothing, as the paper has it, and with it paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from effi.claims import Results, measures
from effi.errors import RecordError
from effi.ligo.reaching import CLOCK, Bill, bills_of, clocked
from effi.report.canvas import SIZE, band, colour_of, ink, label, question

Account = Literal["flops", "paper_flops", "seconds"]
WORDS: dict[Account, str] = {
    "flops": "FLOPs executed",
    "paper_flops": "FLOPs as the paper counts",
    "seconds": "seconds of steps timed alone",
}
PANELS = {"the source for nothing": False, "the source paid": True}
# Where on a course the axis begins: what lies above then is cut off.
SHOWN = 0.2


def cost_curves(
    results: Results,
    arms: Sequence[str],
    *,
    title: str,
    metric: str = "validation_loss",
    by: Account = "flops",
    levels: Sequence[str] = (),
) -> Figure:
    """A metric over FLOPs or seconds so far, growth among them: left without the source's training, right begun by it.

    Mean and 95 % interval over seeds, named at its end; the last value of arms in `levels` is dashed. Early values are
    cut off. Raises RecordError when no arm has both histories, and of seconds where no arm's steps were timed.
    """
    chosen = results.where(arms=arms).remembering(metric, "spent_flops")
    bills = {arm: found for arm in chosen.arms if (found := _bills(results, arm, by))}
    if not bills:
        raise RecordError(f"No steps of {', '.join(chosen.arms)} were timed at every seed: run {CLOCK}.")
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(1.45 * SIZE[0], SIZE[1]))
    for axes, (words, paid) in zip(panels, PANELS.items(), strict=True):
        spent = {arm: _spent(found, paid=paid) for arm, found in bills.items()}
        _panel(axes, chosen.where(arms=[*bills]), metric, spent, levels)
        axes.set(xlabel=f"{WORDS[by]}, {words}")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set(ylabel=measures.title(metric))
    return question(figure, title)


def _bills(results: Results, arm: str, by: Account) -> list[Bill]:
    """What an arm cost, a seed after another; nothing where that is not known of every seed."""
    clocks, group = results.seeds(CLOCK) if CLOCK in results else {}, results.group(arm)
    seeds = results.seeds(arm).items()
    found = [bills_of(record, clocked([clocks[seed]] if seed in clocks else [], group)) for seed, record in seeds]
    return [bill[by] for bill in found] if all(by in bill for bill in found) else []


def _spent(bills: Sequence[Bill], *, paid: bool) -> np.ndarray:
    """Mean over seeds at every evaluation, the source's training before it where that is paid."""
    length = min(len(bill.own) for bill in bills)
    return np.mean([np.array(bill.own[:length]) + paid * bill.source for bill in bills], axis=0)


def _panel(axes: Axes, results: Results, metric: str, spent: Mapping[str, np.ndarray], levels: Sequence[str]) -> None:
    factor, names, ends, lines = measures.unit(metric).factor, results.labels(), [], list[Any]()
    early, late = list[float](), list[float]()
    for arm in results.arms:
        x = spent[arm]
        samples = [[factor * value for value in values] for values in zip(*results.history(arm, metric), strict=True)]
        colour = colour_of(results.label(arm))
        means = band(axes, x.tolist(), samples, colour, within=measures.bounds(metric))
        axes.plot(x[-1], means[-1], "o", color=colour, ms=4)
        ends.append((float(x[-1]), means[-1], names[arm], colour))
        lines += pairwise(zip(x.tolist(), means, strict=True))
        early.append(means[round(SHOWN * (len(means) - 1))])
        late += means
    _limit(axes, early, late, measures.lower_is_better(metric))
    for arm in levels:
        _level(axes, results, arm, metric)
    label(axes, ends, [(x, y) for x, y, *_ in ends], lines)


def _limit(axes: Axes, early: Sequence[float], every: Sequence[float], lower: bool) -> None:
    """Limits that show how the later part of all courses differ."""
    best, worst = (min(every), max(early)) if lower else (max(every), min(early))
    margin = 0.08 * abs(worst - best) or 1.0
    axes.set_ylim(*sorted((best - margin, worst + margin) if lower else (best + margin, worst - margin)))


def _level(axes: Axes, results: Results, arm: str, metric: str) -> None:
    """Draw the last value of an arm across."""
    last = float(np.mean([values[-1] for values in results.history(arm, metric)])) * measures.unit(metric).factor
    colour = colour_of(results.label(arm))
    axes.axhline(last, color=colour, ls="--", lw=0.9)
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "bottom", "fontsize": 7.5}
    axes.text(0.01, last, f"{results.label(arm)} at its end", color=ink(colour), **style)
