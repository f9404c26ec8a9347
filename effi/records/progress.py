"""How far a run is: a bar in a notebook, a line per arm elsewhere for a person who watches, a file for the terminal."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from effi import paths
from effi.errors import duration
from effi.records.bar import Bar, in_notebook


class Progress:
    """Counts of (arm, seed) pairs of one run, written to the file `path`, if there is one, as it goes.

    total = trained + kept (from records of before) + failed + what is left; done = trained + kept; stale: pairs left
    that have a record of another source. `failures` names arms with their error and the file of their record;
    `waiting` an arm that another process is at, with its pid; `aside` counts rows that the run put aside at its end.
    """

    def __init__(self, path: Path | None, label: str, quiet: bool | None, records: Path) -> None:
        self.path = path
        self.label = label
        self.records = records
        self.quiet = not watched() if quiet is None else quiet
        self.total = self.trained = self.kept = self.failed = self.stale = 0
        self.aside = 0
        self.failures: list[dict[str, Any]] = []
        self._waiting: dict[str, int] = {}
        self._lock = threading.Lock()  # threads that hear of workers save, too
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()
        self._bar = Bar() if not self.quiet and in_notebook() else None

    @property
    def done(self) -> int:
        """Pairs that have their record."""
        return self.trained + self.kept

    def expect(self, total: int, kept: int = 0, stale: int = 0) -> None:
        """Add pairs that are asked for, of which some have their record already, and some one of another source."""
        self.total += total
        self.kept += kept
        self.stale += stale
        self._save(None)
        self._draw("")

    def skip(self, count: int, arm: str) -> None:
        """Pairs whose records turned out to be there."""
        self._wait(arm, None)
        self.kept += count
        self._save(arm)

    def waits(self, arm: str, pid: int | None) -> None:
        """An arm waits for the process `pid`, which is at it; None when it is over."""
        self._wait(arm, pid)
        self._save(arm)

    def put_aside(self, rows: int) -> None:
        """Rows of records that the run did not ask for."""
        self.aside += rows
        self._save(None)

    def finished(self, arm: str, seeds: tuple[int, ...], error: str | None) -> None:
        """Pairs that were trained now, or failed."""
        self._wait(arm, None)
        if error is None:
            self.trained += len(seeds)
        else:
            self.failed += len(seeds)
            place = {"error": error.splitlines()[0], "record": str(self.records)}
            self.failures.append({"arm": arm, "seeds": list(seeds), **place})
        self._save(arm)
        said = self._said(arm, seeds, error)
        self._draw(f"{self._left()} | {said}")
        if not self.quiet and (error is not None or self._bar is None):
            settled = self.done + self.failed
            print(f"{said} | {settled}/{self.total} | {self._left()}", file=sys.stderr, flush=True)

    def _draw(self, words: str) -> None:
        """The bar, where there is one and arms are asked for; what failed has a line of its own, too, which stays."""
        if self._bar is not None and self.total:
            self._bar.show(self.done + self.failed, self.total, words)

    def _wait(self, arm: str, pid: int | None) -> None:
        with self._lock:
            others = {name: known for name, known in self._waiting.items() if name != arm}
            self._waiting = others if pid is None else {**others, arm: pid}

    def _said(self, arm: str, seeds: tuple[int, ...], error: str | None) -> str:
        outcome = "done" if error is None else f"failed: {error.splitlines()[0]}"
        return f"{self.label} {arm} seed {', '.join(map(str, seeds))} {outcome}"

    def _left(self) -> str:
        """Time left, at the pace of what was trained now."""
        pace = (time.monotonic() - self._start) / max(self.trained + self.failed, 1)
        return f"{duration(pace * (self.total - self.done - self.failed))} left"

    def _save(self, arm: str | None) -> None:
        names = ("done", "trained", "kept", "failed", "stale", "total", "started", "failures", "aside")
        with self._lock, suppress(OSError):  # the records say what matters, and their errors are told
            waiting = next(({"arm": name, "pid": pid} for name, pid in self._waiting.items()), None)
            counts = {**{name: getattr(self, name) for name in names}, "arm": arm, "waiting": waiting}
            if self.path:
                paths.replace(self.path, json.dumps(counts))


def watched() -> bool:
    """Whether a person looks on: a terminal, JupyterLab (its server names the session) or EFFI_PROGRESS set."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ or bool(os.environ.get("EFFI_PROGRESS"))
