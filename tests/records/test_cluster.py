"""Arms on the workers of a cluster: two worker processes of Dask on this machine, and what happens when one dies."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from distributed import Client, LocalCluster

import effi
from effi import data
from effi.errors import DataError, ParameterError, RecordError
from effi.records import Arm, Run, cluster, records, workers
from effi.seeds import seeded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes the POSIX way"),
]
VARIES = ("cost", "provenance", "written", "checksum")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two worker processes, which keep their folders apart from the driver's."""
    place = tmp_path_factory.mktemp("dask")
    os.environ[cluster.FOLDER] = str(place / "workers")
    settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings, host="127.0.0.1", local_directory=str(place)) as found:
        yield found
        cluster.connect(_place(found)).close()
    del os.environ[cluster.FOLDER]


@pytest.fixture
def on(two: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    two.scale(2)
    place = _place(two)
    monkeypatch.setenv(cluster.ASKED, place)
    cluster.connect(place).wait_for_workers(2)
    return place


def _place(found: LocalCluster) -> str:
    return f"dask://{found.scheduler_address.removeprefix('tcp://')}"


def make(place: Path) -> Run:
    return Run("minimal", "smoke", results_dir=place, uses=["effi.seeds"], quiet=True)


def digits() -> dict[str, data.Opened]:
    parts = {"digits": {"train": 60, "validation": 20, "size": 8}}
    return data.open_parts(["digits"], parts, scale="smoke", device="cpu")


def training(run: Run, log: Path) -> Callable[[Arm], None]:
    """A few steps on digits from a start that is an artefact, made once for all arms of a seed."""
    opened = digits()

    def start(settings: Any, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        with log.open("a") as file:
            file.write(f"{seed}\n")
        with seeded(seed):
            return {"weight": torch.randn(64, 10) / 8}, {}

    starts = run.artefacts(start)

    def train(arm: Arm) -> None:
        images = opened["digits"].of(*arm.seeds).train
        weight = starts.get({"data": opened["digits"].settings}, arm.seed).tensors["weight"].requires_grad_()
        for step in range(5):
            rows = slice(12 * step, 12 * step + 12)
            logits = images.inputs[rows].flatten(1).float() @ weight
            loss = torch.nn.functional.cross_entropy(logits, images.labels[rows])
            (slope,) = torch.autograd.grad(loss, weight)
            weight = (weight - arm.settings["rate"] * slope).detach().requires_grad_()
        arm.record({"loss": loss.item(), "norm": weight.norm().item()}, {"rows": [1.0, 2.0]})

    return train


def test_data_travel_by_name_unless_the_name_means_another_reading() -> None:
    one = digits()["digits"]
    reread = replace(one, data=replace(one.data, train=replace(one.data.train, labels=one.data.train.labels + 1)))
    small, large = (len(workers.packed(print, lambda held=held: held, cluster.REDUCERS)) for held in (one, reread))
    assert small < one.data.train.inputs.nbytes < large
    for held in (one, reread):
        _, back = pickle.loads(workers.packed(print, lambda held=held: held, cluster.REDUCERS))
        assert back().data.train.labels.equal(held.data.train.labels) and back().name == "digits"
    with pytest.raises(DataError, match="digits is another on this worker"):
        cluster._opened_again(one.name, dict(one.subset), None, "cpu", "sha256:other")


def settled(file: Path) -> list[dict[str, Any]]:
    """Records without what differs from one machine and minute to the next, in the order of their names."""
    found = [{k: v for k, v in row.items() if k not in VARIES} for row in records(file)]
    return sorted(found, key=lambda row: (row["arm"], row["seed"]))


def test_two_workers_give_the_records_of_this_machine_to_the_bit(
    tmp_path: Path, on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, log, kept = {}, tmp_path / "made.txt", list[int]()
    data_of = digits()["digits"].settings
    arms = {name: {"rate": rate, "data": data_of} for name, rate in (("slow", 0.1), ("fast", 0.5), ("none", 0.0))}
    for name in ("there", "here"):
        if name == "here":
            monkeypatch.delenv(cluster.ASKED)
        run = make(tmp_path / name)
        run.each(training(run, log), arms, [0, 1], jobs=2)
        given[name] = settled(run.path)
        kept.append(len(list(run.path.with_name("artefacts").glob("*.safetensors"))))
    assert sorted(log.read_text().split()) == ["0", "0", "1", "1"] and kept == [2, 2]  # each start was made once a run
    assert len(given["there"]) == 6 and given["there"] == given["here"]
    assert {row["metrics"]["loss"] for row in given["here"]} != {given["here"][0]["metrics"]["loss"]}


def test_a_worker_that_is_killed_gives_its_arm_to_another(tmp_path: Path, on: str) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    begun.mkdir()

    def train(arm: Arm) -> None:
        (begun / f"{arm.name}-{os.getpid()}").touch()
        while arm.name == "first" and not go.exists():
            time.sleep(0.02)
        arm.record({"value": float(arm.settings)})

    def killing() -> None:
        while not (found := [*begun.glob("first-*")]):
            time.sleep(0.02)
        os.kill(int(found[0].name.rpartition("-")[2]), signal.SIGKILL)
        go.touch()

    run = make(tmp_path)
    with in_thread(killing):
        run.each(train, {"first": 1, "second": 2, "third": 3}, [0])
    assert [row["metrics"]["value"] for row in sorted(records(run.path), key=lambda row: row["settings"])] == [1, 2, 3]
    assert len([*begun.glob("first-*")]) == 2 and all(row["status"] == "done" for row in records(run.path))
    run.each(train, {"first": 1, "second": 2, "third": 3}, [0])
    assert len(records(run.path)) == 3


def test_what_a_lost_driver_did_not_hear_is_handed_over(tmp_path: Path, on: str) -> None:
    trained, begun, left = tmp_path / "trained", tmp_path / "begun", tmp_path / "left"

    def train(arm: Arm) -> None:
        begun.touch()
        while not left.exists():
            time.sleep(0.02)
        with trained.open("a") as file:
            file.write(f"{arm.name}\n")
        arm.record({"value": 1.0})

    def leaving() -> None:
        while not begun.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    run = make(tmp_path)
    with in_thread(leaving), pytest.raises(KeyboardInterrupt):
        run.each(train, {"only": 1}, [0])
    left.touch()
    assert not [row for row in records(run.path) if row["status"] == "done"]
    run.each(train, {"only": 1}, [0])
    assert [row["status"] for row in records(run.path)] == ["failed", "done"] and trained.read_text() == "only\n"


@contextmanager
def in_thread(function: Callable[[], None]) -> Iterator[None]:
    import threading

    thread = threading.Thread(target=function)
    thread.start()
    yield
    thread.join()


def test_what_an_arm_does_wrong_is_recorded_and_a_bug_is_raised(tmp_path: Path, on: str) -> None:
    def train(arm: Arm) -> None:
        if arm.name == "bug":
            raise KeyError("no such weight")
        arm.record({"value": float("nan") if arm.name == "diverges" else 1.0})

    run = make(tmp_path)
    run.each(train, {"fine": 1, "diverges": 2}, [0])
    assert {row["arm"]: row["status"] for row in records(run.path)} == {"fine": "done", "diverges": "failed"}
    (failed,) = run.failed()
    assert "lower the learning rate" in failed["error"]
    with pytest.raises(KeyError, match="no such weight"):
        run.each(train, {"bug": 3}, [0])


def test_a_worker_of_another_version_is_passed_over_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other" / "effi"
    shutil.copytree(Path(effi.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__"))
    words = other / "__init__.py"
    words.write_text(words.read_text().replace(f'"{effi.__version__}"', '"9.9"'))
    with (
        scheduler(tmp_path) as (address, _),
        worker(address, tmp_path, PYTHONPATH=str(other.parent)),
        pytest.raises(ParameterError, match=r"no worker is like this process \(tcp://.*: effi 9\.9, not "),
    ):
        cluster.Cluster(f"dask:{address.removeprefix('tcp:')}", print, print, "cpu")


def test_a_scheduler_that_dies_loses_nothing_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "results" / "smoke" / "minimal" / "records.jsonl"

    def train(arm: Arm) -> None:
        if arm.name == "last":
            time.sleep(1.0)
        arm.record({"value": 1.0})

    def killing() -> None:
        while not first.exists():
            time.sleep(0.02)
        process.kill()

    run = make(tmp_path / "results")
    with scheduler(tmp_path) as (address, process), worker(address, tmp_path):
        monkeypatch.setenv(cluster.ASKED, f"dask:{address.removeprefix('tcp:')}")
        with in_thread(killing), pytest.raises(RecordError, match=r"the scheduler is gone .*; run again"):
            run.each(train, {"early": 1, "last": 2}, [0])
    assert [row["arm"] for row in records(run.path) if row["status"] == "done"] == ["early"]
    monkeypatch.delenv(cluster.ASKED)
    run.each(train, {"early": 1, "last": 2}, [0], jobs=1)
    assert [row["arm"] for row in records(run.path) if row["status"] == "done"] == ["early", "last"]


@pytest.mark.parametrize("when", ["before", "while it is asked"])
def test_a_client_that_looks_for_its_scheduler_anew_is_no_scheduler(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[float] = []
    client = SimpleNamespace(status="connecting" if when == "before" else "running", cluster=None)
    client.close = lambda timeout: closed.append(timeout)

    def asked(n_workers: int) -> dict[str, object]:
        client.status = "closed"
        return {}

    client.scheduler_info = asked
    monkeypatch.setattr(cluster, "connect", cache(lambda where: client))
    with pytest.raises(RecordError, match=r"the scheduler is gone \(it closed the connection\); run again"):
        cluster.Cluster("dask:127.0.0.1:1", print, print, "cpu")
    assert len(closed) == 1 and cluster.connect.cache_info().currsize == 0


def test_an_arm_that_only_lay_ready_at_a_dead_worker_is_not_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "DEATHS", 1)
    trained, ready, elsewhere = (SimpleNamespace(name=name, identities=(name,)) for name in ("a", "b", "c"))
    lost = cluster.Cluster.__new__(cluster.Cluster)
    lost.waiting, lost._like, lost._deaths = [], {"there"}, Counter()
    lost._client = SimpleNamespace(cancel=lambda future: None)
    lost.running = {1: (trained, "gone"), 2: (ready, "gone"), 3: (elsewhere, "there")}
    assert [arm.name for arm, _ in lost._taken_back()] == ["a"]
    assert [arm.name for arm in lost.waiting] == ["b"] and list(lost.running) == [3]


def test_small_arms_keep_both_workers_busy(tmp_path: Path, on: str) -> None:
    def train(arm: Arm) -> None:
        began = time.time()
        time.sleep(0.1)
        arm.record({"began": began, "ended": time.time(), "pid": float(os.getpid())})

    run = make(tmp_path)
    run.each(train, {f"arm{i}": i for i in range(200)}, [0])
    found = [row["metrics"] for row in records(run.path)]
    assert len(found) == 200
    busy = sum(each["ended"] - each["began"] for each in found)
    whole = max(each["ended"] for each in found) - min(each["began"] for each in found)
    # One after another would be 0.5 at most; how much more depends on what else the machine does: `effi bench scale`.
    assert len({each["pid"] for each in found}) == 2 and busy / (2 * whole) > 0.55, busy / (2 * whole)


def slurm(place: Path, monkeypatch: pytest.MonkeyPatch, commands: Mapping[str, str]) -> None:
    """Put commands in the place of Slurm's."""
    queue = place / "bin"
    queue.mkdir()
    for name, text in commands.items():
        (queue / name).write_text(f"#!/bin/sh\n{text}\n")
        (queue / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(queue), prepend=os.pathsep)
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__CORES", "1")
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__MEMORY", "2GB")
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__INTERFACE", "lo")
    import dask

    dask.config.refresh()


@pytest.mark.timeout(100)
def test_slurm_starts_workers_as_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an sbatch that runs its script at once, as a queue without other users would."""
    # Slurm takes a copy of the script, which is deleted when sbatch ends.
    copied = f'cp "$1" {tmp_path}/job.$$.sh\nsh {tmp_path}/job.$$.sh >{tmp_path}/job.$$.log 2>&1 &\n'
    commands = {"sbatch": f'{copied}echo "Submitted batch job $!"', "scancel": "kill $1", "squeue": "ps -o pid= -p $3"}
    slurm(tmp_path, monkeypatch, commands)
    monkeypatch.setenv(cluster.FOLDER, str(tmp_path / "workers"))
    monkeypatch.setenv(cluster.ASKED, "slurm")

    def train(arm: Arm) -> None:
        arm.record({"pid": float(os.getpid())})

    run = make(tmp_path / "results")
    try:
        run.each(train, {"one": 1}, [0])
        (found,) = records(run.path)
        assert found["metrics"]["pid"] != os.getpid()
        os.kill(int(found["metrics"]["pid"]), signal.SIGKILL)  # as at the end of its time
        run.each(train, {"two": 2}, [0])
        assert [each["status"] for each in records(run.path)] == ["done", "done"]
    finally:
        if cluster.connect.cache_info().currsize:
            cluster._close(cluster.connect("slurm"))


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("status", "said"), [(0, ""), (1, "slurm_load_jobs error: Invalid job id specified")])
def test_jobs_that_end_before_a_worker_comes_are_told_and_jobs_that_wait_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    asked = tmp_path / "asked"
    looks = f'echo "$*" >>{asked}; test $(wc -l <{asked}) -lt 3 && echo "7 PENDING" && exit 0'
    commands = {"sbatch": 'echo "Submitted batch job 7"', "scancel": "true"}
    slurm(tmp_path, monkeypatch, commands | {"squeue": f'{looks}\necho "{said}" >&2; exit {status}'})
    monkeypatch.setattr(cluster, "LOOK_S", 0.5)
    with pytest.raises(ParameterError, match=r"all 1 jobs of Slurm ended before a worker came; .* memory and walltime"):
        cluster.connect("slurm")
    assert asked.read_text().splitlines() == ["-h -j 7"] * 3 and cluster.connect.cache_info().currsize == 0


def test_a_configuration_of_slurm_that_lacks_something_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CORES", "MEMORY"):
        monkeypatch.delenv(f"DASK_JOBQUEUE__SLURM__{name}", raising=False)
    import dask

    with (
        dask.config.set({"jobqueue.slurm.cores": None, "jobqueue.slurm.memory": None}),
        pytest.raises(ParameterError, match=r"jobqueue.yaml does not say what a job of Slurm is given: write cores"),
    ):
        cluster.connect("slurm:2")


@contextmanager
def scheduler(place: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    file = place / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with started("scheduler", words) as process:
        while not file.exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(file)) as client:
            yield client.scheduler.address, process


@contextmanager
def worker(address: str, place: Path, **environment: str) -> Iterator[None]:
    words = [address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(place / "dask")]
    with started("worker", words, **{cluster.FOLDER: str(place / "workers"), **environment}):
        yield


@contextmanager
def started(what: str, words: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "dask", what, *words]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("where", ["dask", "dask://host", "dask:host:1", "slurm:", "slurm:0", "slurm:x", "8", "cloud"])
def test_a_place_that_is_none_is_refused(where: str) -> None:
    if where == "slurm:":
        assert cluster.check(where) == where
        return
    with pytest.raises(ParameterError, match="is no place: give local, dask://HOST:PORT, slurm or slurm:N"):
        cluster.check(where)


def test_places_are_taken_as_they_are() -> None:
    for where in ("local", "dask://host:8786", "dask://10.0.0.1:1", "slurm", "slurm:16"):
        assert cluster.check(where) == where
