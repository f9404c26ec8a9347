"""`python -m tests.campaign [FAMILY ...] [--only PATTERN]`: faults of all families, or of some; writes their page."""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
from importlib import import_module
from pathlib import Path

from effi import paths
from effi.records import machine
from tests.campaign.bed import workbook
from tests.campaign.rows import NotDone, Section, page, tried

FAMILIES = {
    "inputs": "Bad input",
    "kills": "Kills",
    "disk": "A full disk",
    "together": "Several at once",
    "machine": "A scanty machine",
    "downloads": "Downloads",
}


def main() -> int:
    """Exit status 1 when a fault does not hold."""
    # So that a campaign that is told to end takes its commands along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    asked = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    asked.add_argument("families", nargs="*", default=list(FAMILIES), help=", ".join(FAMILIES))
    asked.add_argument("--only", default="", metavar="PATTERN", help="only faults whose first column matches")
    asked.add_argument("--page", type=Path, default=paths.results() / "campaign.md")
    given = asked.parse_args()
    held = [_family(name, given.only, given.page) for name in given.families]
    return int(not all(held))


def _family(name: str, only: str, file: Path) -> bool:
    """Whether all faults of a family hold; the page is written after each, so that a campaign cut short shows them."""
    room, rows = import_module(f"tests.campaign.{name}"), []
    place = f"{machine.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    with workbook() as bed:
        faults = list(room.faults(bed))
        section = Section(FAMILIES[name], room.NOTE, place, [fault.done for fault in faults])
        for fault in (each for each in faults if re.search(only, each.done)):
            try:
                rows.append(tried(fault))
            except NotDone as reason:
                print(f"NOT DONE  {fault.done}: {reason}", flush=True)
                continue
            print(f"{'holds' if rows[-1].held else 'DOES NOT HOLD'}  {fault.done}: {rows[-1].seen}", flush=True)
            page(file, section, rows, tuple(FAMILIES.values()))
    return all(row.held for row in rows)


if __name__ == "__main__":
    sys.exit(main())
