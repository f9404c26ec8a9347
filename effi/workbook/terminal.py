"""What a person sees while notebooks run: a bar each on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from effi.errors import EffiError, duration
from effi.workbook.answers import Counts

if TYPE_CHECKING:
    from effi.claims import Here

# Cyan, red, yellow and grey stay apart for every kind of colour vision; the word always stands there, too.
VERDICTS: Mapping[Here, str] = {"for": "cyan", "against": "red", "open": "yellow", "not run": "bright_black"}
BAR_WIDTH = 24
PLAIN_EVERY_S = 30


class Display(Protocol):
    """Shows a person how far each notebook is."""

    def update(self, paper: str, counts: Counts) -> None:
        """Is told often how far a running notebook is."""

    def finish(self, paper: str, failed: bool) -> None:
        """Is told once that a notebook ended, and whether something went wrong; what it was is said at the end."""


def plain_console(**options: Any) -> Console:
    """A console that prints what it is given: what a user typed, a path for example, is never read as markup."""
    return Console(highlight=False, markup=False, emoji=False, **options)


@contextmanager
def display(papers: Sequence[str], scale: str, results_dir: str, quiet: bool, judged: bool = True) -> Iterator[Display]:
    """The display that suits: none when quiet, live rows on a terminal, else lines; all on standard error."""
    console = plain_console(stderr=True, soft_wrap=True)
    if quiet:
        yield Silent()
    elif console.is_terminal:
        rows = Bars({paper: Row(paper, scale, results_dir, judged) for paper in papers}, console)
        with Live(console=console, get_renderable=rows.table, refresh_per_second=4):
            yield rows
    else:
        yield Lines(console, {paper: Row(paper, scale, results_dir, judged) for paper in papers})


def tally(counts: Mapping[Here, int]) -> Text:
    """Claims counted by what they say here, for example `3 for · 1 against`."""
    parts = [Text(f"{count} {here}", style=VERDICTS[here]) for here, count in counts.items() if count]
    return Text(" · ").join(parts)


def verdicts(paper: str, scale: str, results_dir: str) -> Mapping[Here, int]:
    """How many of the paper's claims say what on the records so far; empty while there is nothing to judge."""
    # torch and statistics take seconds to import: not before a notebook runs.
    from effi import claims

    try:
        results = claims.Results.read(results_dir, scale, paper)
        return claims.count(claims.judge(paper, results)) if results else {}
    except EffiError:
        return {}


@dataclass
class Row:
    """One notebook's line, and what it takes to estimate the time left.

    Verdicts are shown once the run has records of its own to judge: those of an older run are none of its.
    """

    paper: str
    scale: str
    results_dir: str
    judged: bool = True
    counts: Counts | None = None
    ended: Literal["done", "failed"] | None = None
    verdicts: Mapping[Here, int] = field(default_factory=dict)
    first: Counts | None = None
    warned: bool = False

    def update(self, counts: Counts) -> bool:
        """Take in how far the notebook is; whether arms have settled since."""
        moved = self.counts is None or counts.settled != self.counts.settled
        self.counts = counts
        if counts.total is not None and self.first is None:
            self.first = counts
        if moved:
            self._judge()
        return moved

    def finish(self, failed: bool) -> None:
        """Take in how the notebook ended."""
        self.ended = "failed" if failed else "done"
        self._judge()

    def _judge(self) -> None:
        if self.judged and self.counts and self.counts.done:
            self.verdicts = verdicts(self.paper, self.scale, self.results_dir)

    @property
    def arms(self) -> str:
        """Arms settled and in all; at the end what the run did."""
        if self.counts is None or not self.counts.total:
            return ""
        return self.counts.summary if self.ended else f"{self.counts.settled}/{self.counts.total} arms"

    def warning(self) -> str:
        """What is said, once, of records whose source has changed; empty where there are none."""
        if self.warned or not (self.counts and self.counts.stale):
            return ""
        self.warned = True
        return (
            f"{self.counts.stale} of {self.counts.total} records are stale (the source has changed since) and are "
            f"trained anew; to keep those that compute the same bits, stop and run `effi adopt {self.paper}`."
        )

    @property
    def waiting(self) -> str:
        """For which process an arm waits; empty while none does."""
        return f"waiting for process {self.counts.waiting}" if self.counts and self.counts.waiting else ""

    @property
    def time(self) -> str:
        """Time taken, and time left at the pace since the first look: arms kept from before took no time now."""
        if self.counts is None:
            return "waiting"
        counts, first = self.counts, self.first or self.counts
        settled, left = counts.settled - first.settled, (counts.total or 0) - counts.settled
        if self.ended or settled <= 0 or left <= 0:
            return duration(counts.elapsed)
        return f"{duration(counts.elapsed)}, {duration((counts.elapsed - first.elapsed) / settled * left)} left"

    @property
    def bar(self) -> ProgressBar:
        """Moving to and fro until the number of arms is known."""
        colour = {"failed": "red", "done": "cyan"}.get(self.ended or "", "blue")
        styles: dict[str, Any] = {"complete_style": colour, "finished_style": colour, "pulse_style": "blue"}
        if self.counts and self.counts.total:
            return ProgressBar(self.counts.total, self.counts.settled, BAR_WIDTH, **styles)
        done = BAR_WIDTH if self.ended == "done" else 0
        return ProgressBar(BAR_WIDTH, done, BAR_WIDTH, bool(self.counts and not self.ended), **styles)

    @property
    def summary(self) -> Text:
        """Verdicts so far, what it waits for, or that the notebook failed: why is a sentence too long for a row."""
        if self.waiting and not self.ended:
            return Text(self.waiting, style="yellow")
        if self.ended == "failed":
            return Text("failed", style="red")
        return Text.assemble("claims: ", tally(self.verdicts)) if any(self.verdicts.values()) else Text()


@dataclass
class Bars:
    """A line per notebook that is redrawn in place."""

    rows: dict[str, Row]
    console: Console

    def update(self, paper: str, counts: Counts) -> None:
        self.rows[paper].update(counts)
        if warning := self.rows[paper].warning():
            self.console.print(f"{paper}: {warning}")

    def finish(self, paper: str, failed: bool) -> None:
        self.rows[paper].finish(failed)

    def table(self) -> Table:
        """All lines as they stand."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        for column in ("paper", "bar", "arms", "time"):
            grid.add_column(column, no_wrap=True, justify="right" if column == "arms" else "left")
        grid.add_column("verdicts", no_wrap=True, overflow="ellipsis")
        for row in self.rows.values():
            grid.add_row(row.paper, row.bar, row.arms, row.time, row.summary)
        return grid


@dataclass
class Lines:
    """A line when a notebook begins, at most one every half minute on the way, one when it ends."""

    console: Console
    rows: dict[str, Row]
    _told: dict[str, float] = field(default_factory=dict)

    def update(self, paper: str, counts: Counts) -> None:
        row, now = self.rows[paper], time.monotonic()
        before, moved = row.waiting, row.update(counts)
        if paper not in self._told:
            self._say(paper, f"started at scale {row.scale}")
        elif warning := row.warning():
            self._say(paper, warning)
        elif row.waiting and row.waiting != before:
            self._say(paper, row.waiting)
        elif moved and row.arms and now - self._told[paper] >= PLAIN_EVERY_S:
            self._say(paper, row.arms, row.time)

    def finish(self, paper: str, failed: bool) -> None:
        row = self.rows[paper]
        row.finish(failed)
        self._say(paper, row.ended or "", row.time, row.arms, "" if failed else row.summary.plain)

    def _say(self, paper: str, *parts: str) -> None:
        self._told[paper] = time.monotonic()
        self.console.print(f"{paper}: {' | '.join(filter(None, parts))}")


class Silent:
    """For machines."""

    def update(self, paper: str, counts: Counts) -> None:
        """Says nothing."""

    def finish(self, paper: str, failed: bool) -> None:
        """Says nothing."""
