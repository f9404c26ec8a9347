"""When the phases of an arm's schedule are, and the masks of its training, over the share of it that is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from effi.claims import Results, measures
from effi.mixed_sparsity.schedule import CLOSE, Phase, Phases

TINTS: Mapping[Phase, str] = {"warm-up": "#FBE6D4", "ultra": "#FFFFFF", "restoration": "#DCEBF7"}


def phases(results: Results, arm: str) -> dict[Phase, tuple[float, float]]:
    """Begin and end of each phase, by the settings of the first seed; none of an arm without a schedule of several."""
    found = measures.setting(next(iter(results.seeds(arm).values())), "recipe.phases")
    lengths = {} if found is None else {name: each for name, each in Phases(**found).lengths().items() if each > CLOSE}
    ends = np.cumsum(list(lengths.values())).tolist()
    return {name: (end - lengths[name], end) for name, end in zip(lengths, ends, strict=True)} if len(ends) > 1 else {}


def shade(axes: Axes, found: Mapping[Phase, tuple[float, float]], *, named: bool = True) -> None:
    """Phases as grounds of a panel over shares of the training, with their names at the top."""
    for name, (begin, end) in found.items():
        axes.axvspan(begin, end, color=TINTS[name], lw=0, zorder=0)
        if named:
            # Names of short phases stay within the panel.
            x, side = (begin, "left") if begin == 0 else (end, "right") if end > 0.99 else ((begin + end) / 2, "center")
            style: dict[str, Any] = {"ha": side, "va": "bottom", "fontsize": 7.5, "color": "#555555"}
            axes.text(x, 1.01, name, transform=axes.get_xaxis_transform(), **style)


def shares(results: Results, arm: str, steps: str = "mask/step") -> list[float]:
    """Shares of the training at which values of a history stand, "step" for losses. RecordError without."""
    done, whole = results.history(arm, steps)[0], results.history(arm, "step")[0][-1]
    return [each / whole for each in done]
