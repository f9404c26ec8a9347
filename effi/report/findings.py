"""What was learned: sentences of a paper's file, each with the interval that carries it, or that it is not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effi.claims import JUDGED, Judgement, Results, look, papers
from effi.claims.papers import Finding, Paper
from effi.report.tables import MARKS, Table

CHOSEN = (
    "Worded after results were seen: every interval is that of a single test, without a correction for having chosen "
    "among many; what a run on other data or at a larger scale shows again is worth more."
)
COLUMNS = ("", "finding", "carried by")
SEEN = {"for": f"{MARKS['for']} seen", "not run": f"{MARKS['not run']} not run"}
NOT_SEEN = f"{MARKS['open']} not seen in this run"
NOTHING = Table("Nothing is recorded yet: make reproduce.", (), ())


def highest(paper: str, results_dir: str | Path = "results") -> Results:
    """Results of the highest scale that has records, none where no scale has. Raises RecordError for old records."""
    found = (Results.read(results_dir, scale, paper) for scale in reversed(JUDGED))
    return next(filter(None, found), Results([]))


def findings(paper: str, results_dir: str | Path = "results", scale: str | None = None) -> Table:
    """Every finding on the records of a scale (None: the highest that has any). Errors as of `highest`."""
    found = highest(paper, results_dir) if scale is None else Results.read(results_dir, scale, paper)
    return findings_table(papers.load(paper), found) if found else NOTHING


def findings_table(paper: Paper, results: Results) -> Table:
    """Every finding that is told of the results' scale: whether they show it, and what they show."""
    rows = (finding_row(finding, paper, results) for finding in told_at(paper.findings, results.scale))
    return Table(f"What we learned, by the records of {results.scale} scale", COLUMNS, tuple(rows), (CHOSEN,))


def told_at(found: Sequence[Finding], scale: str) -> list[Finding]:
    """Findings that are told of a scale."""
    return [finding for finding in found if scale in finding.scales or not finding.scales]


def leading(paper: Paper) -> list[Finding]:
    """Findings that the paper's file puts first."""
    return [finding for finding in paper.findings if finding.id in paper.report["headline"]]


def finding_row(finding: Finding, paper: Paper, results: Results) -> tuple[str, str, str]:
    """A tick where the results show a finding, its sentence, and the interval of each test behind it."""
    judged = look(finding, paper, results)
    return SEEN.get(judged.here, NOT_SEEN), finding.text, _carried(judged)


def _carried(judged: Judgement) -> str:
    return "; ".join(test.clause + test.number for test in judged.evidence)
