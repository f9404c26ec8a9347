"""Arms side by side in processes: what happens when one of them, or the main one, is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from effi.errors import ParameterError, TrainingError
from effi.records import Arm, Run, records

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes the POSIX way")


class Fussy(Exception):
    """Breaks when another process unpickles it."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def make(tmp_path: Path) -> Run:
    return Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"])


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected (on Linux: without a command line) does not."""
    command = Path(f"/proc/{pid}/cmdline")
    try:
        os.kill(pid, 0)
        return not command.exists() or bool(command.read_bytes())
    except (ProcessLookupError, FileNotFoundError):
        return False


# --- workers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_fail_alone_until_a_bug_stops_the_run(tmp_path: Path) -> None:
    def train(arm: Arm) -> None:
        (tmp_path / arm.name).touch()
        if arm.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if arm.name == "diverged":
            raise TrainingError("loss is nan")
        if arm.name == "bug":
            raise Fussy(1, 2)
        until((tmp_path / "bug").exists)
        time.sleep(0.5)
        threads = (torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"]))
        arm.record({"pid": os.getpid(), "threads": max(threads)})

    run = make(tmp_path)
    arms = dict.fromkeys(["killed", "beside", "diverged", "bug", "never"])
    with pytest.raises(RuntimeError, match="Fussy: 1 and 2"):
        run.each(train, arms, [0], jobs=2)
    (beside,) = run.records()
    assert beside["arm"] == "beside" and beside["metrics"]["pid"] != os.getpid()
    assert beside["metrics"]["threads"] == beside["provenance"]["threads"] == 1 and beside["cost"]["side_by_side"] == 2
    told = {record["arm"]: record["error"] for record in run.failed()}
    assert "was killed" in told.pop("killed")
    assert told == {"diverged": "loss is nan", "bug": "Fussy: 1 and 2"}
    assert not (tmp_path / "never").exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal has it: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_records_what_they_did(tmp_path: Path, interruptible: None) -> None:
    def train(arm: Arm) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(600)

    def interrupt() -> None:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.kill(os.getpid(), signal.SIGINT)

    run = make(tmp_path)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run.each(train, {"slow": None}, [0], jobs=2)
    assert [record["error"] for record in run.failed()] == ["KeyboardInterrupt"]
    until(lambda: not alive(int((tmp_path / "pid").read_text())))


class Opened:
    """A data set that holds what stays in its process."""

    checksum = "sha256:1"

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_a_function_that_cannot_travel_is_named(tmp_path: Path) -> None:
    held = Opened()

    def train(arm: Arm) -> None:
        held.lock.acquire()

    with pytest.raises(ParameterError, match=r"train cannot travel .* jobs=1"):
        make(tmp_path).each(train, {"a": {"data": held.checksum}}, [0], jobs=2)


# --- the main process ----------------------------------------------------------------------------------------

# A notebook's cells are a __main__, too. Arm "slow" does not end while there is a file called "trap"; it takes a
# moment to leave, as a training that writes a checkpoint does.
SCRIPT = """
import os, signal, sys, time
from functools import cache
from pathlib import Path
from effi.records import Run

folder = Path(__file__).parent

@cache
def factorial(number):
    return number * factorial(number - 1) if number else 1

def leave(number, frame):
    time.sleep(0.3)
    (folder / "checkpoint").touch()
    raise SystemExit(143)

def train(arm):
    if arm.name == "slow" and (folder / "trap").exists():
        signal.signal(signal.SIGTERM, leave)
    (folder / f"{arm.name}.{os.getpid()}").touch()
    while arm.name == "slow" and (folder / "trap").exists():
        time.sleep(0.02)
    arm.record({"value": factorial(4)})

if __name__ == "__main__":
    run = Run("minimal", "smoke", results_dir=folder, uses=["effi.seeds"], quiet=True)
    run.each(train, {"quick": None}, [0], jobs=1)
    run.each(train, {"slow": None}, [0], jobs=int(sys.argv[1]) if sys.argv[1:] else 1)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def run_script(script: Path) -> None:
    sys.argv = [str(script)]
    runpy.run_path(str(script), run_name="__main__")


def forked(script: Path) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=run_script, args=(script,))
    process.start()
    return process


def finished(file: Path) -> list[str]:
    return [record["arm"] for record in records(file) if record["status"] == "done"]


def started(script: Path, arm: str) -> list[int]:
    return [int(path.suffix[1:]) for path in script.parent.glob(f"{arm}.*")]


def check_resumed(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed script left the record of "quick"; running it again keeps that and trains "slow" alone."""
    file = make(script.parent).path
    until(lambda: not any(map(alive, started(script, "slow"))))
    kept = file.read_bytes()
    assert finished(file) == ["quick"]
    (script.parent / "trap").unlink()
    monkeypatch.setattr(sys, "argv", [str(script)])
    run_script(script)
    assert file.read_bytes().startswith(kept)
    assert finished(file) == ["quick", "slow"]
    assert len(started(script, "quick")) == 1 and len(started(script, "slow")) == 2
    counts = json.loads(file.with_name("progress.json").read_text())
    assert (counts["done"], counts["failed"], counts["total"]) == (2, 0, 2)


def test_a_killed_process_is_resumed_from_its_finished_arms(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script.parent / "trap").touch()
    process = forked(script)
    until(lambda: started(script, "slow"))
    process.kill()
    process.join()
    check_resumed(script, monkeypatch)


@pytest.mark.slow
def test_workers_leave_with_their_killed_main_process(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script.parent / "trap").touch()
    process = subprocess.Popen([sys.executable, str(script), "2"], stderr=subprocess.DEVNULL)
    until(lambda: started(script, "slow"))
    assert process.pid not in started(script, "slow")
    process.kill()
    process.wait()
    check_resumed(script, monkeypatch)
    assert (script.parent / "checkpoint").exists()


def test_a_second_call_with_workers_trains_nothing(tmp_path: Path) -> None:
    def train(arm: Arm) -> None:
        arm.record({"pid": os.getpid()})

    arms = dict.fromkeys(["a", "b"])
    make(tmp_path).each(train, arms, [0, 1], jobs=2)
    before = records(make(tmp_path).path)
    again = make(tmp_path)
    again.each(train, arms, [0, 1], jobs=2)
    assert records(again.path) == before and len(again.records()) == 4


def test_two_runs_at_once_train_each_arm_once(script: Path) -> None:
    (script.parent / "trap").touch()
    both = [forked(script), forked(script)]
    until(lambda: started(script, "slow"))
    time.sleep(0.3)  # the second run has come to the lock by now
    (script.parent / "trap").unlink()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert [record["arm"] for record in records(make(script.parent).path)] == ["quick", "slow"]
    assert all(len(started(script, arm)) == 1 for arm in ("quick", "slow"))
