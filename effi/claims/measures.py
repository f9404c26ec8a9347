"""Measured values as records hold them: which record counts, what a metric is called and its unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from effi.errors import RecordError
from effi.records.store import Record

Runs = dict[str, dict[int, Record]]


class Unit(NamedTuple):
    """Factor from the stored to the shown value, the shown unit, and its decimals."""

    factor: float
    name: str
    digits: int


_COSTS: dict[str, tuple[str, str]] = {
    "cost.flops": ("training FLOPs", ""),
    "cost.seconds": ("training time", "s"),
    "cost.peak_bytes": ("peak memory", "bytes"),
    "cost.joules": ("energy", "J"),
}
_WHOLE = ("parameters", "flops_per_image", "best_epoch")


def unit(metric: str, *, difference: bool = False) -> Unit:
    """Accuracies and calibration errors are stored as fractions and shown in % (a difference in points)."""
    if metric.endswith(("accuracy", "calibration_error")):
        return Unit(100.0, "points" if difference else "%", 1)
    if metric in _COSTS:
        return Unit(1.0, _COSTS[metric][1], 1)
    return Unit(1.0, "", 0 if metric in _WHOLE else 3)


def title(metric: str) -> str:
    """Name of a metric in words, with its unit: "test accuracy (%)"."""
    name = _COSTS[metric][0] if metric in _COSTS else metric.replace("_", " ")
    return name + (f" ({unit(metric).name})" if unit(metric).name else "")


def lower_is_better(metric: str) -> bool:
    """Whether less of the metric is better: losses, errors and costs."""
    return metric.startswith("cost.") or metric.endswith(("loss", "error", "perplexity"))


def value(record: Record, metric: str) -> float:
    """A metric of one record as stored, a cost ("cost.seconds") or a difference ("test_loss - train_loss").

    Raises RecordError when the record does not hold it.
    """
    first, _, second = metric.partition(" - ")
    if second:
        return value(record, first) - value(record, second)
    held, key = (record["cost"], metric[5:]) if metric in _COSTS else (record["metrics"], metric)
    if held.get(key) is None:
        raise RecordError(f"{record['arm']} holds no {metric!r}: it has {', '.join(held) or 'none'}.")
    return float(held[key])


def by_arm(records: Iterable[Record]) -> Runs:
    """Arm -> seed -> newest finished record; seeds whose settings differ from the newest's are left out."""
    runs: Runs = {}
    for record in records:
        if record["status"] == "done":
            seeds = runs.setdefault(record["arm"], {})
            seeds.pop(record["seed"], None)
            seeds[record["seed"]] = record
    return {arm: _alike(seeds) for arm, seeds in runs.items()}


def _alike(seeds: dict[int, Record]) -> dict[int, Record]:
    newest = next(reversed(seeds.values()))["settings"]
    return {seed: seeds[seed] for seed in sorted(seeds) if seeds[seed]["settings"] == newest}


def values(seeds: Mapping[int, Record], metric: str) -> list[float]:
    """A metric of one arm over its seeds, in the shown unit. Raises RecordError when one does not hold it."""
    return [value(record, metric) * unit(metric).factor for record in seeds.values()]


def dataset(arm: str) -> str:
    """Data set part of an arm's name "data set / variant"; empty when it has none."""
    return arm.rpartition("/")[0]


def variant(arm: str) -> str:
    """Variant part of an arm's name."""
    return arm.rpartition("/")[2]
