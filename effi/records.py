"""Runs, arms and their records: an arm whose record exists is skipped, so that running again is resuming."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import joblib
import torch

from effi import paths, store
from effi.cost import Ledger, share
from effi.errors import ParameterError, RecordError, TrainingError
from effi.identity import canonical, device_class, function_parts, identity, non_default, source_hash
from effi.progress import Progress
from effi.provenance import provenance
from effi.store import Record, append, records
from effi.workers import Workers

__all__ = ["Arm", "Record", "Run", "append", "canonical", "provenance", "records", "source_hash"]

Values = Mapping[str, float]
Curves = Mapping[str, Sequence[float]]
KILLED = "the process that trained it was killed, perhaps for memory; run again with fewer jobs or smaller batches"


@dataclass
class Arm:
    """One training variant for one seed, or for several seeds that are trained together.

    As a context manager it holds the arm's lock: a second process waits, then finds the arm `done`. A failure inside
    is recorded; a failure of the training itself (TrainingError, out of memory) ends there, any other goes on.
    """

    name: str
    seeds: tuple[int, ...]
    settings: Any
    identities: tuple[str, ...]
    path: Path
    header: Record
    ledger: Ledger
    done: bool = False
    error: str | None = None
    report: Callable[[Arm], None] | None = None
    _recorded: bool = False
    _locks: ExitStack = field(default_factory=ExitStack)

    @property
    def seed(self) -> int:
        """The first seed; the only one unless seeds are trained together."""
        return self.seeds[0]

    @property
    def dry_run(self) -> bool:
        """Whether this only measures a step for the plan; nothing is recorded then."""
        return self.ledger.dry_run

    def __enter__(self) -> Arm:
        if self.dry_run:
            return self
        with ExitStack() as held:
            for name in sorted(self.identities):  # one order for all processes, so that none waits in a circle
                held.enter_context(store.locked(self.path, name))
            finished = _finished(self.path)
            left = [pair for pair in zip(self.seeds, self.identities, strict=True) if pair[1] not in finished]
            self.done = not left
            if left:
                self.seeds, self.identities = map(tuple, zip(*left, strict=True))
                self._locks = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        with self._locks:
            unrecorded = not (self.done or self.dry_run or self._recorded)
            forgotten = RecordError(f'arm "{self.name}" ended without arm.record(...); record its metrics')
            if unrecorded:
                self.fail(_sentence(error or forgotten))
        if self.report:
            self.report(self)
        if unrecorded and error is None:
            raise forgotten
        return unrecorded and _is_of_training(error)

    def record(self, metrics: Values | Sequence[Values], history: Curves | Sequence[Curves] | None = None) -> None:
        """Write the arm's records, one per seed (lists hold one mapping per seed), each with its share of the cost.

        TrainingError when a value is not finite; RecordError when it is no number, when the number of mappings is not
        that of the seeds, when the arm is recorded already, or when the disk refuses.
        """
        if self.dry_run:
            return
        if self.done or self._recorded:
            raise RecordError(f'arm "{self.name}" is recorded already; skip it with `if arm.done: continue`')
        values = [_numbers("metric", each) for each in self._per_seed(metrics)]
        curves = [_numbers("history", each) for each in self._per_seed(history or [{}] * len(self.seeds))]
        append(self.path, self._rows("done", None, values, curves))
        self._recorded = True

    def fail(self, error: str) -> None:
        """Record why the arm failed; the next call tries again."""
        self.error = error
        empty: list[dict[str, Any]] = [{}] * len(self.seeds)
        append(self.path, self._rows("failed", error, empty, empty))

    def _per_seed(self, given: Any) -> Sequence[Mapping[str, Any]]:
        items = [given] if isinstance(given, Mapping) else given
        if len(items) != len(self.seeds):
            raise RecordError(
                f'arm "{self.name}" has {len(self.seeds)} seeds but {len(items)} sets of values; give one per seed'
            )
        return items

    def _rows(self, status: str, error: str | None, metrics: Sequence[Any], history: Sequence[Any]) -> list[Record]:
        cost = share(self.ledger.total(), len(self.seeds))
        facts = {**self.header["provenance"], "threads": torch.get_num_threads()}
        written = datetime.now(UTC).isoformat(timespec="seconds")
        outcome = {
            **self.header,
            "status": status,
            "error": error,
            "cost": cost,
            "written": written,
            "provenance": facts,
        }
        return [
            {**outcome, "identity": name, "seed": seed, "metrics": values, "history": curves}
            for name, seed, values, curves in zip(self.identities, self.seeds, metrics, history, strict=True)
        ]


class Run:
    """One paper at one scale: gives arms, keeps their records, or with `dry_run` only a plan.

    `parameters` are the notebook's and count where they differ from `defaults`; `inputs` maps data sets to checksums;
    `uses` names the modules of effi that the arms depend on (none: the whole package). `quiet` None shows progress on
    a terminal and in JupyterLab only. ParameterError for values without a JSON form, unknown modules and a device
    that is not there.
    """

    def __init__(
        self,
        paper: str,
        scale: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        uses: Sequence[ModuleType | str] = (),
        device: str = "cpu",
        results_dir: str | Path = "results",
        notices: Sequence[str] = (),
        dry_run: bool = False,
        quiet: bool | None = None,
    ) -> None:
        self.path = paths.records_file(results_dir, scale, paper)
        self.device = str(device)
        self.dry_run = dry_run
        self._uses = {name if isinstance(name, str) else name.__name__ for name in uses}
        self._shared = {
            "paper": paper,
            "scale": scale,
            "parameters": non_default(parameters or {}, defaults or {}),
            "inputs": canonical(inputs or {}, "inputs"),
        }
        self._surroundings = {"torch": torch.__version__, "device": device_class(device)}
        self._header = {**self._shared, "notices": list(notices), "provenance": provenance()}
        self._source = source_hash(self._uses)
        self._asked: dict[str, None] = {}
        self._planned: dict[str, tuple[Ledger, int]] = {}
        self._progress = Progress(self.path.with_name("progress.json"), f"{paper} {scale}", quiet)

    def arm(self, name: str, seed: int, settings: Any = None) -> Arm:
        """The arm of one seed, for a `with` block that ends in arm.record(...); `settings` is what it is trained with."""
        self._progress.expect(1)
        arm = self._arm(name, (index(seed),), settings, self._source)
        arm.done = self.dry_run and name in self._planned
        if self.dry_run:
            self._plan(arm)
        else:
            arm.report = self._report
        return arm

    def each(
        self,
        function: Callable[[Arm], object],
        arms: Mapping[str, Any],
        seeds: Sequence[int],
        *,
        together: int = 1,
        jobs: int | None = None,
    ) -> None:
        """Call `function(arm)` for every arm (name -> settings) and `together` seeds that have no record yet.

        `jobs` processes work side by side, one thread each, in the order of `arms`; None is one per core on a CPU and
        1 on a GPU; 1 stays in this process. Arms that fail in training or are killed are recorded and passed over;
        any other error is raised once what runs beside it is recorded.
        """
        if jobs is None:
            jobs = joblib.cpu_count() if self.device == "cpu" else 1
        _at_least_one("jobs", jobs)
        groups = self._groups(function, arms, seeds, _at_least_one("together", together), jobs)
        if self.dry_run:
            self._rehearse(function, groups)
        elif jobs == 1:
            for arm in groups:
                _train(function, arm)
                self._report(arm)
        else:
            self._side_by_side(function, groups, jobs)

    def records(self) -> list[Record]:
        """Finished records of the arms asked for in this run, in the order asked."""
        return self._found("done")

    def failed(self) -> list[Record]:
        """Newest records of the arms asked for in this run that failed and were not trained since."""
        return self._found("failed")

    def plan(self) -> list[dict[str, Any]]:
        """Of a dry run, per arm: steps, flops and peak_bytes of one training, seconds_per_step, hours of all seeds."""
        return [{"arm": name, **ledger.forecast(count)} for name, (ledger, count) in self._planned.items()]

    def _found(self, status: str) -> list[Record]:
        newest = store.latest(records(self.path))
        return [newest[name] for name in self._asked if name in newest and newest[name]["status"] == status]

    def _arm(self, name: str, seeds: tuple[int, ...], settings: Any, source: Any, side_by_side: int = 1) -> Arm:
        plain = {} if settings is None else canonical(settings, f'settings of arm "{name}"')
        same = {**self._shared, **self._surroundings, "arm": name, "settings": plain, "source": source}
        identities = tuple(identity({**same, "seed": seed}) for seed in seeds)
        self._asked |= dict.fromkeys(identities)
        header = {**self._header, "arm": name, "settings": plain}
        ledger = Ledger(self.device, dry_run=self.dry_run, side_by_side=side_by_side)
        return Arm(name, seeds, settings, identities, self.path, header, ledger)

    def _groups(
        self, function: Callable[[Arm], object], arms: Mapping[str, Any], seeds: Sequence[int], together: int, jobs: int
    ) -> list[Arm]:
        """Arms to train, longest first as the caller ordered them; seeds that are recorded are left out."""
        parts, modules = function_parts(function)
        source = {"effi": source_hash(self._uses | modules), "function": parts}
        finished = set() if self.dry_run else _finished(self.path)
        groups = []
        for name, settings in arms.items():
            whole = self._arm(name, tuple(dict.fromkeys(map(index, seeds))), settings, source)
            left = [seed for seed, known in zip(whole.seeds, whole.identities, strict=True) if known not in finished]
            self._progress.expect(len(whole.seeds))
            self._progress.skip(len(whole.seeds) - len(left), name)
            for start in range(0, len(left), together):
                group = tuple(left[start : start + together])
                groups.append(self._arm(name, group, settings, source, side_by_side=jobs * len(group)))
        return groups

    def _rehearse(self, function: Callable[[Arm], object], groups: Sequence[Arm]) -> None:
        for arm in groups:
            if arm.name not in self._planned:
                _train(function, arm)
            self._plan(arm)

    def _plan(self, arm: Arm) -> None:
        ledger, count = self._planned.get(arm.name, (arm.ledger, 0))
        self._planned[arm.name] = ledger, count + 1

    def _side_by_side(self, function: Callable[[Arm], object], groups: Sequence[Arm], jobs: int) -> None:
        trouble: BaseException | None = None
        with Workers(min(jobs, len(groups)), _train, function) as workers:
            try:
                for arm, future in workers.run(groups):
                    error = future.exception()
                    if isinstance(error, BrokenExecutor):
                        _fail_unless_done(arm, KILLED)
                    elif error is not None:
                        trouble, arm.error = error, _sentence(error)
                        workers.stop()
                    else:
                        arm.error = future.result()
                    self._report(arm)
            except BaseException as error:
                for arm in workers.kill():
                    _fail_unless_done(arm, _sentence(error))
                raise
        if trouble is not None:
            raise trouble

    def _report(self, arm: Arm) -> None:
        if arm.done:
            self._progress.skip(len(arm.seeds), arm.name)
        else:
            self._progress.finished(arm.name, arm.seeds, arm.error)


def _train(function: Callable[[Arm], object], arm: Arm) -> str | None:
    """Train an arm unless it is done; the error that its record holds, if it failed."""
    with arm:
        if not arm.done:
            function(arm)
    return arm.error


def _finished(path: Path) -> set[str]:
    return {record["identity"] for record in records(path) if record["status"] == "done"}


def _fail_unless_done(arm: Arm, error: str) -> None:
    """Record the failure of an arm whose process can no longer do so itself."""
    if not set(arm.identities) <= _finished(arm.path):
        arm.fail(error)


def _numbers(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain finite floats, or lists of them, by name."""
    return {
        name: [_number(what, name, item) for item in value] if what == "history" else _number(what, name, value)
        for name, value in values.items()
    }


def _number(what: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{what} {name} is a {type(value).__name__}; give a number") from error
    if not math.isfinite(number):
        raise TrainingError(f"{what} {name} is {number}; lower the learning rate or check the data")
    return number


def _is_out_of_memory(error: BaseException | None) -> bool:
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)


def _is_of_training(error: BaseException | None) -> bool:
    return isinstance(error, TrainingError) or _is_out_of_memory(error)


def _sentence(error: BaseException) -> str:
    """An error as its record says it."""
    if isinstance(error, TrainingError | RecordError):
        return str(error)
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"out of memory ({text}); use smaller batches or fewer jobs" if _is_out_of_memory(error) else text


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ParameterError(f"{name} is {value}; give at least 1")
    return value
