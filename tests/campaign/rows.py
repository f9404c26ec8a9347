"""What the campaign writes: a row per fault, a section per family, and the page that holds all sections."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

FAILED = '<span style="color:red">**does not hold**</span>'
HELD = "holds"
TITLE = "# Campaign of faults"
LONGEST = 400


class Broken(Exception):
    """What should have held and did not, in a sentence of what was seen."""


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


def tried(fault: Fault) -> Row:
    """The row of one fault; an error of the campaign itself is a failing row, too."""
    began = time.monotonic()
    try:
        seen, held = fault.check(), True
    except Broken as broken:
        seen, held = str(broken), False
    except Exception as error:
        traceback.print_exc()
        seen, held = f"the campaign itself stopped: {type(error).__name__}: {error}", False
    return Row(fault.done, seen, held, time.monotonic() - began)


def expect(holds: object, seen: str) -> None:
    """Raises Broken, which says what was seen, unless it holds."""
    if not holds:
        raise Broken(seen)


def section(title: str, note: str, rows: Sequence[Row]) -> str:
    """One family as a heading, a note on what must hold, when and where it was seen, and a table."""
    lines = [f"## {title}", "", note, "", "| what was done | what was seen | | seconds |", "| --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {_cell(row.done)} | {_cell(row.seen)} | {HELD if row.held else FAILED} | {row.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return " ".join(short.split()).replace("|", "\\|").replace("<", "&lt;")


def page(path: Path, title: str, fresh: str, order: Sequence[str]) -> None:
    """Put a section in the place of its older one; sections stand in `order`, under a line of totals."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(_sections(held)) | {title: fresh}
    body = "\n".join(sections[each] for each in order if each in sections)
    good, bad = body.count(f"| {HELD} |"), body.count(f"| {FAILED} |")
    total = f"{good + bad} faults: {good} hold" + (f", {bad} {FAILED}" if bad else "")
    intro = (
        "Everything here was done to the real thing: processes killed, file systems full, servers that stall. "
        "`make campaign` does it all again and writes this page."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{TITLE}\n\n{intro}\n\n{total}.\n\n{body}", encoding="utf-8")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"(?m)^(?=## )", text)[1:]:
        yield part.partition("\n")[0].removeprefix("## "), part.rstrip("\n") + "\n"
