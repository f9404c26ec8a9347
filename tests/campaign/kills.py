"""Runs whose processes are killed at random moments: a worker, the kernel, the notebook's, the command, or all."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from effi.records import store
from tests.campaign.bed import Bed, same_bits, whole
from tests.campaign.rows import Fault, expect
from tests.campaign.watched import Command

NOTE = (
    "A notebook of 12 small trainings by two workers, started by `effi run`, and started again after each kill -9 that "
    "ended it; a kill meets a random process at a random moment. Every finished training must be kept, once, others "
    "go on, and the final records must have the bits of the same trainings in one process that nothing disturbed "
    "(`effi compare --bits`)."
)
KILLS, EACH = 100, 10
ROLES = {"worker": "effi.records.workers", "kernel": "ipykernel_launcher", "notebook": "effi.workbook.child"}
LAST = ("kernel", "notebook", "command", "everything")
WHOLE_RUN_S = 1800
LAST_S, PAUSE_S = 60.0, 15.0
REST_S = 0.1  # trainings last longer than the imports before them, so that most kills meet one


@dataclass
class Campaign:
    """Kills so far by victim, and what must never be lost: checksums of finished rows of the round that runs."""

    bed: Bed
    name: str
    wanted: int
    rest_s: float = REST_S
    rounds: int = 0
    starts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    finished: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.name)

    def run(self) -> str:
        """Rounds of the same twelve trainings until enough was killed; what was seen."""
        while self._left():
            self.round(f"{self.name}-{self.rounds}")
        told = ", ".join(f"{count} {victim}" for victim, count in self.kills.most_common())
        return (
            f"{self.kills.total()} kills ({told}) in {self.starts} starts; of {self.rounds * self.bed.trainings} "
            f"trainings that came to their end {self.resumed} went on from a checkpoint; every finished row was kept, "
            "once, and all bits are those of the undisturbed run"
        )

    def round(self, results: str) -> None:
        """The same trainings in a folder of results, started until they come to their end; Broken when one is lost."""
        self.finished = {}
        while not self._start(results):
            pass
        file = self.bed.records(results)
        wrong = whole(file, self.bed.trainings) or same_bits(self.bed.undisturbed(), self.bed.root / results)
        expect(not wrong, f"after {self.kills.total()} kills: {wrong}")
        self.resumed += sum("lost" in record["cost"]["phases"] for record in store.records(file))
        self.rounds += 1

    def _start(self, results: str) -> bool:
        """One start of the command, and its kills; whether the run came to a good end."""
        self.starts += 1
        with self.bed.start(*self.bed.small(results, self.rest_s)) as command:
            self._kill_some(command)
            ended = command.wait(WHOLE_RUN_S)
        self._check_kept(self.bed.records(results))
        seen = f"{dict(self.kills)}, {len(self.finished)} finished, status {ended.status}"
        print(f"{self.name}, start {self.starts}: {seen}", flush=True)
        expect("Traceback" not in ended.err, f"a traceback: {ended.sentences[-1:]}")
        return ended.status == 0

    def _kill_some(self, command: Command) -> None:
        """Workers now and then, until something else is killed; every third time perhaps before a worker is there."""
        early = self.draw.random() < 1 / 3
        while not early and self._left() and command.process.poll() is None and not command.named(ROLES["worker"]):
            time.sleep(0.2)
        ends = time.monotonic() + self.draw.random() * LAST_S
        last = False
        while not last and self._left() and command.process.poll() is None:
            pause = self.draw.random() * PAUSE_S
            last = time.monotonic() + pause > ends
            time.sleep(min(pause, max(0.0, ends - time.monotonic())))
            if command.process.poll() is None:
                self.kill(command, self.draw.choice(LAST) if last else "worker")

    def _left(self) -> bool:
        return self.kills.total() < self.wanted

    def kill(self, command: Command, victim: str) -> None:
        """Kill -9 of a worker, the kernel, the notebook's process, the command or everything, if it is there."""
        if victim == "command":
            victims = command.tree()[:1]
        else:
            victims = command.tree() if victim == "everything" else command.named(ROLES[victim])
        if victim == "worker":
            victims = self.draw.sample(victims, min(1, len(victims)))
        for each in victims:
            with suppress(psutil.Error):
                each.kill()
        self.kills[victim] += bool(victims)

    def _check_kept(self, file: Path) -> None:
        """Broken when a finished row was lost or changed, or stands twice."""
        rows = [row for row in store.every(file) if row["status"] == "done"]
        found = {row["identity"]: row["checksum"] for row in rows}
        expect(len(rows) == len(found), f"a finished row stands twice after {self.kills.total()} kills")
        lost = [name for name, checksum in self.finished.items() if found.get(name) != checksum]
        expect(not lost, f"{len(lost)} finished rows lost or changed after {self.kills.total()} kills")
        self.finished = found


def faults(bed: Bed, kills: int = KILLS) -> Iterator[Fault]:
    """One row for every ten kills, so that a campaign cut short keeps what it saw."""
    for first in range(1, kills + 1, EACH):
        name = f"kills {first} to {first + EACH - 1}"
        yield Fault(f"{name} at random moments of a run with two workers", Campaign(bed, name, EACH).run)
