"""What the last run of a paper found, for the first cell of its notebook."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from effi import paths
from effi.claims import ClaimRow, judge, papers, sentences
from effi.claims.judging import AT_PROTOCOL
from effi.claims.papers import READINGS
from effi.errors import RecordError
from effi.report import injected
from effi.report.findings import COLUMNS, NOTHING, by_scale, finding_row, leading, rows_in_part
from effi.report.judgements import READING_WORDS, counted
from effi.report.tables import Table
from effi.report.trades import unlearned_sentence

FOUND = "That is what the records in results/ say, on the workbook's data: not on data of your own."


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
    said = _sentence(rows, results.scale) + unlearned_sentence(results, loaded)
    cells = [finding_row(finding, loaded, results, gist=True) for finding in leading(loaded, results.scale)]
    cells += [row for part in parts for row in rows_in_part(loaded, part, gist=True)]
    return Table(said, COLUMNS if cells else (), tuple(cells), folds=COLUMNS[1:])


def _sentence(rows: list[ClaimRow], scale: str) -> str:
    said = "; ".join(f"{READING_WORDS[reading]}, {counted(rows, reading)}" for reading in READINGS)
    reached = sentences.counts((row.as_in_the_paper.protocol for row in rows), AT_PROTOCOL)
    return f"Of {len(rows)} claims at {scale} scale: {said}. At the paper's own protocol, as in the paper: {reached}."


def opening(paper: str) -> None:
    """Show the headline in a notebook's first cell, which a page's `save` brings up to date when the run is over.

    It says when the run began: what is stored in a notebook is shown again when it is opened, whatever ran since.
    From here on papermill's parameters are held to those that the notebook has.
    """
    from IPython.display import display  # absent from the command line's start

    injected.watch()
    display(_dated(paper, "began"), display_id=_place(paper))


def renew(paper: str) -> None:
    """Show in the place of an `opening` what the records say by now; nothing outside a notebook."""
    from IPython.core.getipython import get_ipython  # absent from the command line's start
    from IPython.display import update_display

    if get_ipython() is not None:
        update_display(_dated(paper, "ended"), display_id=_place(paper))


def _dated(paper: str, happened: str) -> Table:
    """The headline, and of which run the outputs below are: the one that began or ended now."""
    now = datetime.now(UTC)
    dated = f"Outputs on this page are of the run that {happened} on {now.day} {now:%B %Y at %H:%M} UTC."
    later = "A later one whose tab was closed does not show here: press Run All again; finished trainings are kept."
    return replace(headline(paper), notes=(FOUND, f"{dated} {later}"))


def _place(paper: str) -> str:
    return f"headline of {paper}"
