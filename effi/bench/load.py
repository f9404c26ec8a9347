"""How busy others keep the machine while something is timed on it, and the memory that a call needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from effi.cost import Ledger

# As psutil names them; iowait is idle, steal went to other guests of the same host.
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


def spent() -> tuple[float, float]:
    """CPU seconds that other processes have taken so far, and the seconds of a wall clock."""
    everyone, own = psutil.cpu_times(), os.times()
    taken = sum(getattr(everyone, kind, 0.0) for kind in BUSY)
    ended = own.user + own.system + own.children_user + own.children_system
    return taken - ended - _living(), time.perf_counter()


def _living() -> float:
    """CPU seconds of this process's children that still work."""
    seconds = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            seconds += times.user + times.system
    return seconds


def others(start: tuple[float, float]) -> float:
    """Cores that others kept busy on average since `start`, as `spent` gave it; this process's children are own.

    The system counts in hundredths of a second: below that, nothing is known.
    """
    taken, passed = (now - then for now, then in zip(spent(), start, strict=True))
    return max(0.0, taken / passed)


def needed_bytes(step: Callable[[], object], device: str) -> int | None:
    """Peak bytes of process or device in one call less those before, its result included; None where unknown."""
    ledger = Ledger(device)
    with ledger.phase("before") as before:
        pass
    with ledger.phase("call") as call:
        step()
    if call.peak_bytes is None or before.peak_bytes is None:
        return None
    return call.peak_bytes - before.peak_bytes


def average() -> float | None:
    """Processes that wanted a core over the last minute, this one's own earlier work included; None on Windows."""
    with suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None
