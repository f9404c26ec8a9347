"""Lines of a file of records: each checked by the checksum that it carries, and every fault named with its mend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from effi.errors import RecordError
from effi.records.identity import digest

Record = dict[str, Any]
SUPERSEDED = "superseded.jsonl"
NEEDED = ("identity", "arm", "seed", "status")
RESTORE = "restore the file from git, or delete that line and run again"


def seal(row: Mapping[str, Any]) -> Record:
    """The row with the checksum of its content."""
    return {**row, "checksum": digest({key: value for key, value in row.items() if key != "checksum"})}


def lines(path: Path, needed: Sequence[str], *, whole: bool = False, sealed: bool = True) -> list[tuple[bytes, Record]]:
    """Line and row of each line of a file, checked; RecordError says what is wrong with the file or a line."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); check its owner and permissions") from error
    if not content and path.name != SUPERSEDED:
        raise RecordError(f"{path} is empty, and no run leaves it so; restore it from git, or delete it to start anew")
    if (place := content.find(b"\0")) >= 0:
        number = content.count(b"\n", 0, place) + 1
        raise RecordError(
            f"{path} holds zero bytes from line {number} on, as after a power cut; restore the file from git, or "
            "delete what follows the line before and run again"
        )
    *found, tail = content.split(b"\n")
    if tail and parse(tail) is None and whole:
        raise RecordError(
            f"the last line of {path} is torn: its writing was cut off, or the file was cut; restore the file from "
            "git, or run again: what is missing is trained"
        )
    if tail and parse(tail) is not None:
        found.append(tail)
    numbered = [(number, line) for number, line in enumerate(found, start=1) if line.strip()]
    return [(line, checked(f"line {number} of {path}", line, needed, sealed)) for number, line in numbered]


def checked(place: str, line: bytes, needed: Sequence[str], sealed: bool) -> Record:
    """The row of a line; RecordError when it is none, or no longer the one that was written."""
    row = parse(line)
    if row is None:
        raise RecordError(f"{place} is no record: it is not JSON; {RESTORE}")
    if lacking := [name for name in needed if name not in row]:
        raise RecordError(f"{place} is no record: it lacks {', '.join(lacking)}; {RESTORE}")
    shown = f"{place} (arm {row['arm']}, seed {row['seed']})" if "arm" in needed else place
    if "checksum" not in row:
        if sealed:
            old = "was written by an older version, or by hand: it carries no checksum"
            raise RecordError(f"{shown} {old}; move the file away and run again")
    elif seal(row)["checksum"] != row["checksum"]:
        raise RecordError(f"{shown} was changed after it was written: its checksum does not fit; {RESTORE}")
    return row


def parse(line: bytes) -> Record | None:
    """The object that a line is; None for a torn one, or another thing."""
    with suppress(ValueError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None
