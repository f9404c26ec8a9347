"""What a sparse model would keep, and how many bytes it takes: the arm to choose at each sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from effi.claims import Pair, Results, measures, uncertainty
from effi.claims.results import holds
from effi.report.tables import Table
from effi.report.trades import validation_of

# Of a task the first that its records hold.
SCORES = ("test_mcc", "test_pearson", "test_accuracy")
UNCHECKED = SCORES[:2]  # not measured on validation
LOSS = "validation_loss"
COLUMNS = ("group", "pruned", "arm", "change of the test score", "MB stored", "of dense")


def kept_table(results: Results, *, baseline: str) -> Table:
    """At each sparsity of a group the arm that validation likes best, and what its test split says of it.

    Chosen by the mean change of validation accuracy beside the baseline. A correlation is not measured on validation,
    and losses order arms otherwise: there it is the best on the test split, and said to be. Stored are the weights left
    in four bytes each and a bit per prunable weight for the mask. Errors as of `Results.pairs`.
    """
    at: dict[tuple[str, float], dict[str, list[Pair]]] = {}
    for arm, pairs in results.pairs(baseline).items():
        ratio = pairs[0].arm["ratio"] if pairs else None
        if ratio is not None and all(holds(record, LOSS) for pair in pairs for record in pair):
            at.setdefault((results.group(arm), ratio), {})[arm] = pairs
    rows = (_row(results, group, ratio, arms) for (group, ratio), arms in sorted(at.items()))
    note = (
        "The arm is chosen on validation, by accuracy; by a correlation on the test split itself, which flatters. Its "
        "change beside dense is that of the test split: mean [95 % interval]. Bytes: four for each weight left, "
        "and one bit for each that may be pruned."
    )
    return Table("What a sparse model would keep", COLUMNS, tuple(rows), (note,))


def _row(results: Results, group: str, ratio: float, arms: dict[str, list[Pair]]) -> tuple[str, ...]:
    metric = score_of(next(iter(arms.values())))
    best = max(arms, key=lambda arm: _liked(arms[arm], metric))
    pairs = arms[best]
    change = uncertainty.shown(uncertainty.change(pairs, metric), metric, difference=True)
    stored, dense = (_megabytes(pairs, side) for side in (0, 1))
    told = f"{measures.words(metric)}: {change}"
    label = results.label(best) + (" (best on test)" if metric in UNCHECKED else "")
    return group, f"{100 * ratio:g} %", label, told, f"{stored:.2f}", f"{100 * stored / dense:.0f} %"


def score_of(pairs: Sequence[Pair]) -> str:
    """The first score of `SCORES` that all records hold, else the test loss."""
    return next((name for name in SCORES if all(holds(r, name) for pair in pairs for r in pair)), "test_loss")


def _liked(pairs: Sequence[Pair], metric: str) -> float:
    """How much an arm is preferred to its baseline, seed by seed, as arms have different seeds."""
    by = metric if metric in UNCHECKED else validation_of(metric)
    sign = -1 if measures.lower_is_better(by) else 1
    return sign * fmean(measures.value(pair.arm, by) - measures.value(pair.baseline, by) for pair in pairs)


def _megabytes(pairs: Sequence[Pair], side: int) -> float:
    return fmean(stored_bytes(pair[side]["metrics"]) for pair in pairs) / 1e6


def stored_bytes(metrics: Mapping[str, float]) -> float:
    """Of a model's weights: four for each that is left, and a bit of mask, where there is one, for each prunable."""
    count, alive, prunable = (metrics.get(name, 1.0) for name in ("parameters", "alive", "prunable"))
    masked = alive < 1 and "prunable" in metrics
    return 4 * (count - (1 - alive) * prunable) + prunable / 8 if masked else 4 * count
