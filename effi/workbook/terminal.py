"""What a person sees while notebooks run: a bar each on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from effi import paths
from effi.errors import EffiError, duration

# Cyan, red and grey stay apart for every kind of colour vision; the word always stands there, too.
VERDICTS = {"reproduced": "cyan", "not reproduced": "red", "inconclusive": "bright_black"}
BAR_WIDTH = 24
PLAIN_EVERY_S = 30


class Progress(NamedTuple):
    """Arms of one notebook: done, failed, in all (None until it says), and seconds since it began."""

    done: int = 0
    failed: int = 0
    total: int | None = None
    elapsed: float = 0.0

    @property
    def settled(self) -> int:
        """Arms that need no more time."""
        return self.done + self.failed


class Display(Protocol):
    """Shows a person how far each notebook is."""

    def update(self, paper: str, progress: Progress) -> None:
        """Is told often how far a running notebook is."""

    def finish(self, paper: str, error: str | None) -> None:
        """Is told once that a notebook ended, and what went wrong if something did."""


@contextmanager
def display(papers: Sequence[str], scale: str, results_dir: str, quiet: bool) -> Iterator[Display]:
    """The display that suits: none when quiet, live rows on a terminal, else lines; all on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield Silent()
    elif console.is_terminal:
        rows = Bars({paper: Row(paper, scale, results_dir) for paper in papers})
        with Live(console=console, get_renderable=rows.table, refresh_per_second=4):
            yield rows
    else:
        yield Lines(console, {paper: Row(paper, scale, results_dir) for paper in papers})


def tally(counts: Mapping[str, int]) -> Text:
    """Verdicts counted, for example `3 reproduced · 1 not reproduced`."""
    parts = [Text(f"{count} {state}", style=VERDICTS[state]) for state, count in counts.items() if count]
    return Text(" · ").join(parts)


def verdicts(paper: str, scale: str, results_dir: str) -> dict[str, int]:
    """State -> number of the paper's claims in it on the records so far; empty while there is nothing to judge."""
    # torch and statistics take seconds to import: not before a notebook runs.
    from effi import claims
    from effi.records import store

    try:
        records = store.current(paths.records_file(results_dir, scale, paper))
        return claims.count(claims.judge(paper, records)) if records else {}
    except EffiError:
        return {}


@dataclass
class Row:
    """One notebook's line, and what it takes to estimate the time left."""

    paper: str
    scale: str
    results_dir: str
    progress: Progress | None = None
    outcome: str | None = None
    error: str | None = None
    verdicts: dict[str, int] = field(default_factory=dict)
    first: Progress | None = None

    def update(self, progress: Progress) -> bool:
        """Take in how far the notebook is; whether arms have settled since."""
        moved = self.progress is None or progress.settled != self.progress.settled
        self.progress = progress
        if progress.total is not None and self.first is None:
            self.first = progress
        if moved and progress.done:
            self.verdicts = verdicts(self.paper, self.scale, self.results_dir)
        return moved

    def finish(self, error: str | None) -> None:
        """Take in how the notebook ended."""
        self.outcome, self.error = "failed" if error else "done", error
        self.verdicts = verdicts(self.paper, self.scale, self.results_dir)

    @property
    def arms(self) -> str:
        """Arms settled and in all."""
        known = self.progress and self.progress.total
        return f"{self.progress.settled}/{known} arms" if known else ""

    @property
    def time(self) -> str:
        """Time taken, and time left at the pace since the first look: arms kept from before took no time now."""
        if self.progress is None:
            return "waiting"
        _, _, total, elapsed = self.progress
        trained = self.progress.settled - self.first.settled if self.first else 0
        left = (total or 0) - self.progress.settled
        if self.outcome or trained <= 0 or left <= 0:
            return duration(elapsed)
        return f"{duration(elapsed)}, {duration((elapsed - self.first.elapsed) / trained * left)} left"

    @property
    def bar(self) -> ProgressBar:
        """Moving to and fro until the number of arms is known."""
        known = self.progress and self.progress.total
        done = BAR_WIDTH if self.outcome == "done" else 0
        pulse = bool(self.progress and not known and not self.outcome)
        colour = {"failed": "red", "done": "cyan"}.get(self.outcome or "", "blue")
        styles = {"complete_style": colour, "finished_style": colour, "pulse_style": "blue"}
        return ProgressBar(known or BAR_WIDTH, self.progress.settled if known else done, BAR_WIDTH, pulse, **styles)

    @property
    def summary(self) -> Text:
        """Verdicts so far, or that the notebook failed: why is a sentence too long for a row."""
        return Text("failed", style="red") if self.error else tally(self.verdicts)


@dataclass
class Bars:
    """A line per notebook that is redrawn in place."""

    rows: dict[str, Row]

    def update(self, paper: str, progress: Progress) -> None:
        self.rows[paper].update(progress)

    def finish(self, paper: str, error: str | None) -> None:
        self.rows[paper].finish(error)

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

    def update(self, paper: str, progress: Progress) -> None:
        row, now = self.rows[paper], time.monotonic()
        moved = row.update(progress)
        if paper not in self._told:
            self._say(paper, f"started at scale {row.scale}")
        elif moved and row.arms and now - self._told[paper] >= PLAIN_EVERY_S:
            self._say(paper, row.arms, row.time)

    def finish(self, paper: str, error: str | None) -> None:
        row = self.rows[paper]
        row.finish(error)
        self._say(paper, row.outcome, row.time, row.arms, error or row.summary.plain)

    def _say(self, paper: str, *parts: str) -> None:
        self._told[paper] = time.monotonic()
        self.console.print(f"{paper}: {' | '.join(filter(None, parts))}")


class Silent:
    """For machines."""

    def update(self, paper: str, progress: Progress) -> None:
        """Says nothing."""

    def finish(self, paper: str, error: str | None) -> None:
        """Says nothing."""
