"""What a notebook's process tells the one that asked for it: how far its run is, and what stopped it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Stop(NamedTuple):
    """What stopped a notebook, in one sentence (None if every cell ran), and whether it is the user's to mend."""

    error: str | None
    mistake: bool = False


class Failure(NamedTuple):
    """An arm that failed, for which seeds, why, and the file that holds its record."""

    arm: str
    seeds: tuple[int, ...]
    error: str
    record: str


class Counts(NamedTuple):
    """Arms of one notebook by how they went; `total` None until it says, `elapsed` in seconds since it began.

    `kept` have their record from before; `stale` had one of another source when the run began. `waiting` is the
    process that an arm waits for, `aside` the number of rows that the run put aside at its end.
    """

    trained: int = 0
    kept: int = 0
    failed: int = 0
    stale: int = 0
    total: int | None = None
    elapsed: float = 0.0
    failures: tuple[Failure, ...] = ()
    waiting: int | None = None
    aside: int = 0

    @property
    def done(self) -> int:
        """Arms that have their record."""
        return self.trained + self.kept

    @property
    def settled(self) -> int:
        """Arms that need no more time."""
        return self.done + self.failed

    @property
    def summary(self) -> str:
        """What the run did, for example `0 trained, 62 from records`; empty until it has said what it wants."""
        if self.total is None:
            return ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.trained} trained, {self.kept} from records{failed}"


def read(path: Path, began: float) -> Counts:
    """Counts that a run has written to `path` since the time `began`; nothing known before, or when it is torn."""
    counts = {}
    with suppress(OSError, ValueError):
        if path.stat().st_mtime >= began:
            counts = json.loads(path.read_text())
    failures = tuple(
        Failure(each["arm"], tuple(each["seeds"]), each["error"], each["record"]) for each in counts.get("failures", ())
    )
    names = ("trained", "kept", "failed", "stale", "total", "aside")
    numbers = {name: counts[name] for name in names if name in counts}
    waiting = (counts.get("waiting") or {}).get("pid")
    return Counts(**numbers, elapsed=time.time() - began, failures=failures, waiting=waiting)
