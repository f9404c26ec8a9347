"""Measured values as records hold them: what a metric is called in words, its unit, and its value in one record."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effi import paths
from effi.errors import RecordError

if TYPE_CHECKING:
    from effi.records.store import Record

# Splits that are evaluated while a model trains give the first two scores only.
_TRAINING = {"train": "train {}", "validation": "validation {}"}
_TESTED = {"test": "test {}", "best_test": "test {} at the best epoch"}
_FIRST = {"loss": "loss", "accuracy": "accuracy"}
_MORE = {
    "perplexity": "perplexity",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}


def _named(splits: Mapping[str, str], scores: Mapping[str, str]) -> dict[str, str]:
    return {f"{split}_{score}": text.format(name) for split, text in splits.items() for score, name in scores.items()}


# What any paper may record; a paper's file adds its own under [words].
COMMON: Mapping[str, str] = {
    **_named(_TRAINING, _FIRST),
    **_named(_TESTED, {**_FIRST, **_MORE}),
    "scaled_test_loss": "test loss at the best temperature",
    "calibration_error": "calibration error",
    "best_epoch": "best epoch",
    "parameters": "parameters",
    "cost.flops": "training FLOPs",
    "cost.paper_flops": "training FLOPs as the paper counts",
    "cost.seconds": "training time",
    "cost.peak_bytes": "peak memory",
    "cost.joules": "energy",
}
_UNITS = {"cost.seconds": "s", "cost.peak_bytes": "bytes", "cost.joules": "J"}
_WHOLE = ("parameters", "flops_per_image", "best_epoch")


class Unit(NamedTuple):
    """Factor from the stored to the shown value, the shown unit, and its decimals."""

    factor: float
    name: str
    digits: int


def unit(metric: str, *, difference: bool = False) -> Unit:
    """Accuracies and calibration errors are stored as fractions and shown in % (a difference in points)."""
    if metric.endswith(("accuracy", "calibration_error")):
        return Unit(100.0, "points" if difference or " - " in metric else "%", 1)
    if metric.startswith("cost."):
        return Unit(1.0, _UNITS.get(metric, ""), 1)
    return Unit(1.0, "", 0 if metric in _WHOLE else 3)


def gathered(table: str) -> Mapping[str, str]:
    """Entries of one table, [words] or [colours], of every paper's file together."""
    return _gathered(paths.paper_file("").parent, table)


@cache
def _gathered(folder: Path, table: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.toml")):
        found |= tomllib.loads(path.read_text(encoding="utf-8")).get(table, {})
    return found


def _listed(metric: str, listed: Mapping[str, str]) -> str | None:
    """Words of a metric as listed, or as a pattern has them whose "*" stands for a number or a name."""
    if metric in listed:
        return listed[metric]
    for pattern, text in listed.items():
        begin, star, end = pattern.partition("*")
        if star and metric.startswith(begin) and metric.endswith(end) and len(metric) > len(begin) + len(end):
            return text.replace("*", metric[len(begin) : len(metric) - len(end)])
    return None


def is_known(metric: str, own: Mapping[str, str]) -> bool:
    """Whether the metric, or both metrics of a difference, are common ones or among a paper's `own` words."""
    return all(_listed(part, {**COMMON, **own}) for part in metric.split(" - "))


def words(metric: str) -> str:
    """Name of a metric in words, without its unit: "test accuracy", "test loss minus train loss"."""
    first, _, second = metric.partition(" - ")
    if second:
        return f"{words(first)} minus {words(second)}"
    return _listed(metric, {**COMMON, **gathered("words")}) or metric.replace("_", " ")


def title(metric: str) -> str:
    """Name of a metric in words, with its unit: "test accuracy (%)"."""
    return words(metric) + (f" ({unit(metric).name})" if unit(metric).name else "")


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
    cost = metric.startswith("cost.")
    held, key = (record["cost"], metric.removeprefix("cost.")) if cost else (record["metrics"], metric)
    if held.get(key) is None:
        raise RecordError(f"{record['arm']} holds no {metric!r}: it has {', '.join(held) or 'none'}.")
    return float(held[key])


def marks(record: Record, metric: str) -> np.ndarray | None:
    """Which test examples a record's accuracy counts as hits, bool (n,) in their order; None where it does not say."""
    if metric not in record.get("marks", {}):
        return None
    count, text = record["marks"][metric]
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
