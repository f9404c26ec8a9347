"""What an arm saves and what it loses beside its baseline, and the advice drawn from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from effi.claims import Pair, Results, measures, stats, uncertainty
from effi.claims.papers import Paper
from effi.claims.results import holds
from effi.claims.stats import Direction, Interval
from effi.claims.uncertainty import Estimate
from effi.cost import money
from effi.errors import ParameterError
from effi.report.arms import SANITY, models

if TYPE_CHECKING:
    from effi.records import Record

Cost = Literal["flops", "seconds"]
COST_WORDS: dict[Cost, str] = {"flops": "FLOPs", "seconds": "seconds"}
Decision = Literal["take", "stay", "cannot tell"]
NONE_AT_SMOKE = "Smoke scale advises nothing: its trainings show that everything runs, and no more; take a larger one."
# Where in a training the lowest validation loss says that it was still falling.
LAST = 0.9


@dataclass(frozen=True)
class Trade:
    """One arm beside the baseline of its group at the seeds that both have: its cost in % and the change of a metric.

    The cost is a geometric mean, of seconds over the repeats of the paper's check where that timed it `alone`. Surely:
    with the whole 95 % interval over seeds, and of accuracies over the examples of the test set, too. One seed is never
    sure.
    """

    arm: str
    label: str
    group: str
    metric: str
    cost: Interval
    estimate: Estimate
    margin: float
    pairs: Sequence[Pair]
    by: Cost = "flops"
    alone: bool = False

    @property
    def change(self) -> Interval:
        """Arm minus baseline in the shown unit."""
        return self.estimate.interval

    @property
    def kept(self) -> Direction:
        """For where it surely loses less than the margin, against where surely more."""
        return stats.no_loss(self.change, self.margin, self._better)

    @property
    def variant(self) -> str:
        """The arm's."""
        return str(self.pairs[0].arm["variant"])

    @property
    def saves(self) -> bool:
        """Whether it surely costs less than the baseline."""
        return self.cost.high < 100

    @property
    def gain(self) -> float:
        """The mean change towards the better."""
        return self.estimate.mean if self._better == "higher" else -self.estimate.mean

    @property
    def told(self) -> str:
        """The change in words, with its interval and what that is taken over."""
        shown = uncertainty.shown(self.estimate, self.metric, difference=True)
        return f"{measures.words(self.metric)} changes by {shown} over {uncertainty.counted(self.estimate)}"

    @property
    def limit(self) -> str:
        """The margin with its unit: "1 point"."""
        unit = measures.unit(self.metric, difference=True).name
        return f"{self.margin:g} {unit.removesuffix('s') if self.margin == 1 else unit}".strip()

    @property
    def wanted(self) -> str:
        """What would decide whether it loses less than the margin."""
        return self.estimate.wanted(-self.margin if self._better == "higher" else self.margin)

    @property
    def _better(self) -> Literal["higher", "lower"]:
        return "lower" if measures.lower_is_better(self.metric) else "higher"


@dataclass(frozen=True)
class Recommendation:
    """What to do for one data set and model, why, and what else to know; `trade` is of the arm chosen on validation.

    There is no trade where no arm on offer surely saves. `why` is a sentence without its full stop.
    """

    group: str
    decision: Decision
    why: str
    by: Cost
    trade: Trade | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([f"{self.group}: {self.why}.", *self.notes])


def trades(results: Results, paper: Paper, *, baseline: str, metric: str, by: Cost = "flops") -> list[Trade]:
    """Every arm beside its baseline, but baselines of either kind; the margin is the paper's for the data set.

    Arms that share no seed with it at which both hold metric and cost are left out, and of seconds those that the
    paper's check, if it was run, did not time. Raises ParameterError when no arm has the baseline's variant.
    """
    found, alone = [], by == "seconds" and _timing(paper) in results
    for arm, pairs in models(results, baseline).items():
        usable = [pair for pair in pairs if all(holds(r, m) for r in pair for m in (metric, f"cost.{by}"))]
        usable = [pair for pair in usable if pair.arm is not pair.baseline and pair.baseline["cost"][by]]
        costs = _timed(results.seeds(_timing(paper)), arm) if alone else _spent(usable, by)
        if usable and costs:
            margin = paper.margin(paper.report["margin"], results.dataset(arm))
            cost = uncertainty.positive(costs, counted=by == "flops")
            change = uncertainty.change(usable, metric)
            name, group = results.label(arm), results.group(arm)
            found.append(Trade(arm, name, group, metric, cost, change, margin, usable, by, alone))
    return found


def _spent(pairs: Sequence[Pair], by: Cost) -> list[float]:
    """What an arm's trainings cost in % of its baseline's."""
    return [100 * pair.arm["cost"][by] / pair.baseline["cost"][by] for pair in pairs]


def _timed(repeats: Mapping[int, Record], arm: str) -> list[float]:
    """The same by steps timed alone: trainings side by side take seconds from each other."""
    ratio = f"time_ratio/{arm}"
    return [100 * measures.value(record, ratio) for record in repeats.values() if holds(record, ratio)]


def _timing(paper: Paper) -> str:
    """The check that times every arm's steps alone; empty where the paper's file names none."""
    return str(paper.report.get("timing", ""))


def validation_of(metric: str) -> str:
    """The validation metric by which to choose what a test metric then tells. ParameterError where there is none."""
    kind = metric.removeprefix("best_").removeprefix("test_")
    found = f"validation_{kind}"
    if kind == metric or not measures.is_known(found, {}):
        raise ParameterError(f"Nothing can be chosen on validation for {metric!r}: tell test_accuracy or test_loss.")
    return found


def choose(
    results: Results,
    paper: Paper,
    *,
    baseline: str,
    told: str | None = None,
    by: Cost = "flops",
    arms: Sequence[str] | None = None,
) -> list[Recommendation]:
    """The one rule of advice, per data set and model: chosen on the validation split, told on the test split.

    Of the arms on offer (None: those that the paper's file offers, else all) that surely cost less, the one chosen is
    the cheapest of those that surely keep the metric on validation, else the best there. Only its test decides, by
    `told` (None: the paper's score), so that no test split chooses. Arms that do not hold that, but another of the
    paper's [scores], are told by the other. None at smoke scale. Errors as of `trades` and `validation_of`.
    """
    told = told or paper.report["score"]
    validation = _chosen_by(told, paper)
    if results.scale == "smoke":
        return []
    others = sorted({metric for table in paper.scores.values() for metric in table.values()} - {told})
    *scored, checked = (
        {trade.arm: trade for trade in trades(results, paper, baseline=baseline, metric=metric, by=by)}
        for metric in (*others, told, validation)
    )
    tested = {arm: trade for table in scored for arm, trade in table.items()}
    offered = [trade for trade in tested.values() if _on_offer(trade, paper, arms)]
    return [
        _recommended(results, full, [trade for trade in offered if trade.group == group], checked, told, by)
        for group, full in _baselines(results, baseline).items()
    ]


def _baselines(results: Results, baseline: str) -> dict[str, str]:
    """Group -> its baseline's arm."""
    return {results.group(arm): results.baseline(arm, baseline) or arm for arm in results.pairs(baseline)}


def _on_offer(trade: Trade, paper: Paper, arms: Sequence[str] | None) -> bool:
    if arms is not None:
        return trade.arm in arms
    return trade.variant in paper.report.get("offered", [trade.variant])


def advised_by(results: Results, paper: Paper) -> Cost:
    """By what a paper's notebook advises: seconds where its check timed steps alone, else FLOPs."""
    return "seconds" if _timing(paper) in results else "flops"


def unlearned(results: Results, paper: Paper) -> list[str]:
    """Data sets and models on which the baseline has not learned; none where it has on all, or no other can tell."""
    baseline = paper.report["baseline"]
    if not results.where(variant=baseline):
        return []
    bases, score = _baselines(results, baseline), paper.report["score"]
    return [group for group, arm in bases.items() if _unlearned(results, [arm], score)]


def unlearned_sentence(results: Results, paper: Paper) -> str:
    """Where the baseline has not learned; empty where there is no such place."""
    where = " and ".join(unlearned(results, paper))
    simple = "one answer for all, logistic regression, counts of words"
    return f" Its baseline is not surely better than a simple one ({simple}) on {where}." if where else ""


def _chosen_by(told: str, paper: Paper) -> str:
    """Its validation metric, where what is told has the unit of the paper's score, in which the margin is."""
    validation, score = validation_of(told), paper.report["score"]
    if measures.unit(told) != measures.unit(score):
        raise ParameterError(f"The margin of advice is one of {measures.words(score)}: tell {score}, not {told}.")
    return validation


def advice(found: Sequence[Recommendation], price: float) -> str:
    """What `choose` found, a line per data set and model; `price` is money per GPU hour."""
    return "\n".join(f"{each}{_saved(each, price)}" for each in found) or NONE_AT_SMOKE


def _recommended(
    results: Results, baseline: str, offered: Sequence[Trade], checked: Mapping[str, Trade], told: str, by: Cost
) -> Recommendation:
    """One group's; `checked` are the trades of every arm on validation."""
    saving = [trade for trade in offered if trade.saves and trade.arm in checked]
    chosen = min(saving, key=lambda trade: _rank(checked[trade.arm]), default=None)
    name = results.label(baseline)
    decision, why = _decided(chosen, name, by) if chosen else _unchosen(offered, name, by)
    spoken_of = [baseline, *([chosen.arm] if chosen else [])]
    if unlearned := _unlearned(results, spoken_of if decision == "take" else [baseline], told):
        decision, why = "cannot tell", f"cannot tell, because {unlearned}"
    notes = [*_unfinished(results, spoken_of), *(_unknown(chosen.estimate) if chosen else ())]
    notes += _side_by_side(offered) if by == "seconds" else ()
    return Recommendation(results.group(baseline), decision, why, by, chosen, tuple(notes))


def _rank(checked: Trade) -> tuple[bool, float]:
    """Arms that surely keep the metric by their cost, then the others by what they gain, both on validation."""
    kept = checked.kept == "for"
    return not kept, checked.cost.mean if kept else -checked.gain


def _unchosen(offered: Sequence[Trade], baseline: str, by: Cost) -> tuple[Decision, str]:
    """Without an arm that surely saves and that validation could choose."""
    cheapest = min(offered, key=lambda trade: trade.cost.mean, default=None)
    if cheapest is None:
        return "cannot tell", f"cannot tell, because no arm on offer was measured beside {baseline}"
    if all(trade.cost.low >= 100 for trade in offered):
        return "stay", f"stay with {baseline}: no arm on offer saves {COST_WORDS[by]}"
    if cheapest.estimate.seeds == 1:
        return "cannot tell", "cannot tell, because one seed shows no spread: train three or more"
    if cheapest.saves:
        return "cannot tell", f"cannot tell, because {cheapest.label} holds no validation metric to be chosen by"
    nearest = f"{cheapest.label}, the cheapest on offer, takes {_share(cheapest, by)}"
    return "cannot tell", f"cannot tell, because no arm surely saves {COST_WORDS[by]}: {nearest}"


def _decided(chosen: Trade, baseline: str, by: Cost) -> tuple[Decision, str]:
    """By the test split alone."""
    lost = f"than {chosen.limit} is lost"
    if chosen.kept == "for":
        saving = f"take {chosen.label} instead of {baseline}, for {_share(chosen, by)}"
        return "take", f"{saving}; {chosen.told}, so that surely less {lost}"
    told = f"of {chosen.label}, chosen on validation, {chosen.told}"
    if chosen.kept == "against":
        return "stay", f"stay with {baseline}: {told}, so that surely more {lost}"
    return "cannot tell", f"cannot tell: {told}; whether less {lost}, {chosen.wanted} would tell"


def _share(trade: Trade, by: Cost) -> str:
    return f"{stats.measured(trade.cost, len(trade.pairs), '%', 1)} of its {COST_WORDS[by]}"


def _saved(found: Recommendation, price: float) -> str:
    """Seconds and money that the arm to take saves."""
    if found.decision != "take" or found.trade is None or found.by != "seconds":
        return ""
    whole = [pair.baseline["cost"]["seconds"] for pair in found.trade.pairs]
    seconds = (1 - found.trade.cost.mean / 100) * sum(whole) / len(whole)
    return f" Saved: {seconds:.1f} s a training, and {1000 * money(seconds, price):.2f} of money in a thousand of them."


# --- what else to know ---------------------------------------------------------------------------------------


def _unlearned(results: Results, arms: Sequence[str], told: str) -> str:
    """The first arm whose test accuracy is not surely above that of a sanity baseline, as a reason; empty without."""
    metric = told if told.endswith("accuracy") else "test_accuracy"
    for arm in arms:
        for kind, words in SANITY.items():
            pairs = _beside(results, arm, kind, metric)
            if pairs and uncertainty.change(pairs, metric).interval.low <= 0:
                scores = (uncertainty.score([pair[side] for pair in pairs], metric) for side in (0, 1))
                ours, theirs = (uncertainty.shown(score, metric) for score in scores)
                beaten = f"{measures.words(metric)} {ours}, not surely above {theirs} of {words}"
                return f"{results.label(arm)} has not learned: {beaten}"
    return ""


def _beside(results: Results, arm: str, kind: str, metric: str) -> list[Pair]:
    """An arm and a sanity baseline of its data set, by seed."""
    ours = results.seeds(arm)
    rivals = results.where(dataset=results.dataset(arm), variant=kind)
    pairs = [Pair(ours[r["seed"]], r) for r in rivals.records if r["seed"] in ours]
    return [pair for pair in pairs if all(holds(record, metric) for record in pair)]


def _unfinished(results: Results, arms: Sequence[str]) -> Iterator[str]:
    """Which arms should be trained longer, in a sentence."""
    if found := [results.label(arm) for arm in arms if _falling(results, arm)]:
        yield f"The validation loss of {' and of '.join(found)} was still falling at the end: train longer."


def _falling(results: Results, arm: str) -> bool:
    """Whether at most seeds the lowest validation loss lies in the last tenth of the training."""
    curves = [record["history"].get("validation_loss") or [] for record in results.seeds(arm).values()]
    late = [bool(curve) and int(np.argmin(curve)) + 1 > LAST * len(curve) for curve in curves]
    return 2 * sum(late) > len(late)


def _side_by_side(offered: Sequence[Trade]) -> Iterator[str]:
    """That seconds are those of trainings which take them from each other, where they are."""
    pairs = [pair for trade in offered if not trade.alone for pair in trade.pairs]
    if any(record["cost"].get("side_by_side", 1) > 1 for pair in pairs for record in pair):
        yield "Seconds are those of trainings side by side, which a training alone need not take."


def _unknown(estimate: Estimate) -> Iterator[str]:
    """What the interval of an accuracy does not know of the test set."""
    if estimate.basis == "size":
        yield "Hits of single test examples are not recorded: the interval takes the most that two models can disagree."
    elif estimate.basis == "seeds" and estimate.highest < np.inf:
        yield "The number of test examples is not recorded: the interval leaves their error out."
