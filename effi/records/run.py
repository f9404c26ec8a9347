"""Runs and their records: an arm whose record exists is skipped, so that running again is resuming."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import torch

from effi import paths
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.records import store
from effi.records.arms import Arm, sentence
from effi.records.artefacts import Artefact, Artefacts
from effi.records.identity import canonical, device_class, function_parts, identity, non_default, source_hash
from effi.records.progress import Progress
from effi.records.provenance import provenance
from effi.records.store import Record, records
from effi.records.workers import Workers

KILLED = "the process that trained it was killed, perhaps for memory; run again with fewer jobs or smaller batches"


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
        """The arm of one seed, for a `with` block that ends in arm.record(...); `settings`: what it is trained with."""
        arm = self._arm(name, (index(seed),), settings, self._source)
        if self.dry_run:
            arm.done = name in self._planned
            self._plan(arm)
        else:
            store.point(self.path, list(self._asked))
            self._progress.expect(1)
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
        _at_least_one("together", together)
        groups = self._groups(function, arms, seeds, together)
        if self.dry_run:
            self._rehearse(function, groups)
            return
        store.point(self.path, list(self._asked))
        asked, left = len(arms) * len(set(seeds)), sum(len(arm.seeds) for arm in groups)
        self._progress.expect(asked, done=asked - left)
        if jobs > 1:
            self._side_by_side(function, groups, jobs)
            return
        for arm in groups:
            arm.report = self._report
            _train(function, arm)

    def artefacts(self, function: Callable[[Any, int], Artefact]) -> Artefacts:
        """Files beside the records of what `function(settings, seed)` makes, for arms that share it.

        They go stale with the sources that the records go stale with, and with the function's own.
        """
        parts, modules = function_parts(function)
        source = {"effi": source_hash(self._uses | modules), "function": parts}
        same = {**self._shared, **self._surroundings, "source": source}
        return Artefacts(self.path.with_name("artefacts"), function, same)

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

    def _arm(self, name: str, seeds: tuple[int, ...], settings: Any, source: str) -> Arm:
        plain = {} if settings is None else canonical(settings, f'settings of arm "{name}"')
        same = {**self._shared, **self._surroundings, "arm": name, "settings": plain, "source": source}
        identities = tuple(identity({**same, "seed": seed}) for seed in seeds)
        self._asked |= dict.fromkeys(identities)
        header = {**self._header, "arm": name, "settings": plain}
        ledger = Ledger(self.device, dry_run=self.dry_run, side_by_side=len(seeds))
        return Arm(name, seeds, settings, identities, self.path, header, ledger)

    def _groups(
        self, function: Callable[[Arm], object], arms: Mapping[str, Any], seeds: Sequence[int], together: int
    ) -> list[Arm]:
        """Arms to train, in the caller's order; seeds that are recorded are left out."""
        parts, modules = function_parts(function)
        source = identity({"effi": source_hash(self._uses | modules), "function": parts})
        known = set() if self.dry_run else store.finished(self.path)
        distinct = tuple(dict.fromkeys(map(index, seeds)))
        groups: list[Arm] = []
        for name, settings in arms.items():
            whole = self._arm(name, distinct, settings, source)
            left = [seed for seed, key in zip(distinct, whole.identities, strict=True) if key not in known]
            chunks = (tuple(left[start : start + together]) for start in range(0, len(left), together))
            groups += [self._arm(name, group, settings, source) for group in chunks]
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
        jobs = min(jobs, len(groups))
        for arm in groups:
            arm.ledger.side_by_side *= jobs
        with Workers(jobs, _train, function) as workers:
            try:
                for arm, future in workers.run(groups):
                    error = future.exception()
                    if isinstance(error, BrokenExecutor):
                        arm.fail_unless_done(KILLED)
                    elif error is not None:
                        trouble, arm.error = error, sentence(error)
                        workers.stop()
                    else:
                        arm.error = future.result()
                    self._report(arm)
            except BaseException as error:
                for arm in workers.kill():
                    arm.fail_unless_done(sentence(error))
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


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ParameterError(f"{name} is {value}; give at least 1")
