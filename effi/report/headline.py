"""What the last run of a paper found, for the first cell of its notebook."""

from __future__ import annotations

from pathlib import Path

from effi import paths
from effi.claims import ClaimRow, judge, papers, tally
from effi.claims.papers import READINGS
from effi.errors import RecordError
from effi.report.findings import COLUMNS, NOTHING, by_scale, finding_row, leading, rows_in_part
from effi.report.judgements import READING_WORDS, counted
from effi.report.tables import Table


def headline(paper: str, results_dir: str | Path = "results") -> Table:
    """A sentence with what the claims say at the highest scale that ran most of them, and the findings that lead.

    Without records, or where they cannot be read, it says that: a notebook's first cell must not stop it.
    """
    try:
        results, parts = by_scale(paper, results_dir)
    except RecordError as error:
        # A stored page names no machine.
        return Table(f"The last results cannot be shown: {error}".replace(f"{paths.ROOT}/", ""), (), ())
    if not results:
        return NOTHING
    loaded = papers.load(paper)
    rows = judge(loaded, results)
    cells = [finding_row(finding, loaded, results) for finding in leading(loaded)]
    cells += [row for part in parts for row in rows_in_part(loaded, part)]
    return Table(_sentence(rows, results.scale), COLUMNS if cells else (), tuple(cells))


def _sentence(rows: list[ClaimRow], scale: str) -> str:
    said = "; ".join(f"{READING_WORDS[reading]}, {counted(rows, reading)}" for reading in READINGS)
    reached = sum(number for each, number in tally(rows).items() if each.reached)
    return (
        f"Of {len(rows)} claims at {scale} scale: {said}. "
        f"The paper's own protocol is reached for {reached} of them, read as in the paper."
    )
