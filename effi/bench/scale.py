"""What grows with a run: records, arms on a cluster, processes that share a step, text that becomes shards."""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil

from effi.bench import processes, tokenising
from effi.bench.rounds import FEWEST, Case, Competitor, Taken
from effi.claims import Results
from effi.cost import measure
from effi.records import Arm, Run, cluster, store
from effi.records.index import Index
from effi.records.lines import seal
from effi.report import arms_table

SIZES = (1_000, 10_000, 100_000)
SEEDS = 5
ARMS = 50
Make = Callable[[Path], Callable[[], object]]
JOBS = 2
ONE, STARTED, DASK = "one process", "two processes, started each time", "two workers of Dask"
MEGABYTES = (10, 40)


def scale(sizes: tuple[int, ...] = SIZES, arms: int = ARMS) -> list[Case]:
    """Records by their number, and arms that do nothing on processes of this machine and on workers of Dask."""
    folder = Path(_temporary().name)
    *some, most = sizes
    records = [*_of_records(folder, tuple(some)), _of_most_records(folder, most)]
    return [_of_arms(folder, arms), _of_processes(), _of_text(folder), *records]


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Deleted as the process ends: the steps of a case use it after it was made."""
    return tempfile.TemporaryDirectory(prefix="effi-scale-")


# --- records ---------------------------------------------------------------------------------------------------


def row(number: int) -> store.Record:
    """A record of 8 kB, as one of a training with a curve of 350 points."""
    arm, seed = divmod(number, SEEDS)
    curve = [2.0 + (number % 7) / 1000 + 1 / (step + 1) for step in range(350)]
    return {
        "identity": f"{number:016x}",
        "paper": "minimal",
        "scale": "smoke",
        "arm": f"set/model/arm{arm}",
        "dataset": "set",
        "model": "model",
        "variant": f"arm{arm}",
        "ratio": None,
        "seed": seed,
        "status": "done",
        "error": None,
        "settings": {"training": {f"option{each}": each / 10 for each in range(40)}},
        "metrics": {"test_loss": curve[-1], "test_accuracy": 0.5 + (number % 11) / 100},
        "history": {"train_loss": curve},
        "marks": {},
        "inputs": {},
        "parameters": {},
        "provenance": {f"fact{each}": "some version or other" for each in range(15)},
        "cost": {"flops": 10**9, "seconds": 1.0, "peak_bytes": None, "phases": {}},
    }


def _of_records(folder: Path, sizes: tuple[int, ...]) -> list[Case]:
    def case(title: str, step: Make) -> Case:
        makes = {f"{size:,} records": partial(_competitor, folder, size, step) for size in sizes}
        return Case(title, next(iter(makes)), makes)

    return [case(title, step) for title, step in STEPS.items()]


def _of_most_records(folder: Path, size: int) -> Case:
    """What takes minutes in rounds, once each."""

    def elsewhere() -> Mapping[str, Taken]:
        return {title: _once(_competitor(folder, size, step)) for title, step in STEPS.items()}

    return Case(f"{size:,} records, once each", next(iter(STEPS)), elsewhere=elsewhere)


def _once(competitor: Competitor) -> Taken:
    start = time.perf_counter()
    competitor.step()
    return Taken([time.perf_counter() - start], competitor.extra_bytes)


def _competitor(folder: Path, size: int, step: Make) -> Competitor:
    path = folder / f"{size}" / "records.jsonl"
    if not path.exists():
        path.parent.mkdir()
        with path.open("w") as file:
            file.writelines(json.dumps(seal(row(number))) + "\n" for number in range(size))
    made = step(path)
    return Competitor(made, extra_bytes=_memory(made))


def _memory(step: Callable[[], object]) -> int:
    """Bytes that this process holds more while it has the step's result."""
    process = psutil.Process()
    before = process.memory_info().rss
    held = step()
    after = process.memory_info().rss
    del held
    return max(0, after - before)


def _entering(path: Path) -> Callable[[], object]:
    numbers = itertools.count(10**9)

    def step() -> bool:
        store.append(path, [row(next(numbers))])
        return "no such arm" in store.finished(path)

    return step


def _table(path: Path) -> str:
    results = Results(store.records(path))
    return arms_table(results, ["test_loss", "test_accuracy"]).text()


STEPS: Mapping[str, Make] = {
    "write a record and enter the next arm": _entering,
    "take a run up again: who is finished": lambda path: lambda: Index(path).finished(),
    "verify: read all, checksums held": lambda path: lambda: store.records(path, whole=True),
    "report: the table of all arms": lambda path: lambda: _table(path),
}


# --- arms ------------------------------------------------------------------------------------------------------


def _of_arms(folder: Path, arms: int) -> Case:
    """Arms that record one number: what is left is what an arm costs besides its training."""
    numbers = itertools.count()

    def each(jobs: int, where: str) -> None:
        run = Run("minimal", "smoke", results_dir=folder / f"run{next(numbers)}", uses=["effi.seeds"], quiet=True)
        with _environment({cluster.ASKED: where}):
            run.each(_nothing, {f"arm{number}": number for number in range(arms)}, [0], jobs=jobs)

    def elsewhere() -> Mapping[str, Taken]:
        with _two_workers(folder) as where:
            ways = {ONE: (1, cluster.LOCAL), STARTED: (JOBS, cluster.LOCAL), DASK: (JOBS, where)}
            steps = {name: partial(each, *way) for name, way in ways.items()}
            measure(steps, repeats=1, budget_s=0)  # imports
            seconds = measure(steps, repeats=FEWEST, budget_s=math.inf)
        return {name: Taken(took) for name, took in seconds.items()}

    return Case(f"{arms} arms that do nothing", ONE, elsewhere=elsewhere)


def _nothing(arm: Arm) -> None:
    arm.record({"value": 1.0})


# --- one large arm, and its text ---------------------------------------------------------------------------------


def _of_processes() -> Case:
    """A step of two processes on a thread each: what the exchange of gradients adds, and what the second one gains."""

    def elsewhere() -> Mapping[str, Taken]:
        return {name: Taken(seconds) for name, seconds in processes.shared_step().items()}

    return Case("a step of a GPT, 8 rows of 128 tokens, two processes", processes.APART, elsewhere=elsewhere)


def _of_text(folder: Path) -> Case:
    """Text to tokens on disk by its length, first reading and training of the tokenizer included."""

    def elsewhere() -> Mapping[str, Taken]:
        return {f"{megabytes} MB": _tokenised(folder, megabytes) for megabytes in MEGABYTES}

    return Case("text to shards of tokens", f"{MEGABYTES[0]} MB", elsewhere=elsewhere)


def _tokenised(folder: Path, megabytes: int) -> Taken:
    text = folder / f"{megabytes}.txt"
    tokenising.generate(text, megabytes)
    found = [tokenising.measure(text, folder / f"shards{megabytes}-{turn}") for turn in range(FEWEST)]
    return Taken([each.seconds for each in found], round(1e6 * max(each.peak_mb for each in found)))


@contextmanager
def _two_workers(folder: Path) -> Iterator[str]:
    """Where two workers of Dask are, as --workers names it."""
    from distributed import LocalCluster

    settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        _environment({cluster.FOLDER: str(folder / "workers")}),
        LocalCluster(**settings, host="127.0.0.1", local_directory=str(folder)) as found,
    ):
        where = f"dask://{found.scheduler_address.removeprefix('tcp://')}"
        yield where
        cluster.connect(where).close()
        cluster.connect.cache_clear()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
