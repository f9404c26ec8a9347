"""What an arm saves and what it loses beside its baseline, and the sentence of advice drawn from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from effi.claims import Pair, Results, measures, stats
from effi.claims.papers import Paper
from effi.claims.results import holds
from effi.claims.stats import Interval, State
from effi.cost import money
from effi.report.arms import shown
from effi.report.costs import differences

Cost = Literal["flops", "seconds"]
COST_WORDS: dict[Cost, str] = {"flops": "FLOPs", "seconds": "seconds"}


@dataclass(frozen=True)
class Trade:
    """One arm beside the baseline of its group at the seeds that both have: its cost in % and the change of a metric.

    Surely: with the whole 95 % interval over seeds, which one seed does not have.
    """

    arm: str
    label: str
    group: str
    metric: str
    cost: Interval
    change: Interval
    margin: float
    pairs: Sequence[Pair]

    @property
    def kept(self) -> State:
        """Whether the loss is surely below the margin, surely above it, or neither."""
        return stats.no_loss(self.change, self.margin, "lower" if measures.lower_is_better(self.metric) else "higher")

    @property
    def pays(self) -> bool:
        """Whether it surely costs less than the baseline and surely loses less than the margin."""
        return self.cost.high < 100 and self.kept == "reproduced"


def _limit(margin: float, metric: str) -> str:
    """A margin with its unit: "1 points"."""
    return f"{margin:g} {measures.unit(metric, difference=True).name}".strip()


def trades(results: Results, paper: Paper, *, baseline: str, metric: str, by: Cost = "flops") -> list[Trade]:
    """Every arm beside its baseline, but the baselines; the margin is that of the paper's file for the data set.

    Arms that share no seed with it at which both hold metric and cost are left out. Raises ParameterError when no arm
    has the baseline's variant.
    """
    found = []
    for arm, pairs in results.pairs(baseline).items():
        usable = [pair for pair in pairs if all(holds(r, m) for r in pair for m in (metric, f"cost.{by}"))]
        usable = [pair for pair in usable if pair.arm is not pair.baseline and pair.baseline["cost"][by]]
        if usable:
            margin = paper.margin(paper.report["margin"], results.dataset(arm))
            cost = stats.interval([100 * p.arm["cost"][by] / p.baseline["cost"][by] for p in usable])
            change = stats.interval(differences(usable, metric))
            found.append(Trade(arm, results.label(arm), results.group(arm), metric, cost, change, margin, usable))
    return found


def advice(
    results: Results,
    paper: Paper,
    *,
    baseline: str,
    price: float,
    metric: str,
    by: Cost = "flops",
    arms: Sequence[str] | None = None,
    told: str | None = None,
) -> str:
    """A sentence per data set and model: the cheapest arm that surely saves and surely keeps the metric, or none does.

    `arms` are those on offer (None: all), `told` is the metric whose change is told (None: the one it is chosen by, so
    that one can choose on validation and tell of the test split). `price` is money per GPU hour. Errors as of trades.
    """
    datasets = {results.group(arm): results.dataset(arm) for arm in results.pairs(baseline)}
    limits = {g: _limit(paper.margin(paper.report["margin"], name), metric) for g, name in datasets.items()}
    groups: dict[str, list[Trade]] = {group: [] for group in datasets}
    for trade in trades(results, paper, baseline=baseline, metric=metric, by=by):
        if trade.pays and (arms is None or trade.arm in arms):
            groups[trade.group].append(trade)
    return "\n".join(
        f"{group}: {_sentence(paying, baseline, limits[group], by, told or metric, price)}"
        for group, paying in groups.items()
    )


def _sentence(paying: Sequence[Trade], baseline: str, limit: str, by: Cost, told: str, price: float) -> str:
    if not paying:
        return (
            f"stay with {baseline}; no arm on offer surely saves {COST_WORDS[by]} and surely loses less than {limit}."
        )
    best = min(paying, key=lambda trade: trade.cost.mean)
    n, gap = len(best.pairs), measures.unit(told, difference=True)
    share = f"{stats.measured(best.cost, n, '%', 1)} of its {COST_WORDS[by]}"
    change = f"{measures.words(told)} changes by {shown(differences(best.pairs, told), gap.name, gap.digits)}"
    return (
        f"take {best.label} instead of {baseline}, for {share}{_saved(best, by, price)}; "
        f"{change}, n={n}, and the loss is surely below {limit}."
    )


def _saved(trade: Trade, by: Cost, price: float) -> str:
    """Seconds and money saved in one training, where it was chosen by seconds."""
    if by != "seconds":
        return ""
    seconds = sum(pair.baseline["cost"][by] - pair.arm["cost"][by] for pair in trade.pairs) / len(trade.pairs)
    return f" ({seconds:.1f} s saved a training, {1000 * money(seconds, price):.2f} of money in a thousand)"
