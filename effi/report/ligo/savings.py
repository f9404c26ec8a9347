"""How much of scratch's cost growing saves until it is as good, for each target, gross and net of the source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from effi.claims import Results, stats
from effi.claims.papers import NOT_AVAILABLE
from effi.errors import RecordError
from effi.ligo.reaching import TARGETS
from effi.report.canvas import SIZE, colour_of, dots, question
from effi.report.tables import Table

if TYPE_CHECKING:
    from effi.claims.papers import Paper
    from effi.records import Record

Account = Literal["flops", "paper_flops", "seconds"]
SOURCE = "source"
ACCOUNTS: tuple[Account, ...] = ("flops", "seconds")  # executed
WORDS: dict[Account, str] = {"flops": "FLOPs", "paper_flops": "FLOPs as the paper counts", "seconds": "seconds"}
NOTE = (
    "Targets are scratch's validation losses after a half, three quarters and all of its steps, and its last "
    "validation accuracy; a mean is told where every seed that was trained reached the target. No saving exceeds 100 %."
)
SMOKE = "Of smoke scale: nothing has learned yet, and these numbers say nothing of any method."
KINDS = {"saving": "gross", "net_saving": "net of the source"}
SHARES = (-math.inf, 100.0)


class Saved(NamedTuple):
    """An arm's savings in %, of the seeds that tell one, of those that reached the target, of those trained."""

    values: list[float]
    reached: int
    seeds: int

    @property
    def span(self) -> stats.Interval | None:
        """Of savings, of which none exceeds 100; None where a seed that was trained tells none."""
        whole = 0 < self.seeds == len(self.values)
        return stats.interval(self.values, within=SHARES) if whole else None

    def told(self, unit: str = "%") -> str:
        """The mean with its interval, or why there is none."""
        if self.span:
            return stats.measured(self.span, self.seeds, unit, 1)
        if self.reached < self.seeds:
            return f"reached by {self.reached} of {self.seeds} seeds" if self.reached else "not reached"
        return f"timed at {len(self.values)} of {self.seeds} seeds" if self.seeds else NOT_AVAILABLE


def savings_table(results: Results, group: str, *, check: str, account: Account = "flops") -> Table:
    """Each arm's saving beside scratch at every target, gross and net, in %: mean [95 % interval] over seeds.

    `n` seeds were trained. "not reached" where none reached the target, and how many did where some did not: those
    would speak for all.
    RecordError where the check was not run.
    """
    records = _records(results, check)
    told = [target for target in TARGETS if any(f"{target}/{group}/" in name for name in _names(records))]
    columns = ("arm", "n", *(f"{target}, {words}" for target in told for words in KINDS.values()))
    rows = []
    for arm in _arms(records, group):
        named = product(told, KINDS)
        cells = [_saved(records, f"{kind}_{account}", f"{target}/{group}/{arm}") for target, kind in named]
        rows.append((arm, str(max(cell.seeds for cell in cells)), *(cell.told("") for cell in cells)))
    title = f"{group}: saved of scratch's {WORDS[account]}, in %: mean [95 % interval]"
    notes = (SMOKE, NOTE) if results.scale == "smoke" else (NOTE,)
    return Table(title, columns, tuple(rows), notes, folded=True)


def saved(
    results: Results, group: str, *, check: str, account: Account = "flops", net: bool = True, target: str = "final"
) -> dict[str, Saved]:
    """Arm -> its savings until a target, with the source's training paid where `net`; none without the check."""
    records = list(results.seeds(check).values()) if check in results else []
    kind = f"{'net_' * net}saving_{account}"
    return {arm: _saved(records, kind, f"{target}/{group}/{arm}") for arm in _arms(records, group)}


def savings_dots(
    results: Results, group: str, arms: Sequence[str], *, title: str, check: str, target: str = "final"
) -> Figure:
    """Gross and net savings in FLOPs executed, in %, of some arms at one target: mean, interval and every seed.

    Where some seeds did not reach it, how many did and no more. RecordError where the check was not run or tells of
    none.
    """
    records = _records(results, check)
    shown = [arm for arm in arms if arm in _arms(records, group)]
    if not shown:
        raise RecordError(f"{check} tells nothing of {', '.join(arms)} on {group}: run them beside scratch.")
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(1.3 * SIZE[0], 1.1 + 0.28 * len(shown)))
    for axes, (kind, words) in zip(panels, KINDS.items(), strict=True):
        for row, arm in enumerate(shown):
            saved = _saved(records, f"{kind}_flops", f"{target}/{group}/{arm}")
            if saved.span:
                dots(axes, row, saved.values, f"{saved.span.mean:.1f}", colour=colour_of(arm), within=SHARES)
            else:
                axes.text(0, row, f" {saved.told()}", va="center", fontsize=8, color="#757575")
        axes.axvline(0, color="#666666", lw=1)
        axes.margins(x=0.3)
        axes.set(xlabel=f"saved of scratch's FLOPs, {words} (%)")
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(shown)), shown)
    panels[0].set_ylim(len(shown) - 0.5, -0.5)  # a row without a point, too
    return question(figure, f"{title} (smoke scale: says nothing)" if results.scale == "smoke" else title)


def recommendation(results: Results, group: str, arms: Sequence[str], *, check: str, sunk: bool = False) -> str:
    """What to do with a small model and a wish for a larger one: the arm that saves most, if any surely saves.

    By FLOPs at scratch's last loss, net of the source unless its cost is `sunk`. RecordError where the check was not
    run.
    """
    records, kind = _records(results, check), "saving_flops" if sunk else "net_saving_flops"
    every = {arm: _saved(records, kind, f"final/{group}/{arm}") for arm in arms}
    found = {arm: span for arm, saved in every.items() if (span := saved.span)}
    words = "the small model being there already" if sunk else "the small model's training paid"
    if not found:
        return f"{group}: train the large model from scratch; nothing grown was as good as it at every seed."
    best = max(found, key=lambda arm: found[arm].mean)
    said = f"{best} saves {every[best].told()} of scratch's FLOPs, {words}"
    if found[best].low > 0:
        return f"{group}: grow. Of {len(found)} ways that were as good at every seed {said}."
    return f"{group}: no way of growing surely pays: the best, {said}. Train from scratch, or try more seeds."


def best_and_worst(results: Results, group: str, paper: Paper) -> tuple[str, str]:
    """The offered arm that saves most until scratch's last loss, and what the method surely loses; each may be empty.

    The saving is one of FLOPs, the loss one of FLOPs or else of seconds, the source paid in both. RecordError where the
    paper's check was not run.
    """
    records = _records(results, paper.report["savings"])
    offered = {arm: _saved(records, "net_saving_flops", f"final/{group}/{arm}") for arm in paper.report["offered"]}
    sure = {arm: span for arm, saved in offered.items() if (span := saved.span) and span.low > 0}
    arm = max(sure, key=lambda name: sure[name].mean, default="")
    told = {account: _saved(records, f"net_saving_{account}", f"final/{group}/{arm}") for account in ACCOUNTS}
    shares = (f"{each.told()} of the {WORDS[account]}" for account, each in told.items() if each.span)
    best = f"{group}/{arm}: saves {' and '.join(shares)} until scratch's last loss" if arm else ""
    for name, account in product(paper.report["method"], ACCOUNTS):
        found = _saved(records, f"net_saving_{account}", f"final/{group}/{name}")
        if found.span and found.span.high < 0:
            more = stats.Interval(-found.span.mean, -found.span.high, -found.span.low)
            shown = stats.measured(more, found.seeds, "%", 1)
            return best, f"{group}/{name}: takes {shown} more {WORDS[account]} until that loss"
    return best, ""


def _records(results: Results, check: str) -> list[Record]:
    if check not in results:
        raise RecordError(f"{check} has no finished record: run scratch and what is grown beside it.")
    return list(results.seeds(check).values())


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record["metrics"]))


def _arms(records: Sequence[Record], group: str) -> list[str]:
    """Arms that train a large model."""
    start = f"reached/final/{group}/"
    told = (name.removeprefix(start) for name in _names(records) if name.startswith(start))
    return [arm for arm in told if arm.partition("-")[0] != SOURCE]


def _saved(records: Sequence[Record], kind: str, name: str) -> Saved:
    """What the seeds at which an arm was trained tell of a target."""
    trained = [record["metrics"] for record in records if f"reached/{name}" in record["metrics"]]
    values = [100 * value for each in trained if (value := each.get(f"{kind}/{name}")) is not None]
    return Saved(values, sum(each[f"reached/{name}"] > 0 for each in trained), len(trained))
