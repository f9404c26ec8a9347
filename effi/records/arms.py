"""One arm: its lock, its ledger, and the record that it leaves whether it ends well or not."""

from __future__ import annotations

import base64
import math
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from effi.cost import Ledger, share
from effi.errors import EffiError, RecordError, TrainingError
from effi.kernels import taken
from effi.records import kept, store
from effi.records.identity import identity
from effi.records.names import Name
from effi.records.store import Record
from effi.training.ranks import world

Values = Mapping[str, float]
Curves = Mapping[str, Sequence[float]]
Marks = Mapping[str, Tensor]


@dataclass
class Arm:
    """One training variant for one seed, or for several seeds that are trained together.

    As a context manager it holds the arm's lock: a second process waits, then finds the arm `done`. A failure inside
    is recorded; a failure of the training itself (TrainingError, out of memory) ends there, any other goes on.
    Of several processes that torchrun started all enter it, and the first one locks and writes for them.
    `label` is what `name` says, in fields; None for a check or another arm that has only a text.
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
    label: Name | None = None
    quiet: bool = False
    report: Callable[[Arm], None] | None = None
    waits: Callable[[str, int | None], None] | None = None
    _recorded: bool = False
    _trained: tuple[nn.Module, Any] | None = None
    _locks: ExitStack = field(default_factory=ExitStack)

    @property
    def seed(self) -> int:
        """The first seed; the only one unless seeds are trained together."""
        return self.seeds[0]

    @property
    def dry_run(self) -> bool:
        """Whether this only measures a step for the plan; nothing is recorded then."""
        return self.ledger.dry_run

    @property
    def variant(self) -> str | None:
        """The variant that its name says, without the ratio."""
        return self.label.variant if self.label else None

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.ledger.device

    @property
    def checkpoint(self) -> Path:
        """Where a training keeps what it needs to go on after an interruption, in files whose names begin so.

        They are deleted with the arm's record, but for that of an interruption.
        """
        name = self.identities[0] if len(self.identities) == 1 else identity({"seeds": self.identities})
        return self.path.with_name("checkpoints") / name

    def __enter__(self) -> Arm:
        if self.dry_run:
            return self
        left = world().told(self._claim)
        taken()  # those of an arm before it
        self.done = not left
        if left:
            self.seeds, self.identities = map(tuple, zip(*left, strict=True))
            if self.label and kept.is_asked(self.label.short, self.seeds):
                self.ledger.keep = self._hold
        return self

    def _claim(self) -> list[tuple[int, str]]:
        """Seeds without a record and their identities; while there are any, the arm's lock is held."""
        what = None if self.quiet else f"{self.header['paper']} {self.header['scale']} {self.name}"
        with ExitStack() as held:
            for name in sorted(self.identities):  # one order for all processes, so that none waits in a circle
                held.enter_context(store.locked(self.path, name, what, self._waits))
            finished = store.finished(self.path)
            left = [pair for pair in zip(self.seeds, self.identities, strict=True) if pair[1] not in finished]
            if left:
                self._locks = held.pop_all()
        return left

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.ledger.keep = self._trained = None
        with self._locks:
            unrecorded = not (self.done or self.dry_run or self._recorded or _is_of_another(error))
            forgotten = RecordError(f'arm "{self.name}" ended without arm.record(...); record its metrics')
            if unrecorded:
                self.fail(sentence(error or forgotten))
                if isinstance(error or forgotten, Exception):
                    self._forget_checkpoint()
        if self.report:
            self.report(self)
        if unrecorded and error is None:
            raise forgotten
        return unrecorded and _is_of_training(error) and (world().size == 1 or isinstance(error, TrainingError))

    def record(
        self,
        metrics: Values | Sequence[Values],
        history: Curves | Sequence[Curves] | None = None,
        marks: Marks | Sequence[Marks] | None = None,
    ) -> None:
        """Write the arm's records, one per seed (lists hold one mapping per seed), each with its share of the cost.

        `marks` say of an accuracy which examples are hits, bool (n,), and are kept as bits.
        TrainingError when a value is not finite; RecordError when it is no number, when the number of mappings is not
        that of the seeds, when the arm is recorded already, or when the disk refuses.
        """
        if self.dry_run:
            return
        if self.done or self._recorded:
            raise RecordError(f'arm "{self.name}" is recorded already; skip it with `if arm.done: continue`')
        none: list[dict[str, Any]] = [{}] * len(self.seeds)
        values = [_numbers("metric", each) for each in self._per_seed(metrics)]
        curves = [_numbers("history", each) for each in self._per_seed(history or none)]
        hits = [{name: packed(own) for name, own in each.items()} for each in self._per_seed(marks or none)]
        if world().first:
            self._keep_model()  # first: what has a record is not trained again, and would never leave its model
            store.append(self.path, self._rows("done", None, values, curves, hits))
            self._forget_checkpoint()
        self._recorded = True

    def fail(self, error: str) -> None:
        """Record why the arm failed; the next call tries again."""
        self.error = error
        empty: list[dict[str, Any]] = [{}] * len(self.seeds)
        if world().first:
            store.append(self.path, self._rows("failed", error, empty, empty, empty))

    def fail_unless_told(self, error: str, before: Collection[str]) -> None:
        """Record the failure of an arm whose own process can no longer do so, unless that has.

        `before` holds the checksums of records that were there when the process began.
        """
        if store.finished(self.path).keys() >= set(self.identities):
            return
        told = {row["identity"] for row in store.every(self.path) if row["checksum"] not in before}
        if told >= set(self.identities):
            self.error = error
        else:
            self.fail(error)

    def _hold(self, models: Sequence[nn.Module], data: Any) -> None:
        """The model of the last training, until the arm is recorded: a mask or an average may still change it."""
        self._trained = models[self.seeds.index(kept.SEED)], data

    def _keep_model(self) -> None:
        if self._trained:
            model, data = self._trained
            told = {name: self.header[name] for name in ("paper", "scale", "arm", "parameters", "settings")}
            place = kept.folder(self.path, self.identities[self.seeds.index(kept.SEED)])
            kept.write(place, model, data, {**told, "seed": kept.SEED})

    def _waits(self, pid: int | None) -> None:
        if self.waits:
            self.waits(self.name, pid)

    def _forget_checkpoint(self) -> None:
        for file in self.checkpoint.parent.glob(f"{self.checkpoint.name}*") if world().first else ():
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)

    def _per_seed(self, given: Any) -> Sequence[Mapping[str, Any]]:
        items = [given] if isinstance(given, Mapping) else given
        if len(items) != len(self.seeds):
            raise RecordError(
                f'arm "{self.name}" has {len(self.seeds)} seeds but {len(items)} sets of values; give one per seed'
            )
        return items

    def _rows(
        self, status: str, error: str | None, metrics: Sequence[Any], history: Sequence[Any], marks: Sequence[Any]
    ) -> list[Record]:
        cost = share(self.ledger.total(), len(self.seeds))
        if world().size > 1:
            cost = _unmetered(cost)
        together = {"processes": world().size} if world().size > 1 else {}
        computed = {"kernels": kernels} if (kernels := taken()) else {}
        facts = {**self.header["provenance"], "threads": torch.get_num_threads(), **together, **computed}
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
            {**outcome, "identity": name, "seed": seed, "metrics": values, "history": curves, "marks": hits}
            for name, seed, values, curves, hits in zip(
                self.identities, self.seeds, metrics, history, marks, strict=True
            )
        ]


def _unmetered(cost: Mapping[str, Any]) -> dict[str, Any]:
    """A cost without joules: the meter of one process sees one GPU of several."""
    accounts = {
        kind: {name: {**phase, "joules": None} for name, phase in cost[kind].items()} for kind in ("phases", "aside")
    }
    return {**cost, "joules": None, **accounts}


def _numbers(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain finite floats, or lists of them, by name."""
    return {
        name: [_number(what, name, item) for item in value] if what == "history" else _number(what, name, value)
        for name, value in values.items()
    }


def packed(marks: Tensor) -> list[Any]:
    """How many there are, and their bits as base64 text: [n, text]."""
    bits = np.packbits(marks.detach().cpu().numpy())
    return [len(marks), base64.b64encode(bits.tobytes()).decode()]


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


def _is_of_another(error: BaseException | None) -> bool:
    """Whether another process may be gone: of the arm nothing is known then, and it goes on from its checkpoint."""
    known = isinstance(error, EffiError) or _is_out_of_memory(error) or not isinstance(error, Exception)
    return world().size > 1 and not known


def _is_of_training(error: BaseException | None) -> bool:
    return isinstance(error, TrainingError) or _is_out_of_memory(error)


def sentence(error: BaseException) -> str:
    """An error as its record says it, with the mend where one is known."""
    if isinstance(error, TrainingError | RecordError):
        return str(error)
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"out of memory ({text}); use smaller batches or fewer jobs" if _is_out_of_memory(error) else text
