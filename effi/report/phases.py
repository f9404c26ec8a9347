"""What an arm's cost consists of, drawn to scale beside its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from effi.claims import Pair, Results, measures, stats
from effi.errors import ParameterError
from effi.report.canvas import SIZE, reach
from effi.report.costs import LOST, before, lost, spent

# What was lost stands last: it is of no method.
PHASE_COLOURS = {"search": "#D55E00", "train": "#0072B2", "evaluate": "#999999", LOST: "#F0E442"}


def cost_bars(
    results: Results,
    arms: Sequence[str],
    *,
    title: str,
    baseline: str,
    key: Literal["flops", "seconds"] = "flops",
) -> Figure:
    """Search, training and evaluation stacked in % of the baseline's cost at the same seed, mean over seeds.

    Behind them what interruptions threw away, which the baseline's cost leaves out. The whiskers are the 95 % interval
    of the whole. Raises ParameterError for an arm without a pair, or when no arm is the baseline, and RecordError where
    the cost was not measured.
    """
    pairs, labels = results.pairs(baseline), results.where(arms=arms).labels()
    wasted = any(lost(pair.arm, key) for arm in labels for pair in pairs.get(arm, ()))
    phases = {name: colour for name, colour in PHASE_COLOURS.items() if wasted or name != LOST}
    for arm in labels:
        if not pairs.get(arm):
            raise ParameterError(f"{arm} shares no finished seed with {baseline}: run both.")
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.1 + 0.3 * len(labels)))
    for row, arm in enumerate(labels):
        shares = np.array([_shares(pair, key, tuple(phases)) for pair in pairs[arm]])
        lefts = np.cumsum(shares.mean(axis=0)) - shares.mean(axis=0)
        for (phase, colour), left, width in zip(phases.items(), lefts, shares.mean(axis=0), strict=True):
            axes.barh(row, width, 0.7, left, color=colour, label=phase if row == 0 else None)
        whole = stats.interval(shares.sum(axis=1).tolist())
        axes.errorbar(whole.mean, row, xerr=reach(whole), color="black", lw=1, capsize=2)
        text, right = f"{stats.number(whole.mean, 1)} %", whole.mean + reach(whole)
        axes.annotate(text, (right, row), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.axvline(100, color="black", ls="--", lw=1)
    axes.set_yticks(range(len(labels)), labels.values())
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel=f"{measures.words(f'cost.{key}')}, % of {baseline}", title=title, xlim=(0, None))
    figure.legend(loc="outside lower center", ncols=len(phases), fontsize=8)
    axes.grid(axis="y", visible=False)
    return figure


def _shares(pair: Pair, key: str, phases: Sequence[str]) -> list[float]:
    """Phases in % of the baseline's whole; search is whatever was paid before training."""
    base = measures.value(pair.baseline, f"cost.{key}") - lost(pair.baseline, key)
    parts = {name: spent(pair.arm, name, key) for name in phases} | {"search": before(pair.arm, key)}
    return [100 * parts[name] / base for name in phases]
