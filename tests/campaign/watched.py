"""A command run in a group of its own: what it said, how it ended, how long it took, and the memory of its tree."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_S = 0.25


@dataclass(frozen=True)
class Ended:
    """Exit status (minus the signal of a killed command), what was said, seconds and the tree's peak in bytes."""

    status: int
    out: str
    err: str
    seconds: float
    peak: int

    @property
    def sentences(self) -> list[str]:
        """Lines on standard error."""
        return [line.strip() for line in self.err.splitlines() if line.strip()]


class Command:
    """A running command; as a context manager nothing of it is left afterwards."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        limit: Callable[[], None] | None = None,
    ) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (they live as long)
        self.began = time.monotonic()
        self.peak = 0
        self.process = subprocess.Popen(
            list(words),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
            preexec_fn=limit,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.tree():
            with suppress(psutil.Error):
                each.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tree(self) -> list[psutil.Process]:
        """The command and all that it started, the command first."""
        with suppress(psutil.Error):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def named(self, word: str) -> list[psutil.Process]:
        """Processes of the tree whose command line holds a word."""
        found = []
        for each in self.tree():
            with suppress(psutil.Error):
                if any(word in part for part in each.cmdline()):
                    found.append(each)
        return found

    def measure(self) -> int:
        """Resident bytes of the tree now, pages that processes share counted once for each."""
        total = 0
        for each in self.tree():
            with suppress(psutil.Error):
                total += each.memory_info().rss
        self.peak = max(self.peak, total)
        return total

    def wait(self, seconds: float) -> Ended:
        """How it ended; killed when that takes longer, with the status of that kill."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            self.measure()
            time.sleep(POLL_S)
        passed = time.monotonic() - self.began
        self.__exit__()
        return Ended(self.process.returncode, _read(self._out), _read(self._err), passed, self.peak)


def _read(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return file.read().decode(errors="replace")  # type: ignore[attr-defined]
