"""The saving beside training dense for shorter: FLOPs of dense training that ends with an equal loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from effi.errors import ParameterError
from effi.mixed_sparsity.flops import CONVENTIONS, Convention

if TYPE_CHECKING:
    from effi.records import Record

LADDER = ("dense-eighth", "dense-quarter", "dense-half", "dense")
METHOD = "mst"
RATIO, INSIDE = "flops_at_equal_loss", "inside"


class Equal(NamedTuple):
    """A FLOP ratio, and whether it was read off inside of what dense runs reach."""

    ratio: float
    inside: bool


def flops_at_equal_loss(losses: Mapping[float, float], loss: float) -> Equal:
    """The fewest FLOPs of dense training for a loss, of runs FLOPs -> loss; linear in the logarithm of FLOPs between.

    So of a loss that falls, rises and falls again the first place counts. A loss above that of the cheapest run takes
    its FLOPs, and one below all those of the run with the lowest, both of them not inside. ParameterError for fewer
    than two runs, FLOPs that are not above 0, and losses that are not finite.
    """
    runs = sorted(losses.items())
    if len(runs) < 2 or runs[0][0] <= 0 or not all(map(math.isfinite, (loss, *losses.values()))):
        raise ParameterError(
            f"a loss of {loss:g} is looked for among dense runs of FLOPs and loss {runs}: give two runs or more, of "
            "FLOPs above 0 and finite losses"
        )
    if loss >= runs[0][1]:
        return Equal(runs[0][0], loss == runs[0][1])
    for (few, above), (many, below) in pairwise(runs):
        if below <= loss:
            return Equal(few * (many / few) ** ((above - loss) / (above - below)), True)
    return Equal(min(runs, key=lambda run: run[1])[0], False)


def equal_loss_ratio(
    own: Mapping[str, float],
    dense: Iterable[Mapping[str, float]],
    *,
    metric: str = "test_loss",
    convention: Convention = "causal",
) -> Equal:
    """FLOPs of an arm over those of dense training of equal loss, by metrics of records of one seed.

    Below 1 the arm saves FLOPs beside dense training that is as much shorter. ParameterError for records that lack the
    metric or `flops_ratio/CONVENTION`, else as in `flops_at_equal_loss`.
    """
    (flops, loss), *runs = (_run(metrics, metric, f"flops_ratio/{convention}") for metrics in (own, *dense))
    found = flops_at_equal_loss(dict(runs), loss)
    return found._replace(ratio=flops / found.ratio)


def _run(metrics: Mapping[str, float], *names: str) -> tuple[float, float]:
    for name in names:
        if name not in metrics:
            raise ParameterError(f"a record without {name} tells nothing of equal losses; give records of this paper")
    loss, flops = (metrics[name] for name in names)
    return flops, loss


def has_ladder(records: Sequence[Record]) -> bool:
    """Whether some data set has all dense runs among these records, and the method."""
    return bool(_ladders(records))


def at_equal_loss(records: Sequence[Record]) -> dict[str, float]:
    """Of the records of one seed `flops_at_equal_loss/CONVENTION/DATASET` of the method, `.../ARM` of every other arm.

    Ratios as of `equal_loss_ratio`; `inside/DATASET/...` is 1 where the loss lies inside of what the dense runs reach.
    Data sets that lack a dense run are left out.
    """
    metrics = dict[str, float]()
    for dataset, ladder in _ladders(records).items():
        for record in records:
            if record["dataset"] == dataset and record["variant"] not in LADDER:
                arm = record["arm"].rpartition("/")[2]
                name = dataset if arm == METHOD else f"{dataset}/{arm}"
                told = {each: equal_loss_ratio(record["metrics"], ladder, convention=each) for each in CONVENTIONS}
                metrics |= {f"{RATIO}/{each}/{name}": found.ratio for each, found in told.items()}
                # Of the losses alone, so that any convention tells.
                metrics[f"{INSIDE}/{name}"] = float(told[CONVENTIONS[0]].inside)
    return metrics


def _ladders(records: Sequence[Record]) -> dict[str, list[Mapping[str, float]]]:
    """Metrics of the dense runs by data set, where all are there."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for record in records:
        found.setdefault(record["dataset"], {})[record["variant"]] = record["metrics"]
    whole = {dataset: own for dataset, own in found.items() if {*LADDER, METHOD} <= own.keys()}
    return {dataset: [own[variant] for variant in LADDER] for dataset, own in whole.items()}
