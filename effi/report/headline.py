"""What the last run of a paper found, for the first cell of its notebook."""

from __future__ import annotations

from pathlib import Path

from effi.claims import JUDGED, ClaimRow, Results, count, judge, papers
from effi.errors import RecordError
from effi.report.judgements import KIND_WORDS, verdict_cell
from effi.report.tables import Table


def headline(paper: str, results_dir: str | Path = "results") -> Table:
    """A sentence with the verdicts at the largest scale that has records, and the claims the paper's file names.

    Without records, or where they cannot be read, it says that: a notebook's first cell must not stop it.
    """
    try:
        found = {scale: Results.read(results_dir, scale, paper) for scale in JUDGED}
    except RecordError as error:
        return Table(f"The last results cannot be shown: {error}", (), ())
    if not any(found.values()):
        return Table("Nothing is recorded yet: make reproduce.", (), ())
    scale = next(scale for scale in reversed(JUDGED) if found[scale])
    rows = judge(paper, found[scale])
    told = [row for row in rows if row.claim.id in papers.load(paper).report["headline"]]
    cells = ((f"{r.claim.id}: {r.claim.text}", verdict_cell(r.as_in_the_paper), verdict_cell(r.fair)) for r in told)
    return Table(_sentence(rows, scale), ("claim", *KIND_WORDS.values()), tuple(cells), _open(rows))


def _sentence(rows: list[ClaimRow], scale: str) -> str:
    (held, broken, _), (fair, unfair, _) = (count(rows, kind).values() for kind in KIND_WORDS)
    own = f"{held} of the paper's {len(rows)} claims hold as it tested them and {broken} do not"
    return f"At {scale} scale, {own}; under fair tests {fair} hold and {unfair} do not."


def _open(rows: list[ClaimRow]) -> tuple[str, ...]:
    """What it takes to settle the others."""
    left = [row for row in rows if "inconclusive" in (row.as_in_the_paper.state, row.fair.state)]
    return ("The others stay open: this scale is too small, or its seeds too few, to settle them.",) if left else ()
