"""How connections move: how many an update makes new, how many have ever been tried, and which of them last."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results, stats
from effi.report.canvas import SIZE, band, bar, colour_of, label_ends, question
from effi.report.mixed_sparsity.phases import phases, shade, shares

SHARE = (0.0, 100.0)
PANELS = {"mask/churn": "new at an update (%)", "mask/ever": "ever active (%)"}
GROWN = {"gradient": "by gradient", "random": "at random"}
ALPHAS = (0.9, 0.45)


def turnover_curves(results: Results, arms: Sequence[str], *, title: str) -> Figure:
    """Of the active weights those that each update made so, and of all weights those ever active, over the training.

    Means and 95 % intervals over seeds. Below, of what an update made active the share that the next one left, by what
    grew it: of all updates, with every seed. Phases are shaded where all arms that have some have the same. RecordError
    when no arm has a mask that moves.
    """
    chosen = results.where(arms=arms).remembering("mask/churn", "mask/ever").holding("churn")
    height = 4.2 + 0.5 * len(chosen.arms)
    how = {"height_ratios": [1, 1, 0.2 + 0.25 * len(chosen.arms)]}
    figure, (churn, ever, below) = plt.subplots(3, 1, figsize=(SIZE[0], height), gridspec_kw=how)
    ever.sharex(churn)
    found = [own for arm in chosen.arms if (own := phases(chosen, arm))]
    for axes, (name, words) in zip((churn, ever), PANELS.items(), strict=True):
        if found and all(each == found[0] for each in found):
            shade(axes, found[0], named=axes is churn)
        axes.set(xlim=(0, 1), ylabel=words)
        _curves(axes, chosen, name)
    ever.set_xlabel("share of the training")
    _survivals(below, chosen)
    return question(figure, title)


def _curves(axes: Axes, results: Results, history: str) -> None:
    """The first mask is no update, and left out."""
    ends = []
    for arm, name in results.labels().items():
        x, colour = shares(results, arm)[1:], colour_of(results.label(arm))
        samples = [[100 * value for value in values] for values in zip(*results.history(arm, history), strict=True)]
        means = band(axes, x, samples[1:], colour, within=SHARE)
        ends.append((x[-1], means[-1], name, colour))
    axes.set_ylim(bottom=0)
    label_ends(axes, ends)


def _survivals(axes: Axes, results: Results) -> None:
    for row, arm in enumerate(results.arms):
        for place, (origin, word) in enumerate(GROWN.items()):
            metric, colour = f"survival/{origin}", colour_of(results.label(arm))
            values = [100 * each for each in results.values(arm, metric)] if results.holds(arm, metric) else []
            text = f"{word} {stats.number(stats.interval(values).mean, 1)}" if values else f"none {word}"
            y, alpha = row + 0.42 * (place - 0.5), ALPHAS[place]
            bar(axes, y, 0.38, values, text, colour=colour, alpha=alpha, within=SHARE)
    axes.set_yticks(range(len(results.arms)), results.labels().values())
    words = "of the weights that an update made active: still active after the next (%)"
    axes.set(xlim=(0, 125), ylim=(len(results.arms) - 0.5, -0.5), xticks=range(0, 101, 20), xlabel=words)
    axes.grid(axis="y", visible=False)
