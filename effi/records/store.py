"""The append-only store: one JSON line per record, written whole or not at all, by any number of processes.

Every line carries a checksum of its content, so that a number changed by hand is found out by all who read it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from effi import paths
from effi.errors import RecordError
from effi.records.index import Index
from effi.records.lines import NEEDED, SUPERSEDED, Record, lines, parse, seal
from effi.records.progress import watched

Waits = Callable[[int | None], None]
CURRENT = "current.json"
PATIENCE_S = 1.0
BLOCK = 65_536
_INDICES: dict[Path, Index] = {}


def records(path: Path, *, whole: bool = False, sealed: bool = True) -> list[Record]:
    """All records of a file in the order written; a file not there is empty, a torn last line is passed over.

    `whole` refuses a torn line, too; `sealed` False takes lines of older versions, which carry no checksum.
    RecordError says what is wrong with the file or the line, and the mend.
    """
    return [row for _, row in lines(path, NEEDED, whole=whole, sealed=sealed)]


def below(place: Path) -> list[Record]:
    """Records, of any version, of every file at or below `place`, file by file."""
    files = sorted(place.rglob("records.jsonl")) if place.is_dir() else [place]
    return [record for file in files for record in records(file, sealed=False)]


def rows(path: Path, *, sealed: bool = True) -> list[Record]:
    """As `records`, for lines of any kind, such as those of a benchmark."""
    return [row for _, row in lines(path, (), sealed=sealed)]


def every(path: Path) -> list[Record]:
    """All records, those put aside included, each once."""
    aside = path.with_name(SUPERSEDED)
    # A row may move while this reads: away before the file of records is read, or back before the second look.
    before, kept, after = records(aside), records(path), records(aside)
    return list({record["checksum"]: record for record in (*before, *kept, *after)}.values())


def latest(found: Sequence[Record]) -> dict[str, Record]:
    """Identity -> its newest record; a failure never hides a record that is done."""
    newest: dict[str, Record] = {}
    for record in found:
        known = newest.get(record["identity"])
        if known is None or known["status"] != "done" or record["status"] == "done":
            newest[record["identity"]] = record
    return newest


def finished(path: Path) -> Mapping[str, Record]:
    """Identity -> its record without measurements, of those that are done, put aside or not: nothing is ever lost.

    Only what was written since the last call is read.
    """
    return _INDICES.setdefault(path.absolute(), Index(path.absolute())).finished()


def point(path: Path, identities: Sequence[str]) -> None:
    """Note beside the records which of them the newest run asked for: tables speak of these, not of older settings."""
    with locked(path, "records"):
        try:
            paths.replace(path.with_name(CURRENT), json.dumps(list(identities), indent=0) + "\n")
        except OSError as error:
            mend = "free space or make it writable"
            raise RecordError(f"{path.parent} cannot be written ({error.strerror}); {mend}") from error


def current(path: Path) -> list[Record]:
    """The newest records of what the newest run asked for, in that order; all of them where no run has said so."""
    asked = _asked(path)
    if asked is None:
        return records(path)
    newest = latest(every(path))
    return [newest[name] for name in asked if name in newest]


def tidy(path: Path) -> int:
    """Keep in the file what counts: rows that the newest run asked for, the newest of each; put the others aside.

    Those, which are counted, lie in superseded.jsonl beside it and come back when a run asks for them again. Killed at
    any moment, this leaves every row in one of the two files at least.
    """
    aside = path.with_name(SUPERSEDED)
    with locked(path, "records"):
        asked = _asked(path)
        if asked is None or not path.exists():
            return 0
        there = {row["checksum"]: (line + b"\n", row) for line, row in lines(path, NEEDED)}
        both = {row["checksum"]: (line + b"\n", row) for line, row in lines(aside, NEEDED)} | there
        newest = latest([row for _, row in both.values()])
        counts = {newest[name]["checksum"] for name in asked if name in newest}
        with _told(path):
            _replace(aside, b"".join(line for line, _ in both.values()))
            _replace(path, b"".join(line for key, (line, _) in both.items() if key in counts))
            _replace(aside, b"".join(line for key, (line, _) in both.items() if key not in counts))
        return len(there.keys() - counts)


def append(path: Path, new: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, each with its checksum, behind those of a file and onto the disk, all or none.

    RecordError names path, bytes and the mend when the disk is full or the file cannot be written; what the file
    held before is kept.
    """
    data = "".join(json.dumps(seal(row), allow_nan=False) + "\n" for row in new).encode()
    with locked(path, "records"), _told(path, len(data)):
        _write(path, data)


@contextmanager
def locked(path: Path, name: str, what: str | None = None, waits: Waits | None = None) -> Iterator[None]:
    """Hold the lock `name` beside a file of records; the system frees it when its process dies.

    Who waits long says for which process, where a person watches, if `what` says what for; and tells `waits`, which is
    told None when it is over.
    """
    lock = FileLock(path.with_name("locks") / f"{name}.lock")
    holder = Path(lock.lock_file).with_suffix(".pid")
    try:
        holder.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, holder, what, waits or _nobody)
        holder.write_text(str(os.getpid()))
    except OSError as error:
        lock.release()
        raise RecordError(
            f"{path.parent} cannot be written ({error.strerror}); make it writable, free space or change results_dir"
        ) from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, holder: Path, what: str | None, waits: Waits) -> None:
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        with suppress(OSError, ValueError):  # gone since, or not written yet
            pid = int(holder.read_text())
            waits(pid)
            if what and watched():
                print(f"{what}: waiting for process {pid}, which is at it", file=sys.stderr, flush=True)
        try:
            lock.acquire()
        finally:
            waits(None)


def _nobody(pid: int | None) -> None:
    """Whom nobody waits for is told nobody."""


def _asked(path: Path) -> list[str] | None:
    """Identities that the newest run asked for; None where no run has said so."""
    noted = path.with_name(CURRENT)
    try:
        asked = json.loads(noted.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{noted} is torn ({error}); restore it from git, or run again: it is written anew"
        ) from error
    if not (isinstance(asked, list) and all(isinstance(name, str) for name in asked)):
        raise RecordError(f"{noted} is no list of identities; restore it from git, or run again: it is written anew")
    return asked


@contextmanager
def _told(path: Path, size: int | None = None) -> Iterator[None]:
    """Says of a disk that refuses a file what to do."""
    try:
        yield
    except OSError as error:
        asked = "be written" if size is None else f"take {size} bytes"
        raise RecordError(
            f"{path} could not {asked} ({error.strerror}); free space or make it writable, then run again: finished "
            "arms are kept"
        ) from error


def _write(path: Path, data: bytes) -> None:
    """Append and fsync; on any failure cut the file back to the length it had. A new file appears whole."""
    if not path.exists():
        _replace(path, data)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        _mend(path, descriptor)
        length = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, length)
            if not length:
                path.unlink()
            raise
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that after a power cut, too, it holds the old or the new content; none for no content."""
    if not data:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _mend(path: Path, descriptor: int) -> None:
    """End a last line that lacks its newline if it is whole; else move it to the file with the suffix .torn."""
    size = os.fstat(descriptor).st_size
    tail = _tail(descriptor, size)
    if not tail:
        return
    if parse(tail) is not None:
        _write_all(descriptor, b"\n")
        return
    with path.with_suffix(".torn").open("ab") as torn:
        torn.write(tail + b"\n")
    os.ftruncate(descriptor, size - len(tail))


def _tail(descriptor: int, size: int) -> bytes:
    """What follows the last newline, read from the end: a file of records may be large."""
    tail = b""
    while size > len(tail) and b"\n" not in tail:
        length = min(BLOCK, size - len(tail))
        tail = os.pread(descriptor, length, size - len(tail) - length) + tail
    return tail.rpartition(b"\n")[2]


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
