"""The plain table of arms and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from effi.claims import Pair, Results, measures, uncertainty
from effi.claims.papers import NOT_AVAILABLE
from effi.claims.uncertainty import Estimate
from effi.errors import RecordError
from effi.report.tables import Table

# Variants that a model must beat before it has learned anything: trained beside it, with no model's cost.
SANITY = {
    "majority": "the majority class",
    "logistic": "logistic regression",
    "unigram": "words by how often they come",
    "bigram": "words by the last one",
}


def sanity(results: Results, arms: Iterable[str]) -> tuple[str, ...]:
    """The sanity baselines of the data sets that these arms are of, as far as they ran."""
    datasets = {results.dataset(arm) for arm in arms}
    return tuple(arm for kind in SANITY for arm in results.where(variant=kind).arms if results.dataset(arm) in datasets)


def models(results: Results, baseline: str) -> dict[str, list[Pair]]:
    """Arm -> its pairs with the baseline, without sanity baselines. Errors as of `Results.pairs`."""
    return {arm: own for arm, own in results.pairs(baseline).items() if results.label(arm) not in SANITY}


def of_the_test_set(estimates: Iterable[Estimate]) -> tuple[str, ...]:
    """A note where intervals hold the error of a finite test set."""
    tested = [estimate for estimate in estimates if estimate.examples]
    sizes = " or ".join(f"{count:,}" for count in sorted({estimate.examples for estimate in tested}))
    note = f"Intervals of test accuracies hold the error of {sizes} test examples beside that of seeds."
    worst = "At its worst, as hits of single examples are not recorded."
    unknown = any(estimate.basis == "size" for estimate in tested)
    return (f"{note} {worst}" if unknown else note,) if tested else ()


def arms_table(results: Results, metrics: Sequence[str], arms: Sequence[str] | None = None) -> Table:
    """Mean and 95 % interval of metrics, a row per arm (of all that hold the first metric, unless listed).

    Sanity baselines of the same data sets stand last. Raises ParameterError for a listed arm that is unknown, and
    RecordError when no arm holds the first metric.
    """
    chosen = results.holding(metrics[0]) if arms is None else results.where(arms=arms)
    shown = dict.fromkeys((*chosen.arms, *sanity(results, chosen.arms)))
    found = {arm: [_estimate(results, arm, metric) for metric in metrics] for arm in shown}
    rows = ((arm, str(len(results.seeds(arm))), *map(_cell, own, metrics)) for arm, own in found.items())
    columns = ("arm", "n", *map(measures.title, metrics))
    notes = of_the_test_set(each for own in found.values() for each in own if each)
    return Table("Every arm: mean [95 % interval] over seeds", columns, tuple(rows), notes, folded=True)


def _estimate(results: Results, arm: str, metric: str) -> Estimate | None:
    try:
        return uncertainty.score(list(results.seeds(arm).values()), metric)
    except RecordError:
        return None


def _cell(estimate: Estimate | None, metric: str) -> str:
    return uncertainty.shown(estimate, metric, unit=False) if estimate else NOT_AVAILABLE
