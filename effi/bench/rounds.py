"""One case of a benchmark: competitors timed in turn, round by round, and the rows that come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from effi import paths
from effi.cost import measure
from effi.records import store
from effi.records.provenance import provenance
from effi.report.tables import Table

ROUNDS = 100


class Missing(Exception):
    """A competitor that cannot take part; the text says why and how to mend it."""


@dataclass(frozen=True)
class Competitor:
    """What is timed; `flops` are those of one call, `extra_bytes` the memory it needs beside what it is given."""

    step: Callable[[], object]
    parameters: int | None = None
    flops: int | None = None
    extra_bytes: int | None = None


@dataclass(frozen=True)
class Case:
    """Competitors by name, each made only when its turn comes; `reference` is the one others are compared with.

    `calls` is how often a competitor's step runs in one call that is timed; `clock` as in `effi.cost.measure`.
    """

    title: str
    reference: str
    competitors: Mapping[str, Callable[[], Competitor]]
    calls: int = 1
    clock: Callable[[Callable[[], object]], float] | None = None


@dataclass(frozen=True)
class Row:
    """A competitor's seconds per round, and the median over rounds of its ratio to the reference's."""

    case: str
    competitor: str
    reference: str
    seconds: list[float] = field(default_factory=list)
    ratio: float | None = None
    parameters: int | None = None
    flops: int | None = None
    extra_bytes: int | None = None
    load: float | None = None
    note: str | None = None


def timed(case: Case, budget_s: float) -> list[Row]:
    """A row per competitor in the order given; those missing have a note and no seconds."""
    load, made = _load(), {name: _made(make) for name, make in case.competitors.items()}
    steps = {name: competitor.step for name, competitor in made.items() if isinstance(competitor, Competitor)}
    measured = measure(steps, repeats=ROUNDS, budget_s=budget_s, clock=case.clock)
    rows = []
    for name, competitor in made.items():
        row = Row(case.title, name, case.reference, load=load)
        if isinstance(competitor, Competitor):
            seconds = [call / case.calls for call in measured[name]]
            ratio = median(own / other for own, other in zip(measured[name], measured[case.reference], strict=True))
            known = {name: getattr(competitor, name) for name in ("parameters", "flops", "extra_bytes")}
            rows.append(replace(row, seconds=seconds, ratio=ratio, **known))
        else:
            rows.append(replace(row, note=competitor))
    return rows


def _made(make: Callable[[], Competitor]) -> Competitor | str:
    """A competitor, or why it cannot take part."""
    try:
        return make()
    except Missing as reason:
        return str(reason)


def _load() -> float | None:
    """Processes that wanted a core over the last minute, this one's own earlier work included."""
    with suppress(OSError, AttributeError):  # absent on Windows
        return os.getloadavg()[0]
    return None


def table(name: str, rows: list[Row]) -> Table:
    """Rows side by side, with the machine below."""
    references = {row.reference for row in rows}
    ratio = f"x {rows[0].reference}" if len(references) == 1 else "x reference"
    columns = (
        "case",
        "competitor",
        "min ms",
        "median ms",
        ratio,
        "rounds",
        "parameters",
        "GFLOP",
        "extra MB",
    )
    facts = provenance()
    machine = facts["gpu"]["name"] if name == "gpu" and facts["gpu"] else facts["cpu"]
    loads = "-".join(sorted({f"{row.load:.1f}" for row in rows if row.load is not None}))
    notes = (f"{machine}, {facts['threads']} threads, torch {facts['versions']['torch']}, load {loads or 'unknown'}",)
    return Table(f"Benchmark {name}", columns, tuple(map(_cells, rows)), notes)


def _cells(row: Row) -> tuple[str, ...]:
    if row.note:
        return (row.case, row.competitor, row.note, *[""] * 6)
    return (
        row.case,
        row.competitor,
        f"{1e3 * min(row.seconds):.1f}",
        f"{1e3 * median(row.seconds):.1f}",
        f"{row.ratio:.3f}",
        str(len(row.seconds)),
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.flops is None else f"{row.flops / 1e9:.2f}",
        "" if row.extra_bytes is None else f"{row.extra_bytes / 1e6:.0f}",
    )


def save(name: str, rows: list[Row], results_dir: str | Path) -> None:
    """Append one JSON line per row, with provenance. RecordError when the file cannot be written."""
    header = {"bench": name, "written": datetime.now(UTC).isoformat(timespec="seconds"), "provenance": provenance()}
    store.append(paths.bench_file(results_dir, name), [header | asdict(row) for row in rows])
