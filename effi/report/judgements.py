"""Tables of judged claims: paper against ours, and every test behind it."""

from __future__ import annotations

from collections.abc import Sequence

from effi.claims import ClaimRow, Judgement, stats
from effi.claims.papers import KINDS, NOT_AVAILABLE, Kind
from effi.claims.stats import Interval
from effi.report.tables import STATE_MARKS, Table

KIND_WORDS: dict[Kind, str] = {"as_in_the_paper": "as in the paper", "fair": "fair"}


def _verdict_cell(judgement: Judgement) -> str:
    cell = f"{STATE_MARKS[judgement.state]} {judgement.state}"
    if not judgement.ran:
        return f"{cell} (not run)"
    if judgement.state == "inconclusive" and judgement.direction != "open":
        return f"{cell} (points {judgement.direction})"
    return cell


def _ours(judgement: Judgement) -> str:
    outcome = judgement.deciding
    if outcome is None or not outcome.ran:
        return NOT_AVAILABLE
    verdict = outcome.verdict
    span = Interval(verdict.mean, verdict.low, verdict.high)
    return f"{stats.measured(span, verdict.n, outcome.unit.name, outcome.unit.digits)}, n={verdict.n}"


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
            *(_verdict_cell(row.judgement(kind)) for kind in KINDS),
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
            outcome.label,
            f"{STATE_MARKS[outcome.verdict.state]} {outcome.verdict.state}",
            outcome.verdict.why,
        )
        for row in rows
        for kind in KINDS
        for outcome in row.judgement(kind).outcomes
    )
    return Table("Every test", ("claim", "verdict", "test", "state", "why"), tuple(cells))
