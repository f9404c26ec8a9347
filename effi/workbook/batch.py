"""Notebooks as a batch: everything checked before anything runs, then one process each, several at once."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from effi import paths
from effi.errors import ParameterError
from effi.workbook import scratch
from effi.workbook.answers import Counts, Failure, Stop, read
from effi.workbook.notebook import Notebook, check, find, hold_to_rules
from effi.workbook.terminal import Display, display

POLL_S = 0.2
GRACE_S = 10


@dataclass(frozen=True)
class Outcome:
    """How one notebook went; `failed` also when it ran to its end but some of its arms did not.

    `mistake` says that the error is the user's to mend, `judged` that the run has records of its own; `aside` counts
    rows of records that it put aside.
    """

    paper: str
    status: Literal["done", "failed", "stopped"]
    seconds: float
    error: str | None = None
    mistake: bool = False
    judged: bool = False
    failures: tuple[Failure, ...] = ()
    aside: int = 0


@dataclass(frozen=True)
class Job:
    """A notebook with checked parameters, the folder it runs in and the folder where its results go.

    `processes` make each of its trainings together.
    """

    notebook: Notebook
    parameters: Mapping[str, object]
    cwd: Path
    folder: Path
    processes: int = 1

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.folder / self.notebook.path.name


def run(
    names: Sequence[str] = (),
    *,
    scale: str = "cpu",
    parameters: Mapping[str, object] | None = None,
    jobs: int = 1,
    processes: int = 1,
    results_dir: str = "results",
    quiet: bool = False,
    folder: Path | None = None,
    until: float = math.inf,
    judged: bool = True,
    surroundings: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Execute notebooks (default: all), `jobs` at a time, and show how far they are unless `quiet`.

    So many `processes` make every training of a notebook together, where its settings say `parallel`.
    A failing cell or a killed kernel ends its own notebook only. At the time `until` what runs is stopped, as Ctrl-C
    stops it, and its outcome is "stopped". Unless `judged` no verdicts on claims are shown. `surroundings` are put into
    the environment. ParameterError and DataError before anything runs.
    """
    if jobs < 1:
        raise ParameterError(f"jobs is {jobs}; give the number of notebooks to run at once, at least 1.")
    chosen = find(names, folder)
    ready = [prepare(notebook, scale, parameters or {}, results_dir) for notebook in chosen]
    prepared = [_by(processes, job) for job in ready]
    scratch.clean()
    with display([job.notebook.paper for job in prepared], scale, results_dir, quiet, judged) as show:
        outcomes = {
            each.paper: each for each in _execute(prepared, min(jobs, len(prepared)), show, until, surroundings)
        }
    return [outcomes[notebook.paper] for notebook in chosen]


def _by(processes: int, job: Job) -> Job:
    """A job done by several processes; ParameterError where none of its trainings would be shared out."""
    if processes < 1:
        raise ParameterError(f"processes is {processes}; give how many are to make each training, at least 1.")
    options = [value for value in job.parameters.values() if isinstance(value, Mapping)]
    if processes > 1 and not any(each.get("parallel") for each in options):
        raise ParameterError(
            f"--processes {processes} shares out the trainings that say so, and none does: add --set "
            '\'training={"parallel": "ddp"}\'.'
        )
    return replace(job, processes=processes)


def prepare(notebook: Notebook, scale: str, parameters: Mapping[str, object], results_dir: str) -> Job:
    """A job whose parameters are checked; raises ParameterError and DataError."""
    ours = {"scale": scale, "results_dir": results_dir}
    for name in ours.keys() & parameters.keys():
        raise ParameterError(f"{name} decides where results go: give it as --{name.replace('_', '-')}, not with --set.")
    if not results_dir:
        raise ParameterError("--results-dir is empty; name the folder where results go.")
    checked = check(notebook, {**ours, **parameters})
    hold_to_rules(notebook, checked)
    return Job(notebook, checked, notebook.path.parent, paths.run_dir(results_dir, scale, notebook.paper))


@dataclass
class Child:
    """A notebook that is running in its own process."""

    job: Job
    process: subprocess.Popen[bytes]
    answer: IO[bytes]
    words: IO[bytes]
    began: float = field(default_factory=time.time)

    def counts(self) -> Counts:
        """How far its run is; nothing known until the notebook has written that anew."""
        return read(self.job.folder / "progress.json", self.began)

    def outcome(self) -> Outcome:
        """How the ended process went; cells that stop because every arm failed are no news."""
        counts, stop = self.counts(), self._stop()
        failed = f"{counts.failed} of {counts.total} arms failed; run again to retry them." if counts.failed else None
        stop = stop if counts.done or not failed else Stop(None)
        error = " ".join(filter(None, (failed, stop.error))) or None
        return Outcome(
            self.job.notebook.paper,
            "failed" if error else "done",
            counts.elapsed,
            error,
            mistake=stop.mistake,
            judged=counts.done > 0,
            failures=counts.failures,
            aside=counts.aside,
        )

    def stop(self) -> None:
        """Interrupt the process and let it shut its kernel down."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _stop(self) -> Stop:
        # Of several processes one may have answered and another died.
        if self.process.returncode == 0 or (self.process.returncode > 0 and _read(self.answer)):
            return Stop(**json.loads(_read(self.answer).splitlines()[-1]))
        words = _read(self.words).splitlines() or ["it said nothing"]
        if self.process.returncode < 0:
            name = signal.Signals(-self.process.returncode).name
            return Stop(f"The process that ran the notebook was killed by {name}; run again: finished arms are kept.")
        return Stop(f"The notebook could not be executed: {words[-1]}")


def start(job: Job, jobs: int = 1, surroundings: Mapping[str, str] | None = None) -> Child:
    """Begin to execute a notebook in a process of its own, with `surroundings` in its environment.

    Raises ParameterError if its results have no place.
    """
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"{job.folder} cannot be made ({error.strerror}); give another --results-dir.") from error
    # Files, not pipes: a kernel's libraries may print more than a pipe holds while nobody reads it.
    answer, words = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (they live as long as the child)
    places = {"notebook": job.notebook.path, "output": job.output, "cwd": job.cwd}
    order: dict[str, object] = {name: _from_root(path) for name, path in places.items()}
    order |= {"parameters": dict(job.parameters), "parent": os.getpid(), "processes": job.processes}
    command = [sys.executable, "-m", "effi.workbook.child", json.dumps(order)]
    # A group of its own: Ctrl-C on the terminal must reach it once, through `stop`, and not interrupt its cleaning up.
    environment = {**_environment(jobs, job.processes), **(surroundings or {})}
    process = subprocess.Popen(
        command, stdout=answer, stderr=words, cwd=paths.ROOT, env=environment, start_new_session=True
    )
    return Child(job, process, answer, words)


def _execute(
    prepared: Sequence[Job],
    jobs: int,
    show: Display,
    until: float = math.inf,
    surroundings: Mapping[str, str] | None = None,
) -> Iterator[Outcome]:
    """Outcomes as notebooks end; nothing is left running if this is interrupted, or when `until` is past."""
    waiting = list(prepared)
    running: list[Child] = []
    try:
        while (waiting or running) and time.time() < until:
            while waiting and len(running) < jobs:
                running.append(start(waiting.pop(0), jobs, surroundings))
            time.sleep(POLL_S)
            for child in list(running):
                show.update(child.job.notebook.paper, child.counts())
                if child.process.poll() is not None:
                    running.remove(child)
                    outcome = child.outcome()
                    show.finish(outcome.paper, outcome.status == "failed")
                    yield outcome
    finally:
        for child in running:
            child.stop()
    for paper, counts in [(each.job.notebook.paper, each.counts()) for each in running]:
        yield Outcome(paper, "stopped", counts.elapsed, judged=counts.done > 0)
    yield from (Outcome(job.notebook.paper, "stopped", 0.0) for job in waiting)


def _environment(jobs: int, processes: int = 1) -> dict[str, str]:
    """Cores shared out between notebooks that run at once, which joblib and torch read; records say how many ran."""
    if jobs * processes == 1:
        return dict(os.environ)
    cores, threads = (max(1, (os.cpu_count() or 1) // parts) for parts in (jobs, jobs * processes))
    shared = {"LOKY_MAX_CPU_COUNT": cores, "OMP_NUM_THREADS": threads, "EFFI_RUNS_AT_ONCE": jobs}
    return {**os.environ, **{name: str(value) for name, value in shared.items()}}


def _from_root(path: Path) -> str:
    """A path that says nothing about the machine where it can: papermill keeps it in the executed notebook."""
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
