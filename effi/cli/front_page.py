"""The part of README.md that is drawn from results: a table and a picture, rewritten by `effi report`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from effi import paths, report
from effi.claims import JUDGED, ClaimRow, Results, count, judge, measures, papers, stats
from effi.claims.papers import KINDS, NOT_AVAILABLE, Paper
from effi.errors import EffiError
from effi.report import Trade
from effi.workbook import Notebook, notebooks

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURE = "verdicts"
Judged = tuple[Notebook, Results, list[ClaimRow]]


def write() -> Path:
    """Rewrite the generated part and the picture, and say which file; EffiError when the page has no markers."""
    found = list(_judged())
    page = paths.readme()
    fresh = _replaced(page, _block(found))
    if found:
        report.style()
        counts = {f"{notebook.paper}, {results.scale}": count(rows) for notebook, results, rows in found}
        figure = report.verdict_bars(counts, title="Which claims hold, as the papers tested them?")
        report.save_figure(figure, paths.results(), PICTURE)
    paths.replace(page, fresh)
    return page


def is_fresh() -> bool:
    """Whether the generated part of the page is what the results give; EffiError when it has no markers."""
    page = paths.readme()
    return _replaced(page, block()) == page.read_text(encoding="utf-8")


def block() -> str:
    """Text between the markers: picture and table of every paper at every scale that has records."""
    return _block(list(_judged()))


def _block(judged: Sequence[Judged]) -> str:
    rows = tuple(_row(*found) for found in judged)
    if not rows:
        return "No results yet: `make reproduce` makes them."
    counted = "reproduced / not / inconclusive"
    kinds = (f"as in the paper: {counted}", f"fair: {counted}")
    columns = ("paper", "scale", *kinds, "best honest saving", "where it loses", "notebook")
    scores = sorted({measures.words(papers.load(notebook.paper).report["score"]) for notebook, *_ in judged})
    notes = (
        f"Best honest saving: the fewest training FLOPs, search included, whose 95 % interval of the change in "
        f"{' or '.join(scores)} stays above the margin. Where it loses: the largest drop whose interval lies below "
        f"the margin.",
    )
    table = report.Table("Results", columns, rows, notes)
    picture = f"{paths.results().name}/{PICTURE}.png"
    return f"![Claims reproduced, not reproduced and inconclusive, per paper]({picture})\n\n{table.markdown()}"


def _judged() -> Iterator[Judged]:
    for notebook in notebooks():
        for scale in JUDGED:
            if results := Results.read(paths.results(), scale, notebook.paper):
                yield notebook, results, judge(notebook.paper, results)


def _row(notebook: Notebook, results: Results, rows: list[ClaimRow]) -> tuple[str, ...]:
    paper = papers.load(notebook.paper)
    counts = (" / ".join(map(str, count(rows, kind).values())) for kind in KINDS)
    link = f"[{notebook.path.name}](notebooks/{notebook.path.name})"
    return (paper.title, results.scale, *counts, *_best_and_worst(results, paper), link)


def _best_and_worst(results: Results, paper: Paper) -> tuple[str, str]:
    """Of each data set and model the arm that surely saves most, and the one that surely loses most."""
    baseline, score = paper.report["baseline"], paper.report["score"]
    if not results.where(variant=baseline):
        return NOT_AVAILABLE, NOT_AVAILABLE
    found = report.trades(results, paper, baseline=baseline, metric=score)
    sign = -1 if measures.lower_is_better(score) else 1
    saving = sorted(
        (
            each.trade
            for each in report.choose(results, paper, baseline=baseline)
            if each.decision == "take" and each.trade
        ),
        key=lambda trade: trade.cost.mean,
    )
    losing = sorted((t for t in found if t.kept == "against"), key=lambda trade: sign * trade.change.mean)
    return _by_group(saving) or "none shown", _by_group(losing) or "nowhere shown"


def _by_group(ranked: Sequence[Trade]) -> str:
    """The first of each data set and model."""
    first: dict[str, Trade] = {}
    for trade in ranked:
        first.setdefault(trade.group, trade)
    return "; ".join(_told(first[group]) for group in sorted(first))


def _told(trade: Trade) -> str:
    gap = measures.unit(trade.metric, difference=True)
    change = stats.measured(trade.change, len(trade.pairs), gap.name, gap.digits)
    return f"{trade.arm}: {stats.number(trade.cost.mean, 1)} % of the FLOPs, {change}"


def _replaced(page: Path, text: str) -> str:
    content = page.read_text(encoding="utf-8") if page.exists() else ""
    head, begin, rest = content.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise EffiError(f"{page.name} has no generated part; put the lines {BEGIN} and {END} where it belongs.")
    return f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}"
