"""One row of advice per method and model: what it keeps, what it saves, and whether that is worth it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from effi.advice.budget import LEAST_SEEDS, counted
from effi.advice.methods import INFERENCE, Method
from effi.claims import Results, measures, stats, uncertainty
from effi.claims.papers import NOT_AVAILABLE, Paper
from effi.claims.results import Pair
from effi.claims.stats import Interval
from effi.errors import duration
from effi.report.instant_soup.kept import stored_bytes
from effi.report.ligo import Saved, saved
from effi.report.tables import Table
from effi.report.trades import Recommendation, Trade, choose, trades

if TYPE_CHECKING:
    from effi.records import Record

Verdict = Literal["worth it", "not worth it", "cannot be told"]
VERDICTS: dict[str, Verdict] = {"take": "worth it", "stay": "not worth it", "cannot tell": "cannot be told"}
COLUMNS = ("method", "kept", "training seconds saved", "inference seconds saved", "weights stored", "asks", "verdict")


@dataclass(frozen=True)
class Row:
    """What a method does on one model; `gain` is the mean saving in %, by which rows are ranked.

    Without an `arm`: the method came to no end.
    """

    method: Method
    group: str
    arm: str
    kept: str
    saved: str
    memory: str
    verdict: Verdict
    more: str
    why: str
    gain: float
    inference: str = ""

    @property
    def baseline(self) -> str:
        """The arm that it is compared with."""
        return f"{self.group}/{self.method.baseline}"

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        inference = self.inference or INFERENCE[self.method.model]
        said = f"{self.verdict}{': ' * bool(self.more)}{self.more}"
        name = f"{self.method.name}{': ' * bool(self.arm)}{self.arm.removeprefix(f'{self.group}/')}"
        return name, self.kept, self.saved, inference, self.memory, self.method.asks, said


def rows_of(method: Method, results: Results, paper: Paper, *, sunk: bool, seconds: float) -> list[Row]:
    """Rows of one method; `seconds` are what one more seed takes, `sunk` says that a source is there already.

    None where its baseline has no record yet. ParameterError where no arm has the baseline's variant.
    """
    if not results or not results.where(variant=method.baseline):
        return []
    make = _grown if paper.report.get("savings") else _traded
    return list(make(method, results, paper, sunk, seconds))


def unfinished(method: Method, results: Results, seconds: float) -> Row:
    """The row of a method that came to no end in the time."""
    count = len([arm for arm in method.arms if results.where(variant=arm)])
    ended = f"{count} of {len(method.arms)} arms finished"
    return Row(method, "", "", ended, "", "", "cannot be told", _seeds(1, seconds), ended, 0.0, NOT_AVAILABLE)


def table(rows: list[Row], title: str, notes: tuple[str, ...] = ()) -> Table:
    """All rows, what is worth it first."""
    order: list[Verdict] = ["worth it", "cannot be told", "not worth it"]
    ranked = sorted(rows, key=lambda row: (order.index(row.verdict), -row.gain))
    reasons = tuple(f"{row.method.name}, {row.why.removesuffix('.')}." for row in ranked)
    return Table(title, COLUMNS, tuple(row.cells for row in ranked), (*notes, *reasons))


def best(rows: Sequence[Row]) -> Row | None:
    """The row that is worth it and saves most."""
    return max((row for row in rows if row.verdict == "worth it"), key=lambda row: row.gain, default=None)


def recommendation(rows: list[Row]) -> str:
    """One sentence: the method that is worth it and saves most, or that none is, or that the time told nothing."""
    if found := best(rows):
        return f"Take {found.arm} ({found.method.name}): it saves {found.saved} and keeps {found.kept}."
    open_ = [row.method.name for row in rows if row.verdict == "cannot be told"]
    if not open_:
        return "Train as you do: no method that was tried pays on this data."
    if len(open_) == len(rows):
        return "Nothing can be told in this time; until it can, train as you do."
    return f"Train as you do: nothing tried surely pays; of {' and '.join(dict.fromkeys(open_))} it cannot be told yet."


# --- methods that end sooner or are smaller --------------------------------------------------------------------


def _traded(method: Method, results: Results, paper: Paper, sunk: bool, seconds: float) -> Iterator[Row]:
    arms = [arm for arm in results.arms if results.label(arm) in method.offered]
    told = paper.report["score"]
    every = {t.arm: t for t in trades(results, paper, baseline=method.baseline, metric=told, by="seconds")}
    for found in choose(results, paper, baseline=method.baseline, by="seconds", arms=arms):
        offered = [every[arm] for arm in arms if arm in every and results.group(arm) == found.group]
        trade = found.trade or min(offered, key=lambda each: each.cost.mean, default=None)
        if trade:
            yield _of_trade(method, found, trade, seconds)


def _of_trade(method: Method, found: Recommendation, trade: Trade, seconds: float) -> Row:
    cost = trade.cost
    gained = Interval(100 - cost.mean, 100 - cost.high, 100 - cost.low)
    return Row(
        method,
        found.group,
        trade.arm,
        _kept([*trade.pairs], trade.metric),
        stats.measured(gained, len(trade.pairs), "%", 1),
        _stored([*trade.pairs]),
        VERDICTS[found.decision],
        _more(trade, seconds) if _is_open(found, trade) else "",
        _why(found, trade),
        gained.mean,
    )


def _why(found: Recommendation, trade: Trade) -> str:
    """The recommendation; of few seeds, that nothing is sure of them, not even that a model has learned."""
    seeds = trade.estimate.seeds
    return str(found) if seeds >= LEAST_SEEDS else f"{found.group}: of {counted(seeds)} nothing is sure"


def _is_open(found: Recommendation, trade: Trade) -> bool:
    """Whether more seeds would tell: of one seed nothing is sure, not even that a model has learned."""
    few = trade.estimate.seeds < LEAST_SEEDS
    return found.decision == "cannot tell" and (few or "has not learned" not in found.why)


def _more(trade: Trade, seconds: float) -> str:
    """What would tell, and how long that takes."""
    if trade.estimate.seeds < LEAST_SEEDS:
        return _seeds(LEAST_SEEDS - trade.estimate.seeds, seconds)
    if trade.kept != "open":
        return "whether it saves time at all is open"
    wanted = re.fullmatch(r"about ([\d,]+) seeds", trade.wanted)
    return _seeds(int(wanted[1].replace(",", "")) - trade.estimate.seeds, seconds) if wanted else trade.wanted


def _seeds(count: int, seconds: float) -> str:
    return f"{counted(count).replace(' ', ' more ')}, about {duration(max(1, count * seconds))}"


# --- growth: all train as long, and what counts is when they are as good ------------------------------------------


def _grown(method: Method, results: Results, paper: Paper, sunk: bool, seconds: float) -> Iterator[Row]:
    for group in dict.fromkeys(results.group(arm) for arm in results.where(variant=method.baseline).arms):
        timed = saved(results, group, check=paper.report["savings"], account="seconds", net=not sunk)
        offered = {arm: each for arm, each in timed.items() if arm in method.offered and f"{group}/{arm}" in results}
        if offered:
            best = max(offered, key=lambda arm: (offered[arm].reached, _mean(offered[arm])))
            yield _of_growth(method, results, paper, f"{group}/{best}", offered[best], seconds)


def _of_growth(method: Method, results: Results, paper: Paper, arm: str, found: Saved, seconds: float) -> Row:
    pairs = [pair for pair in results.pairs(method.baseline)[arm] if pair.arm is not pair.baseline]
    group, told = results.group(arm), found.told()
    low, high = (found.span.low, found.span.high) if found.span else (-1.0, 1.0)
    verdict: Verdict = "worth it" if low > 0 else "not worth it" if high < 0 else "cannot be told"
    few = LEAST_SEEDS - found.seeds
    more = _seeds(few, seconds) if verdict == "cannot be told" and few > 0 else ""
    why = f"{group}: {arm} saves {told} of the seconds until {method.baseline}'s last loss"
    kept = _kept(pairs, paper.report["score"])
    return Row(method, group, arm, kept, told, _stored(pairs), verdict, more, why, _mean(found))


def _mean(found: Saved) -> float:
    return found.span.mean if found.span else -100.0


# --- cells -----------------------------------------------------------------------------------------------------


def _kept(pairs: list[Pair], metric: str) -> str:
    """The metric, and how it differs from the baseline's."""
    change = uncertainty.shown(uncertainty.change(pairs, metric), metric, difference=True)
    return f"{reached([pair.arm for pair in pairs], metric)} (change: {change})"


def reached(records: Sequence[Record], metric: str) -> str:
    """A metric in words and its mean: "test accuracy 98.3 %"."""
    shown = uncertainty.shown(uncertainty.score(records, metric), metric)
    return f"{measures.words(metric)} {shown.partition(' [')[0]}"


def _stored(pairs: list[Pair]) -> str:
    """Bytes of weights in % of the baseline's."""
    ours, theirs = (sum(stored_bytes(pair[side]["metrics"]) for pair in pairs) for side in (0, 1))
    return f"{100 * ours / theirs:.0f} %" if theirs else NOT_AVAILABLE


def with_margin(paper: Paper, margin: float | None) -> Paper:
    """The paper with a margin of one's own, in points or nats, in place of its; the paper itself for None."""
    if margin is None:
        return paper
    return replace(paper, margins={**paper.margins, paper.report["margin"]: {"other": margin}})
