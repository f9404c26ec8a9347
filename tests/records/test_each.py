"""Arms side by side in processes: what happens when one of them, or the main one, is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from effi.errors import ParameterError, TrainingError
from effi.records import Arm, Run, records


class Fussy(Exception):
    """Breaks when another process unpickles it."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def make(tmp_path: Path) -> Run:
    return Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.stats"])


def test_a_killed_worker_fails_its_arm_alone(tmp_path: Path) -> None:
    def train(arm: Arm) -> None:
        if arm.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if arm.name == "diverged":
            raise TrainingError("loss is nan")
        with arm.ledger.phase("train"):
            time.sleep(0.1)
        threads = (torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"]))
        arm.record({"pid": os.getpid(), "threads": max(threads)})

    run = make(tmp_path)
    run.each(train, {"a": None, "killed": None, "diverged": None, "b": None}, [0, 1], jobs=2)
    assert [(record["arm"], record["seed"]) for record in run.records()] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    told = {record["arm"]: record["error"] for record in run.failed()}
    assert "was killed" in told["killed"] and "fewer jobs" in told["killed"] and told["diverged"] == "loss is nan"
    for record in run.records():
        assert record["metrics"]["threads"] == record["provenance"]["threads"] == 1
        assert record["cost"]["side_by_side"] == 2 and os.getpid() != record["metrics"]["pid"]


def test_a_bug_in_a_worker_is_raised_after_what_runs_beside_it(tmp_path: Path) -> None:
    def train(arm: Arm) -> None:
        if arm.name == "bug":
            raise Fussy(1, 2)
        time.sleep(1.0)
        arm.record({"value": 1})

    run = make(tmp_path)
    with pytest.raises(RuntimeError, match="Fussy: 1 and 2"):
        run.each(train, {"beside": None, "bug": None, "never": None}, [0], jobs=2)
    assert [record["arm"] for record in run.records()] == ["beside"]
    assert [(record["arm"], record["error"]) for record in run.failed()] == [("bug", "Fussy: 1 and 2")]


def test_a_function_that_cannot_travel_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as held:

        def train(arm: Arm) -> None:
            print(arm.name, file=held)

        with pytest.raises(ParameterError, match=r"train cannot travel .* jobs=1"):
            make(tmp_path).each(train, {"a": None}, [0], jobs=2)


# A notebook's cell is a __main__, too; arm "slow" never ends in a process that sees a file called "trap".
SCRIPT = """
import os, sys, time
from pathlib import Path
from effi.records import Run

folder = Path(sys.argv[1])
jobs = int(sys.argv[2])

def train(arm):
    started = folder / f"{arm.name}.{os.getpid()}"
    started.touch()
    while arm.name == "slow" and (folder / "trap").exists():
        time.sleep(0.05)
    arm.record({"value": 1})

if __name__ == "__main__":
    run = Run("minimal", "smoke", results_dir=folder, uses=["effi.stats"])
    run.each(train, {"quick": None, "slow": None, "last": None}, [0], jobs=jobs)
    print([record["arm"] for record in run.records()])
"""


def start(folder: Path, jobs: int) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(SCRIPT)
    words = [sys.executable, "script.py", str(folder), str(jobs)]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def started(folder: Path, arm: str) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob(f"{arm}.*")]


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process states from /proc")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_main_process_is_resumed_from_its_finished_arms(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "trap").touch()
    first = start(tmp_path, jobs)
    file = make(tmp_path).path
    until(lambda: started(tmp_path, "slow") and len(records(file)) == jobs)  # with two processes, "last" is done, too
    first.kill()
    first.wait()
    until(lambda: not any(map(alive, started(tmp_path, "slow"))))
    kept = file.read_bytes()
    (tmp_path / "trap").unlink()
    said, _ = start(tmp_path, jobs).communicate(timeout=60)
    assert said == "['quick', 'slow', 'last']\n"
    assert file.read_bytes().startswith(kept) and len(records(file)) == 3
    assert len(started(tmp_path, "quick")) == 1


def test_two_runs_at_once_train_each_arm_once(tmp_path: Path) -> None:
    both = [start(tmp_path, 1), start(tmp_path, 1)]
    assert [run.communicate(timeout=60)[0] for run in both] == ["['quick', 'slow', 'last']\n"] * 2
    assert sorted(record["arm"] for record in records(make(tmp_path).path)) == ["last", "quick", "slow"]
    assert all(len(started(tmp_path, arm)) == 1 for arm in ("quick", "slow", "last"))


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no interrupt signal")
def test_an_interrupt_records_what_was_running(tmp_path: Path) -> None:
    (tmp_path / "trap").touch()
    run = start(tmp_path, 2)
    until(lambda: started(tmp_path, "slow"))
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    newest = {record["arm"]: record for record in records(make(tmp_path).path)}
    assert run.returncode != 0 and newest["slow"]["error"] == "KeyboardInterrupt"
    assert json.loads((make(tmp_path).path.parent / "progress.json").read_text())["total"] == 3
