"""Little memory, one core, a proc that cannot be written, a clock that jumps back, and signals that ask to end."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil

from effi.records import store
from tests.campaign.bed import MAIN, Bed, same_bits, whole
from tests.campaign.rows import Fault, NotDone, expect
from tests.campaign.watched import Command, Ended

NOTE = (
    "The same small run where the machine gives less than usual, or asks it to end. It ends in a sentence or comes to "
    "the bits of an undisturbed run; its records are whole."
)
JUMP_S = 3600
# Stands before the C library: from the fourth second of a process on, its clock of the day is an hour behind.
SHIM = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {{
    static int (*real)(clockid_t, struct timespec *);
    static time_t began;
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, now);
    if (which == CLOCK_REALTIME) {{
        if (!began) began = now->tv_sec;
        if (now->tv_sec - began >= 4) now->tv_sec -= {JUMP_S};
    }}
    return status;
}}
"""


def faults(bed: Bed) -> Iterator[Fault]:
    """One row each."""
    for mib, command in ((1000, "doctor"), (1000, "run"), (300, "list")):
        done = f"`effi {command}` with {mib} MiB of address space"
        yield Fault(done, lambda mib=mib, command=command: _memory(bed, mib, command))
    yield Fault("a run with one core", lambda: _ends_well(bed, "one-core", ("taskset", "-c", "0")))
    yield Fault("a run without a /proc/self/clear_refs that can be written", lambda: _no_clear_refs(bed))
    yield Fault("a run whose clock jumps back an hour", lambda: _clock(bed))
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        yield Fault(f"{name} in the middle of a run", lambda name=name: _signalled(bed, signal.Signals[name]))


def _memory(bed: Bed, mib: int, command: str) -> str:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib * 2**20, mib * 2**20))

    words = bed.small("little") if command == "run" else (command,)
    ended = bed.effi(*words, seconds=300, limit=limit)
    said = " / ".join(ended.sentences)
    told = f"status {ended.status}: {said}"
    if command == "list":
        expect(ended.status == 0 or "memory" in said, told)
        return told
    expect(ended.status == 1 and len(ended.sentences) == 1 and "too little memory" in said, told)
    return told


def _ends_well(bed: Bed, name: str, before: tuple[str, ...], more: dict[str, str] | None = None) -> str:
    """A run started by the words `before`, held against the undisturbed one."""
    undisturbed = bed.undisturbed()
    words = [*before, sys.executable, "-P", "-c", MAIN, *bed.small(name)]
    with Command(words, cwd=bed.root / "here", environment=bed.environment(more)) as command:
        ended: Ended = command.wait(900)
    expect(ended.status == 0, f"status {ended.status}: {' / '.join(ended.sentences)}")
    wrong = whole(bed.records(name)) or same_bits(undisturbed, bed.root / name)
    expect(not wrong, wrong)
    return "it ended well; records whole, all bits those of the undisturbed run"


def _no_clear_refs(bed: Bed) -> str:
    shell = 'mount -o bind,remount,ro /proc && ! echo 5 2>/dev/null > /proc/self/clear_refs && exec "$@"'
    seen = _ends_well(bed, "no-clear-refs", ("unshare", "--mount", "sh", "-c", shell, "sh"))
    peaks = {row["cost"].get("peak_bytes") is None for row in store.records(bed.records("no-clear-refs"))}
    return f"{seen}; peak memory is {'not available' if peaks == {True} else 'told'} in every record"


def _clock(bed: Bed) -> str:
    if shutil.which("gcc") is None:
        raise NotDone("there is no gcc to build a clock that jumps")
    library = bed.root / "tmp" / "clock.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=SHIM.encode(), check=True)
    seen = _ends_well(bed, "clock", (), {"LD_PRELOAD": str(library)})
    seconds = [row["cost"]["seconds"] for row in store.records(bed.records("clock"))]
    expect(all(0 < each < 600 for each in seconds), f"seconds in records: {min(seconds)} to {max(seconds)}")
    return f"{seen}; seconds in records are {min(seconds):.1f} to {max(seconds):.1f}"


def _signalled(bed: Bed, number: signal.Signals) -> str:
    undisturbed, name = bed.undisturbed(), number.name

    def heard() -> None:
        """A campaign in the background, or under nohup, hands on that the signal is ignored."""
        signal.signal(number, signal.SIG_DFL)

    with bed.start(*bed.small(name), limit=heard) as command:
        _until(lambda: command.process.poll() is not None or store.every(bed.records(name)))
        tree = command.tree()
        command.process.send_signal(number)
        ended = command.wait(60)
    expect(_gone(tree), "processes are left")
    said = " / ".join(ended.sentences)
    told = f"status {ended.status}: {said}"
    expect(ended.status == 128 + number and len(ended.sentences) == 1 and "run again" in said.lower(), told)
    again = bed.effi(*bed.small(name), seconds=900)
    expect(again.status == 0, f"the next run ended with {again.status}: {again.err}")
    wrong = whole(bed.records(name)) or same_bits(undisturbed, bed.root / name)
    expect(not wrong, wrong)
    return f"{told}; nothing is left running, and the next run comes to the same bits"


def _until(condition: Callable[[], object], seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)


def _gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not alive
