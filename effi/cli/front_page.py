"""The part of README.md that is drawn from results: a table and a picture, rewritten by `effi report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from effi import paths, report
from effi.claims import HERE, ClaimRow, Results, Tally, judge, look, measures, papers, stats, tally
from effi.claims.papers import KINDS, NOT_AVAILABLE, READINGS, Paper
from effi.errors import EffiError
from effi.report import Trade
from effi.report.findings import highest, leading
from effi.report.judgements import READING_WORDS
from effi.workbook import Notebook, notebooks

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURE = "verdicts"
QUESTION = "What do our runs say of the papers' claims?"
Judged = tuple[Notebook, Results, list[ClaimRow]]


def write() -> Path:
    """Rewrite the generated part and the picture, and say which file; EffiError when the page has no markers."""
    found = list(_judged())
    page = paths.readme()
    fresh = _replaced(page, _block(found))
    if found:
        report.style()
        report.save_figure(report.verdict_bars(_bars(found), title=QUESTION), paths.results(), PICTURE)
    paths.replace(page, fresh)
    return page


def is_fresh() -> bool:
    """Whether the generated part of the page is what the results give; EffiError when it has no markers."""
    page = paths.readme()
    return _replaced(page, block()) == page.read_text(encoding="utf-8")


def block() -> str:
    """Text between the markers: picture and table of every paper at the highest scale that has records."""
    return _block(list(_judged()))


def _block(judged: Sequence[Judged]) -> str:
    rows = tuple(_row(*found) for found in judged)
    if not rows:
        return "No results yet: `make reproduce` makes them."
    heads = (f"claims, {READING_WORDS[reading]}" for reading in READINGS)
    columns = ("paper", *heads, "best honest saving", "where it loses", "notebook")
    table = report.Table("What the claims say here", columns, rows, (_note(judged),))
    picture = f"{paths.results().name}/{PICTURE}.png"
    shown = f"![{QUESTION} For, against, open or not run, per paper]({picture})"
    return "\n\n".join(filter(None, (shown, "\n".join(_learned(judged)), table.markdown())))


def _learned(judged: Sequence[Judged]) -> Iterator[str]:
    """A line per paper with its leading findings, as far as its records show them."""
    for notebook, results, _ in judged:
        paper = papers.load(notebook.paper)
        seen = [each.text for each in leading(paper) if look(each, paper, results).here == "for"]
        if seen:
            yield f"- **{paper.title}**, {results.scale} scale: {' '.join(seen)}"


def _note(judged: Sequence[Judged]) -> str:
    scores = sorted({measures.words(papers.load(notebook.paper).report["score"]) for notebook, *_ in judged})
    return (
        "For and against are by the 95 % intervals of our runs, at their scale; *at the paper's protocol* counts the "
        "claims whose own protocol - data, length, seeds - our runs reach. Best honest saving: of the arms chosen on "
        "validation the one that saves most training FLOPs, search included, with its change in "
        f"{' or '.join(scores)}. Where it loses: the arm of the method whose drop is the largest of those that surely "
        "exceed the margin."
    )


def _judged() -> Iterator[Judged]:
    for notebook in notebooks():
        if results := highest(notebook.paper):
            yield notebook, results, judge(notebook.paper, results)


def _bars(judged: Sequence[Judged]) -> dict[str, Counter[Tally]]:
    """Two bars a paper, one a reading, named with the scale."""
    return {
        f"{notebook.paper}, {results.scale}: {READING_WORDS[reading]}": tally(rows, reading)
        for notebook, results, rows in judged
        for reading in READINGS
    }


def _row(notebook: Notebook, results: Results, rows: list[ClaimRow]) -> tuple[str, ...]:
    paper = papers.load(notebook.paper)
    counts = (f"{results.scale} scale: {_counted(tally(rows, reading))}" for reading in READINGS)
    link = f"[{notebook.path.name}](notebooks/{notebook.path.name})"
    return (paper.title, *counts, *_best_and_worst(results, paper), link)


def _counted(found: Counter[Tally]) -> str:
    """What claims say here, also by kind, and how many reach the protocol."""
    kinds = (
        f"{kind} {said}" for kind in KINDS if (said := _said(each for each in found.elements() if each.kind == kind))
    )
    reached = sum(each.reached for each in found.elements())
    return f"**{_said(found.elements())}** ({'; '.join(kinds)}); at the paper's protocol: {reached}"


def _said(claims: Iterable[Tally]) -> str:
    counts = Counter(each.here for each in claims)
    return ", ".join(f"{counts[here]} {here}" for here in HERE if counts[here])


def _best_and_worst(results: Results, paper: Paper) -> tuple[str, str]:
    """Of each data set and model the saving to take, and the arm of the method that surely loses most."""
    baseline, score = paper.report["baseline"], paper.report["score"]
    if not results.where(variant=baseline):
        return NOT_AVAILABLE, NOT_AVAILABLE
    chosen = report.choose(results, paper, baseline=baseline)
    saving = [each.trade for each in chosen if each.decision == "take" and each.trade]
    found = report.trades(results, paper, baseline=baseline, metric=score)
    losing = [trade for trade in found if trade.kept == "against" and _of_the_method(trade, paper)]
    saved = _by_group(sorted(saving, key=lambda trade: trade.cost.mean)) or "none shown"
    return saved, _by_group(sorted(losing, key=lambda trade: trade.gain)) or "nowhere shown"


def _of_the_method(trade: Trade, paper: Paper) -> bool:
    """Whether an arm is the paper's method, and no control."""
    return trade.pairs[0].arm["variant"] in paper.report["method"]


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
