"""Is it the learning, and how good must the source be? A metric over growth steps, and over those of the source."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from effi.claims import Results
from effi.report.series import lines


def growth_steps(results: Results, group: str, *, metric: str, steps: Mapping[str, int]) -> Figure:
    """A metric over the growth steps of LiGO's arms (variant -> steps); dashed the released rate.

    Errors as of `lines`.
    """
    own: dict[float, str] = {count: f"{group}/{name}" for name, count in steps.items()}
    how = {"title": f"{group}: do growth steps matter?", "xlabel": "growth steps", "xscale": "symlog"}
    return lines(results, {"LiGO": own}, metric, level=_known(results, f"{group}/ligo-released"), **how)


def source_steps(
    results: Results, group: str, *, metric: str, ways: Mapping[str, str], steps: Mapping[str, int]
) -> Figure:
    """A metric over the steps of the source (ending of a variant -> steps) for ways to grow (variant -> name).

    Dashed: scratch. Errors as of `lines`.
    """
    own: dict[str, dict[float, str]] = {
        name: {count: f"{group}/{way}{end}" for end, count in steps.items()} for way, name in ways.items()
    }
    how = {"title": f"{group}: does a better source grow better?", "xlabel": "steps of the source", "xscale": "log"}
    return lines(results, own, metric, level=_known(results, f"{group}/scratch"), **how)


def _known(results: Results, arm: str) -> str | None:
    return arm if arm in results else None
