"""What of a file of records is finished, kept in mind: entering an arm reads only what others wrote since."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from effi.errors import RecordError
from effi.records.lines import NEEDED, SUPERSEDED, Record, checked, lines

UNREAD, FAULTY = -1, -2  # in the place of an inode: of the second all is read again
BLOCK = 2**20
MEASURED = ("metrics", "history", "marks", "cost", "provenance")


class Index:
    """Finished rows of a file of records and of what was put aside of it, without their measurements.

    Lines are only ever added to a file; one that was replaced, cut or changed in place is read anew, and so is any
    with a fault, by the reader that names it. What was read before is held to its CRC-32.
    """

    def __init__(self, path: Path) -> None:
        self._records, self._aside = _Growing(path), _Growing(path.with_name(SUPERSEDED))
        self._finished: dict[str, Record] | None = None

    def finished(self) -> Mapping[str, Record]:
        """Identity -> the newest row that is done."""
        if self._finished is None or self._moved():
            self._finished = self._from_the_start()
        return MappingProxyType(_with(self._finished, self._records))

    def _moved(self) -> bool:
        """Whether rows went from one file to the other, or no longer stand where they were read."""
        aside = self._aside.read() or bool(self._aside.new)
        return self._records.read() or aside

    def _from_the_start(self) -> dict[str, Record]:
        """Rows move from one file to the other: both are read until neither was replaced in between."""
        while True:
            for file in (self._aside, self._records):
                file.forget()
                file.read()
            if not self._aside.read():
                return _with({}, self._aside)


def _with(known: dict[str, Record], file: _Growing) -> dict[str, Record]:
    """The same, with what is new in a file."""
    known |= {row["identity"]: row for row in file.new if row["status"] == "done"}
    file.new = []
    return known


class _Growing:
    """Rows that were added to a file since it was last read."""

    def __init__(self, path: Path) -> None:
        self.path, self.new = path, list[Record]()
        self._seen: tuple[int, int, int] = (UNREAD, 0, 0)  # inode, bytes, time of the last change
        self._sum = 0  # CRC-32 of those bytes

    def forget(self) -> None:
        """Read all of it the next time."""
        self._seen, self._sum, self.new = (UNREAD, 0, 0), 0, []

    def read(self) -> bool:
        """Take in what is new; whether what was read before no longer stands there."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            gone = self._seen[0] != UNREAD
            self.forget()
            return gone
        except OSError:
            lines(self.path, NEEDED)  # which says what is wrong
            raise
        now = (found.st_ino, found.st_size, found.st_mtime_ns)
        if now == self._seen:
            return False
        inode, size, _ = self._seen
        anew = inode != UNREAD and (inode != now[0] or now[1] <= size or self._sum_of(size) != self._sum)
        if anew:
            self.forget()
        self._add(self._seen[1], now)
        return anew

    def _sum_of(self, size: int) -> int:
        """CRC-32 of the first bytes of the file."""
        found = 0
        with self.path.open("rb") as file:
            while size and (content := file.read(min(BLOCK, size))):
                found, size = zlib.crc32(content, found), size - len(content)
        return found

    def _add(self, start: int, now: tuple[int, int, int]) -> None:
        end, held, rows = start, self._sum, []
        try:
            for line in self._from(start):
                end, held = end + len(line), zlib.crc32(line, held)
                if line.strip():
                    rows.append(_unmeasured(checked("", line.removesuffix(b"\n"), NEEDED, True)))
        except RecordError:
            end = start
        if end == start:
            self.new = [_unmeasured(row) for _, row in lines(self.path, NEEDED)]
            self._seen = (FAULTY, 0, 0)
            return
        self.new += rows
        self._seen, self._sum = (now[0], end, now[2]), held

    def _from(self, start: int) -> Iterator[bytes]:
        """Lines of the file, one at a time: it may be large. RecordError for a last one that is torn."""
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    raise RecordError(f"{self.path} ends within a line")
                yield line


def _unmeasured(row: Record) -> Record:
    return {name: value for name, value in row.items() if name not in MEASURED}
