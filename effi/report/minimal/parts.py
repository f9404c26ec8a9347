"""What a model consists of, drawn to scale."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

PART_COLOURS = ("#BBBBBB", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#666666")


def stacked_parts(models: Mapping[str, Mapping[str, int]], *, title: str) -> Figure:
    """A bar per model, cut into its parts by parameter count; totals are written at their ends."""
    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.5 * len(models)))
    widest = max(sum(parts.values()) for parts in models.values())
    for row, parts in enumerate(models.values()):
        left = 0
        for (name, count), colour in zip(parts.items(), PART_COLOURS, strict=False):
            axes.barh(row, count, 0.7, left, color=colour, edgecolor="white", label=name if row == 0 else None)
            left += count
        axes.annotate(f"{left:,}", (left, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(models)), models.keys())
    axes.invert_yaxis()
    axes.set(xlabel="trainable parameters", title=title, xlim=(0, 1.15 * widest))
    axes.legend(loc="lower right", ncols=3, fontsize=8)
    axes.grid(axis="y", visible=False)
    return figure
