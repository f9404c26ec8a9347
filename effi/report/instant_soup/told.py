"""What two claims without a rule of their own are read from: cells that match the dense model, cosines of masks."""

from __future__ import annotations

from statistics import fmean, stdev

from effi.claims import Pair, Results, measures
from effi.report.instant_soup.kept import score_of
from effi.report.tables import Table

OVERLAP = "pruned_iou/magnitude"


def matching_table(results: Results, *, method: str, baseline: str) -> Table:
    """Per cell of the method how far its mean lies below the baseline, and the standard deviation of that (C11).

    Errors as of `Results.pairs`.
    """
    rows, near = [], 0
    for arm, pairs in results.pairs(baseline).items():
        if pairs and pairs[0].arm["variant"] == method and len(pairs) > 1:
            below, spread = _below(pairs)
            near += below <= spread
            rows.append((arm, str(len(pairs)), f"{below:.2f}", f"{spread:.2f}", "yes" if below <= spread else "no"))
    title = f"Does {method} come within a standard deviation of {baseline}? In {near} of {len(rows)} cells"
    return Table(title, ("arm", "n", f"below {baseline}", "its standard deviation", "within"), tuple(rows))


def _below(pairs: list[Pair]) -> tuple[float, float]:
    """In points, or hundredths of a correlation."""
    metric = score_of(pairs)
    ours, theirs = ([100 * measures.value(pair[side], metric) for pair in pairs] for side in (0, 1))
    return fmean(theirs) - fmean(ours), stdev(theirs)


def cosine(overlap: float, sparsity: float) -> float:
    """Cosine of two masks of kept weights, from the overlap (intersection over union) of what each of them prunes."""
    shared = 2 * overlap / (1 + overlap)
    return 1 - sparsity * (1 - shared) / (1 - sparsity)


def cosine_table(results: Results, variant: str = "masks") -> Table:
    """The paper's own measure of C7 for our masks: cosine of what a lottery ticket and one cut keep, mean of seeds."""
    rows = []
    for arm in results.where(variant=variant).arms:
        records = list(results.seeds(arm).values())
        pruned = records[0]["ratio"]
        mean = fmean(cosine(measures.value(record, OVERLAP), pruned) for record in records)
        rows.append((arm, str(len(records)), f"{100 * mean:.2f} %", f"{100 * (1 - pruned):g} %"))
    return Table("Cosine of kept weights, LTH and one cut", ("arm", "n", "cosine", "by chance"), tuple(rows))
