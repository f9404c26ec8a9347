"""What the last run of a paper found, for the first cell of its notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from effi import paths
from effi.claims import JUDGED, ClaimRow, Results, count, judge, papers
from effi.claims.papers import KINDS
from effi.claims.stats import State
from effi.errors import RecordError
from effi.report.judgements import KIND_WORDS, verdict_cell
from effi.report.tables import Table

OPEN = "A claim stays open where this scale is too small, or its seeds too few, to settle it."


def headline(paper: str, results_dir: str | Path = "results") -> Table:
    """A sentence with the verdicts at the largest scale that has records, and the claims the paper's file names.

    Without records, or where they cannot be read, it says that: a notebook's first cell must not stop it.
    """
    try:
        found = {scale: Results.read(results_dir, scale, paper) for scale in JUDGED}
    except RecordError as error:
        # A stored page names no machine.
        return Table(f"The last results cannot be shown: {error}".replace(f"{paths.ROOT}/", ""), (), ())
    if not any(found.values()):
        return Table("Nothing is recorded yet: make reproduce.", (), ())
    scale = next(scale for scale in reversed(JUDGED) if found[scale])
    rows = judge(paper, found[scale])
    told = [row for row in rows if row.claim.id in papers.load(paper).report["headline"]]
    cells = ((f"{r.claim.id}: {r.claim.text}", verdict_cell(r.as_in_the_paper), verdict_cell(r.fair)) for r in told)
    return Table(_sentence(rows, scale), ("claim", *KIND_WORDS.values()), tuple(cells), (OPEN,))


def _sentence(rows: list[ClaimRow], scale: str) -> str:
    own, fair = (_counted(count(rows, kind), f" of its {len(rows)} claims" * (kind != "fair")) for kind in KINDS)
    return f"At {scale} scale, tested as in the paper, {own}; under fair tests, {fair}."


def _counted(found: Mapping[State, int], of: str) -> str:
    """How many claims hold, fail and stay open, in words."""
    held, failed, left = found["reproduced"], found["not reproduced"], found["inconclusive"]
    return f"{held}{of} {_verb('hold', held)}, {failed} {_verb('fail', failed)} and {left} {_verb('stay', left)} open"


def _verb(word: str, number: int) -> str:
    return f"{word}s" if number == 1 else word
