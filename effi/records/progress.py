"""How far a run is: a line per arm for a person who watches, and a small file for the terminal's bar."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from effi import paths


class Progress:
    """Counts of (arm, seed) pairs of one run; `path` is the file, written as {done, failed, total, started, arm}."""

    def __init__(self, path: Path, label: str, quiet: bool | None) -> None:
        self.path = path
        self.label = label
        self.quiet = not _watched() if quiet is None else quiet
        self.total = self.done = self.failed = self.trained = 0
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()

    def expect(self, total: int, done: int = 0) -> None:
        """Add pairs that are asked for, of which some have their record already."""
        self.total += total
        self.done += done
        self._save(None)

    def skip(self, count: int, arm: str) -> None:
        """Pairs whose records turned out to be there."""
        self.done += count
        self._save(arm)

    def finished(self, arm: str, seeds: tuple[int, ...], error: str | None) -> None:
        """Pairs that were trained now, or failed."""
        self.trained += len(seeds)
        if error is None:
            self.done += len(seeds)
        else:
            self.failed += len(seeds)
        self._save(arm)
        if not self.quiet:
            print(self._line(arm, seeds, error), file=sys.stderr, flush=True)

    def _line(self, arm: str, seeds: tuple[int, ...], error: str | None) -> str:
        settled = self.done + self.failed
        left = (time.monotonic() - self._start) / max(self.trained, 1) * (self.total - settled)
        outcome = "done" if error is None else f"failed: {error.splitlines()[0]}"
        named = ", ".join(map(str, seeds))
        return f"{self.label} {arm} seed {named} {outcome} | {settled}/{self.total} | {_clock(left)} left"

    def _save(self, arm: str | None) -> None:
        counts = {"done": self.done, "failed": self.failed, "total": self.total, "started": self.started, "arm": arm}
        with suppress(OSError):  # the records say what matters, and their errors are told
            paths.replace(self.path, json.dumps(counts))


def _watched() -> bool:
    """Whether a person looks on: a terminal, JupyterLab (its server names the session) or EFFI_PROGRESS set."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ or bool(os.environ.get("EFFI_PROGRESS"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
