"""The append-only store: one JSON line per record, written whole or not at all, by any number of processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from effi import paths
from effi.errors import RecordError

Record = dict[str, Any]
CURRENT = "current.json"


def records(path: Path) -> list[Record]:
    """All records of a file in the order written; a torn last line is passed over, a file not there is empty.

    RecordError when another line is not JSON or the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); check its owner and permissions") from error
    found = [_parse(line) for line in lines]
    for number, (line, record) in enumerate(zip(lines[:-1], found[:-1], strict=True), start=1):
        if line.strip() and record is None:
            raise RecordError(f"line {number} of {path} is no record; mend or delete that line")
    return [record for record in found if record is not None]


def latest(found: Sequence[Record]) -> dict[str, Record]:
    """Identity -> its newest record; a failure never hides a record that is done."""
    newest: dict[str, Record] = {}
    for record in found:
        known = newest.get(record["identity"])
        if known is None or known["status"] != "done" or record["status"] == "done":
            newest[record["identity"]] = record
    return newest


def finished(path: Path) -> set[str]:
    """Identities that have a record with status "done"."""
    return {record["identity"] for record in records(path) if record["status"] == "done"}


def point(path: Path, identities: Sequence[str]) -> None:
    """Note beside the records which of them the newest run asked for: tables speak of these, not of older settings."""
    with locked(path, "records"):
        try:
            paths.replace(path.with_name(CURRENT), json.dumps(list(identities), indent=0) + "\n")
        except OSError as error:
            mend = "free space or make it writable"
            raise RecordError(f"{path.parent} cannot be written ({error.strerror}); {mend}") from error


def current(path: Path) -> list[Record]:
    """The records that the newest run asked for, in the order written; all of them where no run has said so."""
    found, noted = records(path), path.with_name(CURRENT)
    if not noted.exists():
        return found
    asked = set(json.loads(noted.read_text()))
    return [record for record in found if record["identity"] in asked]


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write records behind those of a file and onto the disk, all or none.

    RecordError names path, bytes and the mend when the disk is full or the file cannot be written; what the file
    held before is kept.
    """
    data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    with locked(path, "records"):
        try:
            _write(path, data)
        except OSError as error:
            raise RecordError(
                f"{path} could not take {len(data)} bytes ({error.strerror}); free space or make it writable, "
                "then run again: finished arms are kept"
            ) from error


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` beside a file of records; the system frees it when its process dies."""
    lock = FileLock(path.with_name("locks") / f"{name}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise RecordError(
            f"{path.parent} cannot be written ({error.strerror}); make it writable, free space or change results_dir"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _parse(line: bytes) -> Record | None:
    with suppress(ValueError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None


def _write(path: Path, data: bytes) -> None:
    """Append and fsync; on any failure cut the file back to the length it had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _mend(path, descriptor)
        length = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, length)
            raise
    finally:
        os.close(descriptor)


def _mend(path: Path, descriptor: int) -> None:
    """End a last line that lacks its newline if it is whole; else move it to the file with the suffix .torn."""
    held = path.read_bytes()
    whole, newline, tail = held.rpartition(b"\n")
    if not tail:
        return
    if _parse(tail) is not None:
        _write_all(descriptor, b"\n")
        return
    with path.with_suffix(".torn").open("ab") as torn:
        torn.write(tail + b"\n")
    os.ftruncate(descriptor, len(whole + newline))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
