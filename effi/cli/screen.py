"""Tables on the terminal: coloured where it is one, the same words in plain text where it is not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from effi import paths
from effi.errors import EffiError, duration
from effi.workbook.terminal import VERDICTS, plain_console, tally

if TYPE_CHECKING:
    from effi.claims import ClaimRow, Judgement
    from effi.workbook import Outcome

FINDINGS = {"ok": "cyan", "note": "yellow", "mend": "red"}
PLAIN_WIDTH = 140
SHOWN_FAILURES = 5


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], title: str | None = None) -> None:
    """Print rows under columns, as wide as the terminal or wide enough for a log; long cells are wrapped."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    plain_console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(drawn)


def outcomes(ended: Sequence[Outcome]) -> None:
    """Print what went wrong, if something did: each sentence, then arms that failed with the file of their record."""
    for outcome in ended:
        if outcome.error:
            trouble(f"{outcome.paper}: {outcome.error}")
        for each in outcome.failures[:SHOWN_FAILURES]:
            seeds = f"seed{'s' if len(each.seeds) > 1 else ''} {', '.join(map(str, each.seeds))}"
            trouble(f"{outcome.paper}: {each.arm}, {seeds}: {each.error} (record in {each.record})")
        if len(outcome.failures) > SHOWN_FAILURES:
            trouble(f"{outcome.paper}: and {len(outcome.failures) - SHOWN_FAILURES} more")


def aside(ended: Sequence[Outcome]) -> None:
    """Print of every run how many rows of records.jsonl do not count for it; nothing where there were none."""
    for outcome in ended:
        if outcome.aside:
            rows = "1 row" if outcome.aside == 1 else f"{outcome.aside} rows"
            said = f"{rows} of records.jsonl, not counted by this run, put aside in superseded.jsonl, which git ignores"
            plain_console(soft_wrap=True).print(f"{outcome.paper}: {said}; a run that asks for them takes them back")


def verdicts(papers: Sequence[str], scale: str, results_dir: str) -> None:
    """Print both verdicts on every claim of every paper, then their counts and where the executed notebooks lie."""
    if not papers:
        return
    # Statistics and figures take seconds to import: not for the commands that show other tables.
    from effi.claims import Results, count, judge
    from effi.workbook import find

    counts, executed, idle = [], [], {}
    for notebook in find(papers):
        try:
            found = Results.read(results_dir, scale, notebook.paper)
            rows = judge(notebook.paper, found)
        except EffiError as error:
            trouble(str(error))
            continue
        if not found:
            continue
        _claims(rows, f"{notebook.paper}, {scale} scale")
        counts.append((notebook.paper, tally(count(rows)), tally(count(rows, "fair"))))
        executed.append(paths.run_dir(results_dir, scale, notebook.paper) / notebook.path.name)
        idle[notebook.paper] = idle_kernels(found.records)
    if counts:
        table(("paper", "as in the paper", "fair"), counts)
    for path in executed:
        print(f"report: {path}")
    for paper, names in idle.items():
        if names:
            lazy = f"asked for, but computed nothing here: {', '.join(names)}"
            print(f"{paper}: kernels {lazy}; effi/kernels/README.md says when one does")


def idle_kernels(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Kernels that parameters of a run ask for, and that computed in none of its records."""
    options = [
        each for record in records for each in record.get("parameters", {}).values() if isinstance(each, Mapping)
    ]
    asked = {name for each in options for name in each.get("kernels", ())}
    return sorted(asked - {name for record in records for name in record.get("provenance", {}).get("kernels", ())})


def _claims(rows: Sequence[ClaimRow], title: str) -> None:
    from effi.report.judgements import here_cell, protocol_cell

    def styled(judgement: Judgement) -> Text:
        return Text(here_cell(judgement), VERDICTS[judgement.here])

    cells = [
        (f"{r.claim.id}: {r.claim.text}", styled(r.as_in_the_paper), styled(r.fair), protocol_cell(r)) for r in rows
    ]
    table(("claim", "as in the paper, here", "fair, here", "at the paper's protocol"), cells, title)


def plan(
    paper: str, scale: str, rows: Sequence[Mapping[str, Any]], workers: int = 1, tflops: float | None = None
) -> None:
    """Print what a run would take: a row per arm, the hours of all arms in a row, and those of several workers."""
    # torch is imported with it.
    from effi.report.costs import scaled
    from effi.workbook.plan import makespan

    cells = [
        (
            str(row["arm"]),
            "not available" if row["steps"] is None else f"{row['steps']:,}",
            scaled(row["flops"], "FLOP"),
            "not available" if row["peak_bytes"] is None else scaled(row["peak_bytes"], "B"),
            duration(3600 * row["hours"]),
        )
        for row in rows
    ]
    total = duration(3600 * sum(row["hours"] for row in rows))
    title = f"{paper}, {scale} scale: {len(rows)} arm{'s' * (len(rows) != 1)}, {total} one after another"
    if workers > 1:
        title += f", {duration(3600 * makespan(rows, workers))} on {workers} workers"
    if tflops is not None:
        title += f", by FLOPs at {tflops:g} TFLOP/s"
    elif workers > 1:
        title += " at the pace measured here"
    table(("arm", "steps of one seed", "FLOPs of one seed", "peak memory", "time of all seeds"), cells, title)


def trouble(text: str) -> None:
    """Print what went wrong on standard error."""
    plain_console(stderr=True, soft_wrap=True).print(Text(text, style="red"))
