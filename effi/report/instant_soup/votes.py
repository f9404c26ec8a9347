"""How far the masks of a round agree on what to prune, and what their disagreement does to its pace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results
from effi.errors import RecordError
from effi.instant_soup import pair_overlap
from effi.report.canvas import PALETTE

VOTES = "prune/votes/"


class Agreement(NamedTuple):
    """Of one seed's rounds that asked weak nets, each (rounds,): sparsity before, and shares of the weights alive.

    `overlap` is what pairs of masks prune in common over what either does, `chance` the same of masks drawn at random
    that prune as much, `pruned` what the votes pruned and `asked` what they would have, had all masks agreed; a
    magnitude cut that follows the last votes is left out.
    """

    before: np.ndarray
    overlap: np.ndarray
    chance: np.ndarray
    pruned: np.ndarray
    asked: np.ndarray


def agreement(results: Results, arm: str) -> list[Agreement]:
    """A record per seed; RecordError for an arm whose prunes were not told."""
    records = results.seeds(arm).values()
    found = [_of_seed({name: np.array(each) for name, each in one["history"].items()}) for one in records]
    if not found or any(each is None for each in found):
        raise RecordError(f"{arm} holds no votes of its prunes: train an arm of instant soup.")
    return [each for each in found if each is not None]


def _of_seed(told: dict[str, np.ndarray]) -> Agreement | None:
    counts = sorted((int(name.removeprefix(VOTES)), name) for name in told if name.startswith(VOTES))
    if len(counts) < 3 or "prune/moved" not in told:
        return None
    asked_nets = told["prune/moved"] > 0  # the last cut asks none
    votes_RK = np.stack([told[name] for _, name in counts], 1)[asked_nets]
    voters = len(counts) - 1
    each = votes_RK @ (voters - np.arange(voters + 1)) / voters
    names = ("before", "after", "nominal", "final")
    before, after, goal, cut = (told[f"prune/{name}"][asked_nets] for name in names)
    overlap = np.array([pair_overlap(row.tolist()) for row in votes_RK])
    alive = 1 - before
    return Agreement(before, overlap, each / (2 - each), (after * (1 - cut) - before) / alive, (goal - before) / alive)


def vote_curves(results: Results, arms: Sequence[str], *, title: str) -> Figure:
    """Overlap of masks, and share of the weights alive that a round prunes, over the sparsity before it.

    A line per seed, dashed where chance, or agreement, would have it. RecordError for an arm without votes.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
    for arm, colour in zip(arms, PALETTE, strict=False):
        for place, one in enumerate(agreement(results, arm)):
            label = results.label(arm) if not place else None
            _line(left, 100 * one.before, one.overlap, one.chance, colour, label)
            _line(right, 100 * one.before, 100 * one.pruned, 100 * one.asked, colour, label)
    shown = "sparsity before the round (%)"
    left.set(
        xlabel=shown, ylabel="pruned sets of pairs: overlap (IoU)", title="do a round's masks agree?", ylim=(0, 1.02)
    )
    right.set(xlabel=shown, ylabel="pruned of the weights alive (%)", title="what does a round prune?", ylim=(0, None))
    left.plot([], [], "--", color="#666666", lw=1, label="by chance")
    right.plot([], [], "--", color="#666666", lw=1, label="if all agreed")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.suptitle(title)
    return figure


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, beside: np.ndarray, colour: str, label: str | None) -> None:
    axes.plot(x, y, "o-", color=colour, ms=3, lw=1, alpha=0.8, label=label)
    axes.plot(x, beside, "--", color=colour, lw=1, alpha=0.5)
