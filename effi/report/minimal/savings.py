"""What fewer parameters save in parameters, FLOPs and measured seconds (C11)."""

from __future__ import annotations

from matplotlib.figure import Figure

from effi.claims import Results
from effi.report.figures import bars_with_intervals

RATIOS = {"parameters_ratio": "parameters", "flops_ratio": "FLOPs", "time_ratio": "time"}


def savings_bars(results: Results, *, title: str, baseline: str, check: str = "check/C11") -> Figure:
    """A bar per arm for its parameters, forward FLOPs and time of a training step, each as a share of the baseline's.

    They are the metrics "time_ratio/minimum" of the check. Errors as of `Results.seeds`.
    """
    timed = list(results.seeds(check).values())
    names = [metric.partition("/")[2] for metric in timed[0]["metrics"] if metric.startswith("time_ratio/")]
    arms = Results(
        {
            **record,
            "arm": name,
            "dataset": check,
            "model": None,
            "variant": name,
            "ratio": None,
            "metrics": {kind: record["metrics"][f"{kind}/{name}"] for kind in RATIOS},
        }
        for record in timed
        for name in names
    )
    return bars_with_intervals(arms, RATIOS, title=title, xlabel=f"share of {baseline}")
