"""Do masks settle? The distance of any two snapshots, and where the rules draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from effi.claims import Results
from effi.report.canvas import SIZE, question, spread
from effi.report.early_bird.snapshots import NEVER, RULES, chance, history, of_seeds, positions

RULE_WORDS = "Drawing epoch of the ticket: R1 one distance below ε; R2 five distances; R3 five masks"


def heat_maps(results: Results, ratios: Sequence[float], *, arm: str, title: str) -> Figure:
    """Distance between the masks of any two snapshots, mean over seeds; warm is close; a row per ratio.

    Left on the scale 0 to 1, right on 0 to 2p(1-p), the distance of independent masks. Dashed: where R1, R2 and R3
    draw. Raises RecordError for an arm that failed or keeps no distances.
    """
    figure, grid = plt.subplots(len(ratios), 2, figsize=(SIZE[0], 0.6 + 2.9 * len(ratios)), squeeze=False)
    for row, ratio in zip(grid, ratios, strict=True):
        scales = {"0 to 1": 1.0, f"0 to 2p(1-p) = {chance(ratio):.3g}": chance(ratio)}
        for axes, (words, most) in zip(row, scales.items(), strict=True):
            _heat(axes, results, arm, f"heat_{ratio:g}", most, words)
            _mark_draws(axes, _draws(results, arm, ratio))
        row[0].set_ylabel(f"p = {ratio:g}\nsnapshot after epoch")
    for axes in grid[-1]:
        axes.set_xlabel("snapshot after epoch")
    figure.supxlabel(RULE_WORDS, fontsize=8)
    return question(figure, title)


def _heat(axes: Axes, results: Results, arm: str, key: str, most: float, words: str) -> None:
    at, flat = positions(results, arm), history(results, arm, key).mean(axis=0)
    mesh = axes.pcolormesh(at, at, flat.reshape(len(at), len(at)), cmap="inferno_r", vmin=0, vmax=most, rasterized=True)
    axes.figure.colorbar(mesh, ax=axes, label=f"mask distance, {words}", shrink=0.9)
    axes.set_aspect("equal")
    axes.grid(visible=False)


def _draws(results: Results, arm: str, ratio: float) -> dict[str, float]:
    """Label -> mean drawing epoch over the seeds that drew, infinite for never; rules that agree share a label."""
    at, seeds = positions(results, arm), len(results.seeds(arm))
    places: dict[tuple[float, int], list[str]] = {}
    for rule, name in RULES.items():
        found = [int(each) for each in results.values(arm, f"found_{rule}_{ratio:g}") if each >= 0]
        epoch = float(at[found].mean()) if found else math.inf
        places.setdefault((epoch, len(found)), []).append(name)
    return {_draw_words(names, *place, seeds): place[0] for place, names in places.items()}


def _draw_words(names: Sequence[str], epoch: float, drawn: int, seeds: int) -> str:
    return f"{' '.join(names)}: {f'{epoch:.3g}' if drawn else NEVER}{of_seeds(drawn, seeds)}"


def _mark_draws(axes: Axes, draws: Mapping[str, float]) -> None:
    """A dashed line for each drawing epoch, named above the panel; what never drew is named at its right end."""
    left, right = axes.get_xlim()
    for epoch in filter(math.isfinite, draws.values()):
        line = axes.axvline(epoch, color="white", ls="--", lw=1)
        line.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    places = [(min(epoch, right) - left) / (right - left) for epoch in draws.values()]
    for place, text in zip(spread(places, 0.34, 0.1, 0.9), draws, strict=True):
        axes.text(place, 1.02, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5)
