"""Temporary folders that outlive nobody: what a killed process left behind is removed by the next run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "effi-", "in-use-by-effi.lock"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of this process alone, removed afterwards; a lock inside says that it is in use."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name, FileLock(Path(name, LOCK)):
        yield Path(name)


def clean() -> list[Path]:
    """Remove the folders of processes that are gone, and say which; the system frees the lock of a killed process."""
    removed = []
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed.append(lock.parent)
    return removed
