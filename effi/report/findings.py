"""What was learned: sentences of a paper's file, each with the interval that carries it, or that it is not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effi.claims import JUDGED, Judgement, Results, judge, look, papers
from effi.claims.papers import READINGS, Finding, Paper
from effi.report.tables import MARKS, Table

CHOSEN = (
    "Worded after results were seen: every interval is that of a single test, without a correction for having chosen "
    "among many; what a run on other data or at a larger scale shows again is worth more."
)
COLUMNS = ("", "finding", "carried by")
FOLDS = COLUMNS[-1:]
SEEN = {"for": f"{MARKS['for']} seen", "not run": f"{MARKS['not run']} not run"}
NOT_SEEN = f"{MARKS['open']} not seen in this run"
NOTHING = Table("Nothing is recorded yet: make reproduce.", (), ())


def by_scale(paper: str, results_dir: str | Path = "results") -> tuple[Results, list[Results]]:
    """Results of the highest scale that ran most of the paper's claims, and of larger ones, the largest first.

    Where none ran most, those of the highest with records; else none. Raises RecordError for old records.
    """
    found = [each for scale in reversed(JUDGED) if (each := Results.read(results_dir, scale, paper))]
    alone = found[:1] or [Results([])]
    place = next((n for n, each in enumerate(found) if len(found) == 1 or _ran_most(paper, each)), None)
    return (alone[0], []) if place is None else (found[place], found[:place])


def in_part(paper: str, results_dir: str | Path, beyond: str) -> list[Results]:
    """Results of scales larger than `beyond` that ran few of the claims; the largest first."""
    _, parts = by_scale(paper, results_dir)
    return [each for each in parts if JUDGED.index(each.scale) > JUDGED.index(beyond)]


def _ran_most(paper: str, results: Results) -> bool:
    """Whether a test of more than half of the claims has records."""
    rows = judge(papers.load(paper), results)
    ran = [row for row in rows if any(row.judgement(reading).here != "not run" for reading in READINGS)]
    return 2 * len(ran) > len(rows)


def findings(paper: str, results_dir: str | Path = "results", scale: str | None = None) -> Table:
    """Every finding on the records of a scale (None: as in `by_scale`), and those of larger ones that ran in part."""
    if scale is None:
        found, parts = by_scale(paper, results_dir)
    else:
        found, parts = Results.read(results_dir, scale, paper), in_part(paper, results_dir, scale)
    return findings_table(papers.load(paper), found, parts) if found else NOTHING


def findings_table(paper: Paper, results: Results, parts: Sequence[Results] = ()) -> Table:
    """Every finding that is told of the results' scale: whether they show it, and what they show; then of `parts`."""
    rows = [finding_row(finding, paper, results) for finding in told_at(paper.findings, results.scale)]
    rows += [row for part in parts if part.scale != results.scale for row in rows_in_part(paper, part)]
    return Table(
        f"What we learned, by the records of {results.scale} scale", COLUMNS, tuple(rows), (CHOSEN,), folds=FOLDS
    )


def rows_in_part(paper: Paper, part: Results, *, gist: bool = False) -> list[tuple[str, str, str]]:
    """Findings that are told of this scale by name, with the scale beside the tick."""
    rows = (finding_row(finding, paper, part, gist=gist) for finding in named_at(paper.findings, part.scale))
    return [(f"{mark}, {part.scale} scale", text, carried) for mark, text, carried in rows]


def told_at(found: Sequence[Finding], scale: str) -> list[Finding]:
    """Findings that are told of a scale."""
    return [finding for finding in found if scale in finding.scales or not finding.scales]


def named_at(found: Sequence[Finding], scale: str) -> list[Finding]:
    """Findings that are told of a scale by name."""
    return [finding for finding in found if scale in finding.scales]


def leading(paper: Paper, scale: str) -> list[Finding]:
    """Findings that the paper's file puts first, in its order, as far as they are told of a scale."""
    told = {finding.id: finding for finding in told_at(paper.findings, scale)}
    return [told[name] for name in paper.report["headline"] if name in told]


def finding_row(finding: Finding, paper: Paper, results: Results, *, gist: bool = False) -> tuple[str, str, str]:
    """A tick where the results show a finding, its sentence, and the interval of each test behind it.

    With `gist` the short sentence that it may have stands in a line above.
    """
    judged = look(finding, paper, results)
    text = f"{finding.short}\n{finding.text}" if gist and finding.short else finding.text
    return SEEN.get(judged.here, NOT_SEEN), text, _carried(judged)


def _carried(judged: Judgement) -> str:
    return "; ".join(test.clause + test.number for test in judged.evidence)
