"""Rows of a benchmark on disk, and the table drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

from effi import paths
from effi.bench.peers import NOT_INSTALLED
from effi.bench.rounds import FAILED, FORM, NOISY, Row
from effi.records import store
from effi.records.provenance import installed, provenance
from effi.report.tables import Table

HOW = (
    "ms are those of one call, a mean within each round; a ratio is the median of ratios within rounds, with its "
    "distribution-free 95 % interval (order statistics)"
)
OLDER = "older form: all competitors had as many rounds as the slowest one allowed, and a ratio had no interval"


def now() -> str:
    """The time that all rows of one measurement are written under, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save(name: str, rows: Sequence[Row], results_dir: str | Path, *, written: str) -> None:
    """Append one JSON line per row, with provenance. RecordError when the file cannot be written."""
    header = {"bench": name, "written": written, "provenance": provenance()}
    store.append(paths.bench_file(results_dir, name), [header | asdict(row) for row in rows])


def newest(name: str, results_dir: str | Path) -> list[store.Record]:
    """Rows of each case that were written last, of any form: a measurement that was cut short hides no case.

    None where there is no file; RecordError for a damaged one.
    """
    rows = store.rows(paths.bench_file(results_dir, name), sealed=False)
    last = {row["case"]: row["written"] for row in rows}
    return [row for row in rows if row["written"] == last[row["case"]]]


def timed_before(name: str, results_dir: str | Path) -> dict[str, Literal["done", "again"]]:
    """Cases whose newest rows were measured by this source, with these versions, on a machine like this one.

    "again" are those with a competitor that was noisy or failed, or is installed by now.
    """
    same = ("effi_source", "versions", "cpu", "gpu")
    here = {fact: provenance()[fact] for fact in same}
    found: dict[str, Literal["done", "again"]] = {}
    for row in newest(name, results_dir):
        if {fact: row["provenance"].get(fact) for fact in same} == here:
            again = found.get(row["case"]) == "again" or _worth_repeating(row.get("note") or "")
            found[row["case"]] = "again" if again else "done"
    return found


def _worth_repeating(note: str) -> bool:
    if note.startswith(NOT_INSTALLED):
        return installed(note.removeprefix(NOT_INSTALLED)) is not None
    return note.startswith((NOISY, FAILED))


def table(name: str, records: Sequence[store.Record]) -> Table:
    """Rows side by side; below them the machine, how a ratio is made, and why a row has none."""
    rows = [_row(record) for record in records]
    references = {row.reference for row in rows}
    ratio = f"x {rows[0].reference}" if len(references) == 1 else "x reference"
    columns = ("case", "competitor", "min ms", "median ms", ratio, "rounds", "parameters", "GFLOP", "extra MB")
    how = HOW if all(row.form == FORM for row in rows) else OLDER
    noisy = [f"{row.case}, {row.competitor}: {row.note}" for row in rows if _is_noisy(row)]
    notes = (*_machines(name, records), how, *noisy)
    return Table(f"Benchmark {name}", columns, tuple(map(_cells, rows)), notes)


def _row(record: store.Record) -> Row:
    """A row of any form; those of the first do not say so."""
    known = {each.name for each in fields(Row)}
    return Row(**{"form": 1} | {name: value for name, value in record.items() if name in known})


def _machines(name: str, records: Sequence[store.Record]) -> list[str]:
    """A line per measurement, with its cases where there are several."""
    found: dict[str, list[store.Record]] = {}
    for record in records:
        found.setdefault(record["written"], []).append(record)
    if len(found) == 1:
        return [_machine(name, records)]
    named = {when: ", ".join(dict.fromkeys(each["case"] for each in own)) for when, own in found.items()}
    return [f"{_machine(name, found[when])} ({named[when]})" for when in sorted(found)]


def _machine(name: str, records: Sequence[store.Record]) -> str:
    facts: dict[str, Any] = records[0]["provenance"]
    machine = facts["gpu"]["name"] if name.startswith("gpu") and facts["gpu"] else facts["cpu"]
    threads, torch = f"{facts['threads']} threads on {facts['cores']} cores", f"torch {facts['versions']['torch']}"
    rows = [_row(record) for record in records]
    load, others = _range(row.load for row in rows), _range(row.others for row in rows)
    busy = f"load average {load}, cores that others kept busy {others}"
    return f"{machine}, {threads}, {torch}, {busy}, {records[0]['written'][:10]}"


def _range(values: Iterable[float | None]) -> str:
    known = sorted({f"{value:.2f}" for value in values if value is not None}, key=float)
    return "-".join(dict.fromkeys((known[0], known[-1]))) if known else "not available"


def _is_noisy(row: Row) -> bool:
    return row.note is not None and row.note.startswith(NOISY)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        row.competitor,
        *_timing(row),
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.flops is None else f"{row.flops / 1e9:.2f}",
        "" if row.extra_bytes is None else f"{row.extra_bytes / 1e6:.0f}",
    )


def _timing(row: Row) -> tuple[str, str, str, str]:
    """Fastest, median, ratio and rounds."""
    if _is_noisy(row):
        return "", "", NOISY, str(len(row.seconds))
    if row.note:
        return row.note, "", "", ""
    fastest, middle = (f"{1e3 * each(row.seconds):.1f}" for each in (min, median))
    bounds = "" if row.low is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return fastest, middle, f"{row.ratio:.3g}{bounds}", str(len(row.seconds))
