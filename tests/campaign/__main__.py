"""`python -m tests.campaign [FAMILY ...]`: every fault of all families, or of those named; writes a page of them."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from effi import paths
from effi.records import machine
from tests.campaign.bed import workbook
from tests.campaign.rows import Row, page, section, tried

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
    asked.add_argument("--page", type=Path, default=paths.results() / "campaign.md")
    given = asked.parse_args()
    held = [_family(name, given.page) for name in given.families]
    return int(not all(held))


def _family(name: str, file: Path) -> bool:
    """Whether all faults of a family hold; the page is written after each, so that a campaign cut short shows them."""
    room, title, rows = import_module(f"tests.campaign.{name}"), FAMILIES[name], []
    with workbook() as bed:
        for fault in room.faults(bed):
            rows.append(tried(fault))
            print(f"{'holds' if rows[-1].held else 'DOES NOT HOLD'}  {fault.done}: {rows[-1].seen}", flush=True)
            note = f"{room.NOTE}\n\n{_where(rows)}"
            page(file, title, section(title, note, rows), tuple(FAMILIES.values()))
    return all(row.held for row in rows)


def _where(rows: list[Row]) -> str:
    minutes = sum(row.seconds for row in rows) / 60
    day = datetime.now(UTC).date().isoformat()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{day}, {machine.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, load averages at the end "
        f"{load}; {sum(row.held for row in rows)} of {len(rows)} hold, {minutes:.0f} min."
    )


if __name__ == "__main__":
    sys.exit(main())
