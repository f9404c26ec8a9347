"""What grows with a run: the file of records, and what one more arm costs on a cluster."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from effi.bench.rounds import Case, Competitor
from effi.claims import Results
from effi.records import Arm, Run, cluster, store
from effi.records.index import Index
from effi.records.lines import seal
from effi.report import arms_table

SIZES = (1_000, 10_000, 100_000)
SEEDS = 5
ARMS = 50


def scale(sizes: tuple[int, ...] = SIZES, arms: int = ARMS) -> list[Case]:
    """Records by their number, and arms that do nothing on processes of this machine and on workers of Dask."""
    place = ExitStack()
    folder = Path(place.enter_context(tempfile.TemporaryDirectory(prefix="effi-scale-")))
    return [*_of_records(folder, sizes), _of_arms(folder, arms, place)]


# --- records ---------------------------------------------------------------------------------------------------


def row(number: int) -> store.Record:
    """A record as long as those of a training with a curve of a hundred points: 5 kB."""
    arm, seed = divmod(number, SEEDS)
    curve = [2.0 + (number % 7) / 1000 + 1 / (step + 1) for step in range(100)]
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
    def case(title: str, step: Callable[[Path], Callable[[], object]]) -> Case:
        makes = {f"{size:,} records": partial(_competitor, folder, size, step) for size in sizes}
        return Case(title, next(iter(makes)), makes)

    return [
        case("write a record and enter the next arm", _entering),
        case("take a run up again: who is finished", lambda path: lambda: Index(path).finished()),
        case("verify: read all, checksums held", lambda path: lambda: store.records(path, whole=True)),
        case("report: the table of all arms", lambda path: lambda: _table(path)),
    ]


def _competitor(folder: Path, size: int, step: Callable[[Path], Callable[[], object]]) -> Competitor:
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


# --- arms ------------------------------------------------------------------------------------------------------


def _of_arms(folder: Path, arms: int, place: ExitStack) -> Case:
    """Arms that record one number: what is left is what an arm costs besides its training."""
    numbers = itertools.count()

    def each(jobs: int, where: str) -> None:
        run = Run("minimal", "smoke", results_dir=folder / f"run{next(numbers)}", uses=["effi.seeds"], quiet=True)
        with _environment({cluster.ASKED: where}):
            run.each(_nothing, {f"arm{number}": number for number in range(arms)}, [0], jobs=jobs)

    def dask() -> Competitor:
        address = place.enter_context(_two_workers(folder))
        return Competitor(partial(each, 2, f"dask://{address}"))

    makes = {
        "one process": lambda: Competitor(partial(each, 1, cluster.LOCAL)),
        "two processes, started each time": lambda: Competitor(partial(each, 2, cluster.LOCAL)),
        "two workers of Dask": dask,
    }
    return Case(f"{arms} arms that do nothing", "one process", makes)


def _nothing(arm: Arm) -> None:
    arm.record({"value": 1.0})


@contextmanager
def _two_workers(folder: Path) -> Iterator[str]:
    from distributed import LocalCluster

    with _environment({cluster.FOLDER: str(folder / "workers")}):
        settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**settings, host="127.0.0.1", local_directory=str(folder)) as found:
            yield found.scheduler_address.removeprefix("tcp://")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
