"""What a sparse model would keep, and how many bytes it takes: the arm to choose at each sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from effi.claims import Pair, Results, measures, uncertainty
from effi.claims.results import holds
from effi.report.tables import Table

# Of a task the first that its records hold.
SCORES = ("test_mcc", "test_pearson", "test_accuracy")
COLUMNS = ("group", "pruned", "arm", "change of the test score", "MB stored", "of dense")


def kept_table(results: Results, *, baseline: str) -> Table:
    """At each sparsity of a group the arm of the lowest validation loss, and what its test split says of it.

    Stored are the weights left in four bytes each and a bit per prunable weight for the mask. Errors as of
    `Results.pairs`.
    """
    at: dict[tuple[str, float], dict[str, list[Pair]]] = {}
    for arm, pairs in results.pairs(baseline).items():
        ratio = pairs[0].arm["ratio"] if pairs else None
        if ratio is not None and all(holds(pair.arm, "validation_loss") for pair in pairs):
            at.setdefault((results.group(arm), ratio), {})[arm] = pairs
    rows = (_row(results, group, ratio, arms) for (group, ratio), arms in sorted(at.items()))
    note = (
        "The arm is chosen on validation, its change beside dense is that of the test split: mean [95 % interval]. "
        "Bytes: four for each weight left, and one bit for each that may be pruned."
    )
    return Table("What a sparse model would keep", COLUMNS, tuple(rows), (note,))


def _row(results: Results, group: str, ratio: float, arms: dict[str, list[Pair]]) -> tuple[str, ...]:
    best = min(arms, key=lambda arm: fmean(measures.value(pair.arm, "validation_loss") for pair in arms[arm]))
    pairs = arms[best]
    metric = next(
        (name for name in SCORES if all(holds(record, name) for pair in pairs for record in pair)), "test_loss"
    )
    change = uncertainty.shown(uncertainty.change(pairs, metric), metric, difference=True)
    stored, dense = (_megabytes(pairs, side) for side in (0, 1))
    told = f"{measures.words(metric)}: {change}"
    return group, f"{100 * ratio:g} %", results.label(best), told, f"{stored:.2f}", f"{100 * stored / dense:.0f} %"


def _megabytes(pairs: Sequence[Pair], side: int) -> float:
    """Of the weights that are left, and of a mask where there is one."""
    sizes = [pair[side]["metrics"] for pair in pairs]
    counts = [each["parameters"] - (1 - each["alive"]) * each["prunable"] for each in sizes]
    bits = fmean(each["prunable"] if each["alive"] < 1 else 0 for each in sizes)
    return (4 * fmean(counts) + bits / 8) / 1e6
