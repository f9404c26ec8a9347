"""How long each rule looks before it draws."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from effi.claims import Results
from effi.report.canvas import SIZE, bar, colour_of
from effi.report.early_bird.snapshots import RULES, drawn_shares, of_seeds
from effi.report.early_bird.tables import mean


def draw_bars(results: Results, ratio: float, *, title: str) -> Figure:
    """Share of the training until each rule draws, a bar per arm and rule over the seeds that draw.

    Mean, 95 % interval and every seed; behind it how many seeds drew where not all did, or "never". Raises RecordError
    when no arm was searched at the ratio.
    """
    found = results.holding(*(f"share_{rule}_{ratio:g}" for rule in RULES))
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.75 * len(found.arms)))
    for row, arm in enumerate(found.arms):
        for place, (rule, name) in enumerate(RULES.items()):
            shares, y = drawn_shares(found, arm, rule, ratio), row + 0.28 * (place - 1)
            text = f"{name} {mean(shares)}{of_seeds(len(shares), len(found.seeds(arm)))}"
            colour, alpha = colour_of(found.label(arm)), 0.9 - 0.3 * place
            bar(axes, y, 0.25, shares, text, colour=colour, alpha=alpha, within=(0.0, 1.0))
    axes.set_yticks(range(len(found.arms)), [found.group(arm) for arm in found.arms])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.25), xlabel="share of the training until the draw", title=title)
    axes.grid(axis="y", visible=False)
    return figure
