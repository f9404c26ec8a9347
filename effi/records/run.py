"""Runs and their records: an arm whose record exists is skipped, so that running again is resuming."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from functools import cache
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import joblib
import torch

from effi import paths
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.records import adoption, cluster, names, store
from effi.records.arms import Arm, sentence
from effi.records.artefacts import Artefacts, Make
from effi.records.identity import agree, canonical, essential, identity, non_default
from effi.records.machine import device_class
from effi.records.names import Name
from effi.records.progress import Progress
from effi.records.provenance import provenance
from effi.records.reading import Reads, reads
from effi.records.source import Source, source_hash
from effi.records.store import Record
from effi.records.workers import Workers, tell
from effi.training.ranks import world

KILLED = "the process that trained it was killed, perhaps for memory; run again with fewer jobs or smaller batches"


class Run:
    """One paper at one scale: gives arms, keeps their records, or with `dry_run` only a plan.

    `parameters` are the notebook's and count where they differ from `defaults`; `inputs` maps data sets to checksums;
    `uses` names the modules of effi that the arms depend on (none: the whole package). `quiet` None shows progress on
    a terminal and in JupyterLab only. ParameterError for values without a JSON form, unknown modules and a device
    that is not there.
    """

    keep_only = staticmethod(names.keep_only)

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
        self._results_dir = results_dir
        self._uses = _module_names(uses)
        self._shared = {
            "paper": paper,
            "scale": scale,
            "parameters": non_default(parameters or {}, defaults or {}),
            "inputs": canonical(inputs or {}, "inputs"),
        }
        self._surroundings = {"torch": torch.__version__, "device": device_class(device)}
        kind = torch.device(device).type
        self._header = {**self._shared, "device": kind, "notices": list(notices), "provenance": provenance()}
        self._asked: dict[str, None] = {}
        self._planned: dict[str, tuple[Ledger, int]] = {}
        progress = self.path.with_name("progress.json") if world().first else None
        self._progress = Progress(progress, f"{paper} {scale}", quiet, self.path)

    @property
    def counted(self) -> NoReturn:
        """Nothing in a run may be read by the function of an arm."""
        raise ParameterError("a function reads the run itself; give it what it needs through the arm or its settings")

    def arm(
        self, name: Name | str, seed: int, settings: Any = None, *, uses: Sequence[ModuleType | str] | None = None
    ) -> Arm:
        """The arm of one seed, for a `with` block that ends in arm.record(...); `settings`: what it is trained with.

        It goes stale with the modules that `uses` names (None: those of the run), whatever else is edited.
        """
        source = Source.of(self._uses if uses is None else _module_names(uses))
        return self._single(name, seed, settings, source)

    def derived(
        self,
        name: Name | str,
        function: Callable[[list[Record]], Mapping[str, float]],
        *,
        of: Sequence[Record],
        seed: int = 0,
        settings: Any = None,
    ) -> None:
        """Record the metrics that `function(records)` gives of finished records; `settings` say what these are.

        They go stale with those records and with the function's own text and that of its helpers: with no other edit.
        """
        if self.dry_run:
            return
        read = reads(function, closely=True)
        effi = source_hash(read.modules) if read.modules else ""
        source = Source(effi, identity(read.code), tuple(sorted(read.modules)))
        parents = [record["checksum"] for record in of]
        with self._single(name, seed, settings, source, read, parents) as arm:
            if not arm.done:
                arm.record(function(list(of)))

    def each(
        self,
        function: Callable[[Arm], object],
        arms: Mapping[Name, Any] | Mapping[str, Any],
        seeds: Sequence[int],
        *,
        together: int = 1,
        jobs: int | None = None,
    ) -> None:
        """Call `function(arm)` for every arm (name -> settings) and `together` seeds that have no record yet.

        What the function reads from outside itself counts, too; a data set by its checksum, which the settings name.
        `jobs` processes work side by side, one thread each, in the order of `arms`; None is one per core on a CPU and
        1 on a GPU; 1 stays in this process. Where EFFI_WORKERS names a cluster its workers do it; processes that
        torchrun started make one arm after another together. Arms that fail in training or are killed are recorded and
        passed over; any other error is raised once what runs beside it is recorded.
        """
        if jobs is None:
            jobs = joblib.cpu_count() if self.device == "cpu" else 1
        _at_least_one("jobs", jobs)
        _at_least_one("together", together)
        if world().size > 1:
            jobs = together = 1
        groups, stale = self._groups(function, arms, seeds, together)
        if self.dry_run:
            self._rehearse(function, groups)
            return
        self._point()
        asked, left = len(arms) * len(set(seeds)), sum(len(arm.seeds) for arm in groups)
        self._progress.expect(asked, kept=asked - left, stale=stale)
        if groups and (jobs > 1 or cluster.asked() != cluster.LOCAL):
            self._side_by_side(function, groups, jobs)
            return
        for arm in groups:
            arm.report, arm.waits = self._report, self._progress.waits
            _train(function, arm)

    def artefacts(self, function: Make) -> Artefacts:
        """Files beside the records of what `function(settings, seed)` makes, for arms that share it.

        They go stale with the sources that the records go stale with, and with the function's own.
        """
        read = reads(function)
        sources = tuple(each.key for each in self._same_as(Source.of(self._uses | read.modules, read.code)))
        same = {**self._shared, **self._surroundings, "reads": read.values}
        return Artefacts(self.path.with_name("artefacts"), function, same, sources, read)

    def records(self) -> list[Record]:
        """Finished records of the arms asked for in this run, in the order asked."""
        return self._found("done")

    def failed(self) -> list[Record]:
        """Newest records of the arms asked for in this run that failed and were not trained since."""
        return self._found("failed")

    def plan(self) -> list[dict[str, Any]]:
        """Of a dry run, per arm: trainings, their hours; and of one steps, flops, peak_bytes and seconds_per_step."""
        planned = self._planned.items()
        return [{"arm": name, "trainings": count, **ledger.forecast(count)} for name, (ledger, count) in planned]

    def tidy(self) -> None:
        """At the end of a run: put aside the records that it did not ask for, where they are found when asked for.

        The run's progress says how many.
        """
        if not self.dry_run:
            self._progress.put_aside(store.tidy(self.path))

    def _point(self) -> None:
        if world().first:
            store.point(self.path, list(self._asked))

    def _found(self, status: str) -> list[Record]:
        newest = world().told(lambda: store.latest(store.every(self.path)))
        return [newest[name] for name in self._asked if name in newest and newest[name]["status"] == status]

    def _finished(self) -> dict[str, Record]:
        """What is done as this is asked, on every process that shares the run."""
        return world().told(lambda: dict(store.finished(self.path)))

    def _single(
        self,
        name: Name | str,
        seed: int,
        settings: Any,
        source: Source,
        read: Reads | None = None,
        parents: Sequence[str] | None = None,
    ) -> Arm:
        """An arm for a `with` block, counted."""
        sources = self._same_as(source)
        known = self._finished() if sources[1:] else {}
        arm = self._arm(name, (index(seed),), settings, sources, known, read, parents)
        if self.dry_run:
            arm.done = arm.name in self._planned
            self._plan(arm)
        else:
            self._point()
            self._progress.expect(1)
            arm.report, arm.waits = self._report, self._progress.waits
        return arm

    def _arm(
        self,
        name: Name | str,
        seeds: tuple[int, ...],
        settings: Any,
        sources: Sequence[Source],
        known: Mapping[str, Record],
        read: Reads | None = None,
        parents: Sequence[str] | None = None,
    ) -> Arm:
        """An arm of the first of the sources, or finished already by another; `known` are finished records."""
        what = f'settings of arm "{name}"'
        settings = {} if settings is None else settings
        plain, said = canonical(settings, what), names.fields(name)
        own = {"settings": essential(settings, what), "reads": read.values if read else {}, "parents": parents}
        if read:
            read.check_named(f'arm "{name}"', plain, self._shared["inputs"])
        same = {**self._shared, **self._surroundings, **said, **own}
        identities = tuple(_identity({**same, "seed": seed}, sources, known, plain) for seed in seeds)
        self._asked |= dict.fromkeys(identities)
        made = {"source": sources[0].plain(), "parents": parents, "question": identity(same)}
        header = {**self._header, **said, "settings": plain, **made}
        ledger = Ledger(self.device, dry_run=self.dry_run, side_by_side=len(seeds) * _runs_at_once())
        label = name if isinstance(name, Name) else None
        quiet = self._progress.quiet
        return Arm(str(name), seeds, settings, identities, self.path, header, ledger, label=label, quiet=quiet)

    def _same_as(self, source: Source) -> list[Source]:
        return world().told(lambda: adoption.same_as(source, self._results_dir, self._header["device"]))

    def _groups(
        self,
        function: Callable[[Arm], object],
        arms: Mapping[Name, Any] | Mapping[str, Any],
        seeds: Sequence[int],
        together: int,
    ) -> tuple[list[Arm], int]:
        """Arms to train, in the caller's order, without seeds that are recorded; how many left have a stale record."""
        read = reads(function)
        sources = self._same_as(Source.of(self._uses | read.modules, read.code))
        known = self._finished()
        old = {(record["question"], record["seed"]) for record in known.values()}
        distinct = tuple(dict.fromkeys(map(index, seeds)))
        groups: list[Arm] = []
        for name, settings in arms.items():
            whole = self._arm(name, distinct, settings, sources, known, read)
            pairs = zip(distinct, whole.identities, strict=True)
            left = [seed for seed, key in pairs if self.dry_run or key not in known]
            chunks = (tuple(left[start : start + together]) for start in range(0, len(left), together))
            groups += [self._arm(name, group, settings, sources, known, read) for group in chunks]
        return groups, sum((arm.header["question"], seed) in old for arm in groups for seed in arm.seeds)

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
        before = {record["checksum"] for record in store.every(self.path)}
        with self._workers(function, min(jobs, len(groups))) as workers:
            for arm in groups:
                arm.ledger.side_by_side *= workers.side_by_side
                arm.waits = tell
            try:
                for arm, future in workers.run(groups):
                    error = future.exception()
                    if isinstance(error, BrokenExecutor):
                        arm.fail_unless_told(KILLED, before)
                    elif error is not None:
                        trouble, arm.error = error, sentence(error)
                        workers.stop()
                    else:
                        arm.error = future.result()
                    self._report(arm)
            except BaseException as error:
                for arm in workers.kill():
                    arm.fail_unless_told(sentence(error), before)
                raise
        if trouble is not None:
            raise trouble

    def _workers(self, function: Callable[[Arm], object], jobs: int) -> Workers[Arm] | cluster.Cluster:
        if (where := cluster.asked()) != cluster.LOCAL:
            return cluster.Cluster(where, _train, function, self.device)
        return Workers(jobs, _train, function, heard=self._progress.waits)

    def _report(self, arm: Arm) -> None:
        if arm.done:
            self._progress.skip(len(arm.seeds), arm.name)
        else:
            self._progress.finished(arm.name, arm.seeds, arm.error)


def _train(function: Callable[[Arm], object], arm: Arm) -> str | None:
    """Train an arm unless it is done; the error that its record holds, if it failed."""
    with arm:
        if not arm.done:
            _set_imports_aside()
            gc.collect()  # what the arm before left in cycles, models on a GPU say, would stand in this one's peak
            function(arm)
    return arm.error


@cache
def _set_imports_aside() -> None:
    """Libraries are most of what there is: looked through before every arm, they cost more than a short training."""
    gc.collect()
    gc.freeze()


def _identity(same: Mapping[str, Any], sources: Sequence[Source], known: Mapping[str, Record], plain: Any) -> str:
    """Of the first source, or of one adopted to it where only that has a finished record of these settings."""
    own, *others = (identity({**same, "source": each.key}) for each in sources)
    agreed = (other for other in others if other in known and agree(known[other]["settings"], plain))
    return own if own in known else next(agreed, own)


def _module_names(uses: Sequence[ModuleType | str]) -> set[str]:
    return {name if isinstance(name, str) else name.__name__ for name in uses}


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ParameterError(f"{name} is {value}; give at least 1")


def _runs_at_once() -> int:
    """Runs that share this machine, as who starts them says in EFFI_RUNS_AT_ONCE; 1 unless it is set."""
    return int(os.environ.get("EFFI_RUNS_AT_ONCE", "1"))
