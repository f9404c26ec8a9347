"""Tables of judged claims: paper against ours, and every test behind it."""

from __future__ import annotations

from collections.abc import Sequence

from effi.claims import ClaimRow, Judgement, stats
from effi.claims.papers import KINDS, NOT_AVAILABLE, Kind
from effi.claims.stats import Interval
from effi.report.tables import STATE_MARKS, Table

KIND_WORDS: dict[Kind, str] = {"as_in_the_paper": "as in the paper", "fair": "fair"}


def verdict_cell(judgement: Judgement) -> str:
    """A verdict with its mark, and where the numbers point when it is open."""
    cell = f"{STATE_MARKS[judgement.state]} {judgement.state}"
    if not judgement.ran:
        return f"{cell} (not run)"
    if judgement.state == "inconclusive" and judgement.direction != "open":
        return f"{cell} (points {judgement.direction})"
    return cell


def _ours(judgement: Judgement) -> str:
    test = judgement.deciding
    if test is None or not test.ran:
        return NOT_AVAILABLE
    verdict = test.verdict
    span = Interval(verdict.mean, verdict.low, verdict.high)
    return f"{stats.measured(span, verdict.n, test.unit.name, test.unit.digits)}, n={verdict.n}"


def _why(row: ClaimRow) -> str:
    own, fair = row.as_in_the_paper.why, row.fair.why
    return own if fair == own else f"{own}. Fair: {fair}"


def claims_table(rows: Sequence[ClaimRow]) -> Table:
    """Paper against ours; our value is that of the test which decides the verdict as in the paper.

    What the paper's file notes about a claim stands below.
    """
    scale = rows[0].scale if rows else "no"
    heads = (f"{KIND_WORDS[kind]} ({scale} scale)" for kind in KINDS)
    columns = ("claim", "place", "paper", "ours: mean [95 % interval], n", *heads, "why")
    cells = (
        (
            f"{row.claim.id}: {row.claim.text}",
            row.claim.place,
            row.claim.paper,
            _ours(row.as_in_the_paper),
            *(verdict_cell(row.judgement(kind)) for kind in KINDS),
            _why(row),
        )
        for row in rows
    )
    notes = (f"{row.claim.id}: {'; '.join(row.claim.notes)}." for row in rows if row.claim.notes)
    return Table("Paper against ours", columns, tuple(cells), tuple(notes))


def evidence_table(rows: Sequence[ClaimRow]) -> Table:
    """Every single test behind the verdicts."""
    cells = (
        (
            row.claim.id,
            KIND_WORDS[kind],
            test.label,
            f"{STATE_MARKS[test.verdict.state]} {test.verdict.state}",
            test.verdict.why,
        )
        for row in rows
        for kind in KINDS
        for test in row.judgement(kind).evidence
    )
    return Table("Every test", ("claim", "verdict", "test", "state", "why"), tuple(cells))
