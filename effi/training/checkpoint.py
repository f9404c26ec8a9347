"""Where a training can go on after a kill: one file, replaced every few minutes, and the time of the last step."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from torch import Tensor

from effi import paths
from effi.errors import TrainingError

EVERY_S = 120.0
BEAT_S = 1.0


class Kept(NamedTuple):
    """Named tensors, and everything else as plain JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoint:
    """The files `path`.safetensors, and `path`.beat, which is touched every second.

    What passed between the last checkpoint and the last beat of a killed run is lost, and counted.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(f"{path.name}.safetensors")
        self.beat = path.with_name(f"{path.name}.beat")
        self.ending = False
        self.written = self.file.exists()
        self._began = self._saved = self._beaten = time.monotonic()

    def load(self) -> Kept | None:
        """What was kept; None for a file that is not there or torn."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
                return Kept(tensors, json.loads(file.metadata()["facts"]))
        # No metadata, or none that this loop wrote.
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            return None

    def lost(self) -> float:
        """Seconds of steps that no checkpoint holds, of all runs since the last one; a new count begins."""
        seconds = 0.0
        with suppress(OSError, ValueError, KeyError):
            told = json.loads(self.beat.read_text())
            seconds = told["lost"] + max(0.0, self.beat.stat().st_mtime - told["since"])
        self.mark(seconds)
        return seconds

    def due(self) -> bool:
        """Whether it is time to save; called after every step."""
        now = time.monotonic()
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            with suppress(OSError):
                os.utime(self.beat)
        return self.ending or now - self._saved >= EVERY_S

    def save(self, kept: Kept) -> None:
        """Replace the file; TrainingError when the disk refuses."""
        from safetensors.torch import save

        content = save(
            {name: value.contiguous() for name, value in kept.tensors.items()}, {"facts": json.dumps(kept.facts)}
        )
        write(self.file, content)
        self.saved()

    def saved(self) -> None:
        """Count from now: nothing is lost."""
        self.written, self._saved = True, time.monotonic()
        self.mark(0.0)

    def mark(self, lost: float) -> None:
        """Note when the steps began that no checkpoint holds yet, and the seconds lost before."""
        write(self.beat, json.dumps({"since": time.time(), "lost": lost}).encode())

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C ask for a last checkpoint before they end it all; the main thread alone hears them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ending = True

    def leave(self) -> None:
        """After the last checkpoint of a run that was asked to end."""
        if self.ending:
            raise KeyboardInterrupt("interrupted; run again to go on from the checkpoint")


def write(file: Path, content: bytes) -> None:
    """Replace a file; TrainingError when the disk refuses."""
    try:
        paths.replace(file, content)
    except OSError as error:
        raise TrainingError(
            f"{file} could not take {len(content):,} bytes ({error.strerror}); free space or make it writable"
        ) from error


def split(state: Mapping[str, Any], prefix: str) -> Kept:
    """A state that mixes tensors and plain values, as a checkpoint keeps it; a prefix tells whose the tensors are."""
    tensors = {f"{prefix}{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return Kept(tensors, {name: value for name, value in state.items() if not isinstance(value, Tensor)})


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
