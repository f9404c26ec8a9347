"""How long each rule looks before it draws."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from effi.claims import Results, stats
from effi.report.canvas import SIZE, colour_of, whiskers
from effi.report.early_bird.snapshots import NEVER, RULES, drawn_shares


def draw_bars(results: Results, ratio: float, *, title: str) -> Figure:
    """Share of the training until each rule draws, a bar per arm and rule over the seeds that draw.

    Mean, 95 % interval and every seed; behind it how many seeds drew where not all did, or "never". Raises RecordError
    when no arm was searched at the ratio.
    """
    found = results.holding(*(f"share_{rule}_{ratio:g}" for rule in RULES))
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.75 * len(found.arms)))
    for row, arm in enumerate(found.arms):
        for place, (rule, name) in enumerate(RULES.items()):
            shares, seeds = drawn_shares(found, arm, rule, ratio), len(found.seeds(arm))
            y = row + 0.28 * (place - 1)
            right = _bar(axes, y, shares, colour_of(found.label(arm)), 0.9 - 0.3 * place)
            some = f" ({len(shares)} of {seeds})" if 0 < len(shares) < seeds else ""
            said = f"{name} {sum(shares) / len(shares):.2f}{some}" if shares else f"{name} {NEVER}"
            axes.annotate(said, (right, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_yticks(range(len(found.arms)), [found.group(arm) for arm in found.arms])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.25), xlabel="share of the training until the draw", title=title)
    axes.grid(axis="y", visible=False)
    return figure


def _bar(axes: plt.Axes, y: float, shares: list[float], colour: str, alpha: float) -> float:
    """Draw one bar; where it ends with its whiskers."""
    if not shares:
        return 0.0
    span = stats.interval(shares)
    low, high = whiskers(span, (0.0, 1.0))
    axes.barh(y, span.mean, 0.25, color=colour, alpha=alpha)
    axes.errorbar(span.mean, y, xerr=[[span.mean - low], [high - span.mean]], color="black", lw=1, capsize=2)
    axes.plot(shares, [y] * len(shares), "o", color="black", ms=2.5, mfc="white", mew=0.6)
    return max(high, *shares)
