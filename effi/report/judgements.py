"""Tables of judged claims: paper against ours, and every test behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from effi.claims import HERE, ClaimRow, Evidence, Here, Judgement, protocol, sentences, stats
from effi.claims.papers import NOT_AVAILABLE, READINGS, Reading
from effi.report.tables import MARKS, Table

READING_WORDS: dict[Reading, str] = {"as_in_the_paper": "as in the paper", "fair": "fair"}
OURS = (
    "ours: mean [95 % interval], n seeds or arms; what must hold at every seed has a range, a count no interval. "
    "Intervals of test accuracies hold the error of a finite test set, too, where its hits or its size are recorded."
)


def counted(rows: Sequence[ClaimRow], reading: Reading) -> str:
    """How many claims say what here: "5 for, 2 against"."""
    return sentences.counts((row.judgement(reading).here for row in rows), HERE)


def here_cell(judgement: Judgement) -> str:
    """What a judgement says here, with its mark."""
    return _marked(judgement.here)


def _marked(here: Here) -> str:
    return f"{MARKS[here]} {here}"


def protocol_cell(row: ClaimRow) -> str:
    """What both readings say at the paper's protocol, or what is missing; once where they say the same."""
    told = {reading: _at_protocol(row.judgement(reading)) for reading in READINGS}
    if len(set(told.values())) == 1:
        return told["fair"]
    return "; ".join(f"{READING_WORDS[reading]}: {text}" for reading, text in told.items())


def _at_protocol(judgement: Judgement) -> str:
    return judgement.protocol + (f": {judgement.lacking}" if judgement.lacking else "")


def _ours(judgement: Judgement) -> str:
    test = judgement.deciding
    return test.shown + test.number if test else NOT_AVAILABLE


def _why(row: ClaimRow) -> str:
    own, fair = row.as_in_the_paper.why, row.fair.why
    why = own if fair == own else f"{own} Fair: {fair[0].lower()}{fair[1:]}"
    return f"{why} Noted: {'; '.join(row.claim.notes)}." if row.claim.notes else why


def claims_table(rows: Sequence[ClaimRow]) -> Table:
    """Paper against ours; our value is that of the test which decides the reading as in the paper.

    What the paper's file notes of how a claim is judged follows the reasons, in the last column.
    """
    scale = rows[0].scale if rows else "no"
    heads = (f"{READING_WORDS[reading]}, here ({scale} scale)" for reading in READINGS)
    columns = ("claim", "paper", "ours", *heads, "at the paper's protocol", "place", "kind", "why")
    cells = (
        (
            f"{row.claim.id}: {row.claim.text}",
            row.claim.paper,
            _ours(row.as_in_the_paper),
            *(here_cell(row.judgement(reading)) for reading in READINGS),
            protocol_cell(row),
            row.claim.place,
            row.claim.kind,
            _why(row),
        )
        for row in rows
    )
    return Table("Paper against ours", columns, tuple(cells), (OURS,), folds=("at the paper's protocol", columns[-1]))


def evidence_table(rows: Sequence[ClaimRow]) -> Table:
    """Every single test behind the verdicts; as a sheet with its numbers unrounded."""
    tests = list(_tests(rows))
    shown = ((row.claim.id, READING_WORDS[reading], *_cells(test)) for row, reading, test in tests)
    sheet = (
        (row.claim.id, row.claim.kinds[reading], READING_WORDS[reading], *_numbers(test))
        for row, reading, test in tests
    )
    note = (
        "p are one-sided, of the null hypotheses that the claim does not hold and that it does; below 0.025, the 95 % "
        "interval lies on one side. For a claim, all tests must hold; against it, any whose p by Holm is below 0.025. "
        "What would tell: seeds or test examples at which an open test would be settled if mean and spread stayed."
    )
    return Table("Every test", TESTED, tuple(shown), (note,), (SHEET, *sheet), folded=True)


TESTED = (
    *("claim", "reading", "test", "ours", "claimed", "p for", "p against", "by Holm", "here", "would tell"),
    "protocol",
)
SHEET = (
    *("claim", "kind", "reading", "test", "claimed", "mean", "low", "high", "low and high", "sd", "n", "unit", "line"),
    *("p for", "p against", "p against by Holm", "direction", "would tell", "protocol"),
)


def _tests(rows: Sequence[ClaimRow]) -> Iterator[tuple[ClaimRow, Reading, Evidence]]:
    for row in rows:
        for reading in READINGS:
            for test in row.judgement(reading).evidence:
                yield row, reading, test


def _cells(test: Evidence) -> tuple[str, ...]:
    if test.verdict is None or test.claim is None:
        return test.label, NOT_AVAILABLE, "", "", "", "", _marked("not run"), "", test.clause
    found = test.verdict
    p = (_probability(value) for value in (found.p_for, found.p_against, test.p_holm))
    ours, claimed = test.shown + test.number, sentences.line(test.claim, test.unit)
    return test.label, ours, claimed, *p, _marked(found.direction), test.wanted, _missing(test)


def _missing(test: Evidence) -> str:
    return f"not reached: {protocol.told(test.lacking)}" if test.lacking else "reached"


def _probability(p: float) -> str:
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _numbers(test: Evidence) -> tuple[str, ...]:
    """Numbers for a machine, in the order of SHEET from the test on."""
    if test.verdict is None or test.claim is None:
        return test.label, *("",) * 12, "not run", "", test.clause
    found, number = test.verdict, sentences.significant
    return (
        test.label,
        f"{test.claim.rule} {test.claim.direction}",
        *map(number, (found.mean, found.low, found.high)),
        found.spread,
        number(found.sd),
        str(found.n),
        test.unit.name,
        _line(test.claim),
        *map(number, (found.p_for, found.p_against, test.p_holm)),
        found.direction,
        test.wanted,
        _missing(test),
    )


def _line(claim: stats.Claim) -> str:
    """The threshold alone: the margin, the limits, or the target."""
    if claim.rule == "within":
        return " to ".join(map(sentences.significant, claim.limits))
    return sentences.significant(claim.margin if claim.rule in ("no_loss", "equivalence", "gain") else claim.target)
