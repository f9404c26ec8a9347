"""What the campaign writes: a row per fault, a section per family, and the page that holds all sections."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

FAILED = '<span style="color:red">**does not hold**</span>'
HELD = "holds"
NOT_RUN = '<span style="color:red">**Not run:**</span>'
TITLE = "# Campaign of faults"
INTRO = (
    "Everything here was done to the real thing: processes killed, file systems full, servers that stall. "
    '`make campaign` does it all again and writes this page; `ARGS="disk --only download"` does a part of it, and '
    "leaves the other rows as they are. The last column has the day and how many processes waited for the cores."
)
HEAD = "| what was done | what was seen | | seconds | when, load |\n| --- | --- | --- | --- | --- |"
LONGEST = 400


class Broken(Exception):
    """What should have held and did not, in a sentence of what was seen."""


class NotDone(Exception):
    """What cannot be done on this machine, and why."""


@dataclass(frozen=True)
class Fault:
    """What is done, and a check that gives a sentence of what was seen or raises Broken."""

    done: str
    check: Callable[[], str]


class Row(NamedTuple):
    """One line of the page."""

    done: str
    seen: str
    held: bool
    seconds: float
    when: str


def tried(fault: Fault) -> Row:
    """The row of one fault; an error of the campaign itself is a failing row, too. NotDone goes to the caller."""
    began = time.monotonic()
    try:
        seen, held = fault.check(), True
    except NotDone:
        raise
    except Broken as broken:
        seen, held = str(broken), False
    except Exception as error:
        traceback.print_exc()
        seen, held = f"the campaign itself stopped: {type(error).__name__}: {error}", False
    when = f"{datetime.now(UTC).date().isoformat()}, {os.getloadavg()[1]:.1f}"
    return Row(fault.done, seen, held, time.monotonic() - began, when)


def expect(holds: object, seen: str) -> None:
    """Raises Broken, which says what was seen, unless it holds."""
    if not holds:
        raise Broken(seen)


class Section(NamedTuple):
    """A family on the page: what must hold, where it was tried, and the names of all its faults in order."""

    title: str
    note: str
    machine: str
    faults: Sequence[str]

    def text(self, lines: Mapping[str, str]) -> str:
        """Heading, note, what was not run, and a line for each fault that was."""
        head = [f"## {self.title}", "", self.note, "", f"{self.machine}.", ""]
        if missing := [name for name in self.faults if _cell(name) not in lines]:
            head += [f"{NOT_RUN} {'; '.join(missing)}.", ""]
        return "\n".join([*head, HEAD, *(lines[_cell(name)] for name in self.faults if _cell(name) in lines)]) + "\n"

    def lines(self, held: str) -> dict[str, str]:
        """What was done -> its line in an older text of this section; none of another machine's."""
        if f"\n{self.machine}.\n" not in held:
            return {}
        return {line.partition(" | ")[0].removeprefix("| "): line for line in held.splitlines() if line[:2] == "| "}


def line(row: Row) -> str:
    """A row as a line of a table."""
    ended = HELD if row.held else FAILED
    return f"| {_cell(row.done)} | {_cell(row.seen)} | {ended} | {row.seconds:.0f} | {row.when} |"


def _cell(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return " ".join(short.split()).replace("|", "\\|").replace("<", "&lt;")


def page(path: Path, fresh: Section, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Put rows in the place of older ones of their section; sections stand in `order`, under a line of totals."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {part.partition("\n")[0]: part.rstrip("\n") + "\n" for part in re.split(r"(?m)^## ", held)[1:]}
    lines = fresh.lines(sections.get(fresh.title, "")) | {_cell(row.done): line(row) for row in rows}
    texts = {title: f"## {part}" for title, part in sections.items()} | {fresh.title: fresh.text(lines)}
    body = "\n".join(texts[each] for each in order if each in texts)
    good, bad = body.count(f"| {HELD} |"), body.count(f"| {FAILED} |")
    left = sum(each.count("; ") + 1 for each in body.splitlines() if each.startswith(NOT_RUN))
    total = f"{good + bad + left} faults: {good} hold" + (f", {bad} {FAILED}" if bad else "")
    total += f", {left} not run" if left else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{TITLE}\n\n{INTRO}\n\n{total}.\n\n{body}", encoding="utf-8")
