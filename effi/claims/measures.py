"""Measured values as records hold them: what a metric is called in words, its unit, and its value in one record."""

from __future__ import annotations

import base64
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effi import paths
from effi.claims import stats
from effi.claims.stats import Interval
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
# Counted, not measured: equal at every seed, they are exact. A paper's file adds its own as `counted`, and as `timed`.
_COUNTED = ("parameters", "cost.flops", "cost.paper_flops")
_TIMED = ("cost.seconds",)
# Of variants that a paper's file lists as `mixed` these are another model's.
_WHILE_TRAINING = ("train_", "validation_")


class Unit(NamedTuple):
    """Factor from the stored to the shown value, the shown unit, and its decimals."""

    factor: float
    name: str
    digits: int


def unit(metric: str, *, difference: bool = False) -> Unit:
    """Accuracies, calibration errors, savings and ratios are fractions, shown in % (differences in points)."""
    if " / " in metric:
        return Unit(100.0, "%", 2)
    if metric.endswith(("accuracy", "calibration_error")) or _saved(metric):
        return Unit(100.0, "points" if difference or " - " in metric else "%", 1)
    if metric.startswith("cost."):
        return Unit(1.0, _UNITS.get(metric, ""), 1)
    return Unit(1.0, "", 0 if metric in _WHOLE else 3)


def bounds(metric: str, *, difference: bool = False) -> tuple[float, float]:
    """What a shown value can be, whatever an interval of few seeds says.

    0 to 100 for a share in %, -100 to 100 for a difference of two, -1 to 1 for a correlation; losses, counts, costs and
    ratios from 0 on; anything for savings, which may be losses, and other differences.
    """
    if _saved(metric):
        return stats.ANYWHERE
    shown = unit(metric, difference=difference).name
    if difference or " - " in metric:
        return (-100.0, 100.0) if shown == "points" else stats.ANYWHERE
    if metric.endswith(("mcc", "pearson", "spearman")):
        return -1.0, 1.0
    return 0.0, 100.0 if shown == "%" and " / " not in metric else math.inf


def counted(metric: str) -> bool:
    """Whether a metric, or both of which it is made, are counted exactly: parameters, FLOPs, bytes of tensors."""
    return all(_found(part, (*_COUNTED, *_patterns("counted"))) for part in parts(metric))


def timed(metric: str) -> bool:
    """Whether a clock measured the metric, or one of those of which it is made, so that a machine belongs to it."""
    return any(_found(part, (*_TIMED, *_patterns("timed"))) for part in parts(metric))


def _saved(metric: str) -> bool:
    """Whether the metric, or both of which it is made, are shares of a cost that are saved."""
    return all(_found(part, _patterns("saved")) for part in parts(metric))


def of_another(record: Record, metric: str) -> bool:
    """Whether a metric or curve is that of the training before models were mixed, and not of what came of it."""
    return metric.startswith(_WHILE_TRAINING) and record.get("variant") in _patterns("mixed")


def _patterns(key: str) -> list[str]:
    """What every paper's file lists under a key at its top."""
    return [pattern for content in _contents(paths.paper_file("").parent) for pattern in content.get(key, ())]


def interval(values: Sequence[float], metric: str, *, difference: bool = False) -> Interval:
    """95 % interval of the mean of a metric's shown values, or of differences of it, within what these can be."""
    return stats.interval(values, within=bounds(metric, difference=difference), counted=counted(metric))


def never(metric: str) -> float | None:
    """The value that stands for "never" in a metric, such as a share of training until something happens."""
    found = _found(metric, gathered("never"))
    return gathered("never")[found[0]] if found else None


def gathered(table: str) -> Mapping[str, Any]:
    """Entries of one table, such as [words] or [colours], of every paper's file together."""
    return {
        name: each
        for content in _contents(paths.paper_file("").parent)
        for name, each in content.get(table, {}).items()
    }


@cache
def _contents(folder: Path) -> tuple[Mapping[str, Any], ...]:
    return tuple(tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml")))


def parts(metric: str) -> list[str]:
    """Both metrics of a difference or a ratio, else the metric itself."""
    return metric.replace(" / ", " - ").split(" - ")


def _found(metric: str, patterns: Iterable[str]) -> tuple[str, str] | None:
    """The metric itself among the patterns, or the longest whose "*" stands for a part of it, and that part.

    So a paper can name "time_ratio/*/mst" where another has "time_ratio/*".
    """
    listed = sorted(patterns, key=len, reverse=True)
    if metric in listed:
        return metric, ""
    for pattern in listed:
        begin, star, end = pattern.partition("*")
        if star and metric.startswith(begin) and metric.endswith(end) and len(metric) > len(begin) + len(end):
            return pattern, metric[len(begin) : len(metric) - len(end)]
    return None


def is_known(metric: str, own: Mapping[str, str]) -> bool:
    """Whether the metric, or both of a difference or ratio, are common ones or among a paper's `own` words."""
    return all(_found(part, {**COMMON, **own}) for part in parts(metric))


def words(metric: str) -> str:
    """Name of a metric in words, without its unit: "test accuracy", "test loss minus train loss"."""
    for sign, word in ((" - ", "minus"), (" / ", "over")):
        first, _, second = metric.partition(sign)
        if second:
            return f"{words(first)} {word} {words(second)}"
    listed = {**COMMON, **gathered("words")}
    found = _found(metric, listed)
    return listed[found[0]].replace("*", found[1]) if found else metric.replace("_", " ")


def title(metric: str) -> str:
    """Name of a metric in words, with its unit: "test accuracy (%)"."""
    return words(metric) + (f" ({unit(metric).name})" if unit(metric).name else "")


def lower_is_better(metric: str) -> bool:
    """Whether less of the metric is better: losses, errors and costs."""
    return metric.startswith("cost.") or metric.endswith(("loss", "error", "perplexity"))


def value(record: Record, metric: str) -> float:
    """A metric of one record as stored, a cost ("cost.seconds"), a difference ("test_loss - train_loss") or a ratio.

    Raises RecordError when the record does not hold it, or holds that of another model, or a zero to divide by.
    """
    first, _, second = metric.partition(" - ")
    if second:
        return value(record, first) - value(record, second)
    first, _, second = metric.partition(" / ")
    if second:
        return ratio(value(record, first), value(record, second), f"{second} of {record['arm']}")
    if of_another(record, metric):
        raise RecordError(f"{record['arm']} holds no {metric!r} of its own: its model was mixed after that training.")
    cost = metric.startswith("cost.")
    held, key = (record["cost"], metric.removeprefix("cost.")) if cost else (record["metrics"], metric)
    if held.get(key) is None:
        raise RecordError(f"{record['arm']} holds no {metric!r}: it has {some(list(held)) or 'none'}.")
    return float(held[key])


def some(names: Sequence[str], most: int = 6) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def setting(record: Record, path: str) -> Any:
    """A setting of a record by its keys, "data.subset.test"; None where it has none."""
    found: Any = record["settings"]
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def ratio(over: float, under: float, what: str) -> float:
    """Raises RecordError where the divisor, which `what` names, is 0."""
    if under == 0:
        raise RecordError(f"{what} is 0.")
    return over / under


def marks(record: Record, metric: str) -> np.ndarray | None:
    """Which test examples a record's accuracy counts as hits, bool (n,) in their order; None where it does not say."""
    if metric not in record.get("marks", {}):
        return None
    count, text = record["marks"][metric]
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
