"""The part of README.md that is drawn from results: a picture, answers and tables, rewritten by `effi report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from effi import paths, report
from effi.claims import (
    HERE,
    ClaimRow,
    Results,
    Tally,
    judge,
    look,
    measures,
    papers,
    sentences,
    stats,
    tally,
    uncertainty,
)
from effi.claims.judging import AT_PROTOCOL
from effi.claims.papers import KINDS, NOT_AVAILABLE, READINGS, Finding, Paper, Reading
from effi.errors import EffiError
from effi.report import Recommendation, Trade
from effi.report.findings import by_scale, leading, named_at
from effi.report.judgements import READING_WORDS, counted
from effi.report.trades import COST_WORDS, advised_by, unlearned_sentence
from effi.workbook import Notebook, notebooks

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURE = "verdicts"
QUESTION = "What do our runs say of the papers' claims?"
# How sure the verdicts of a scale are, for a reader of one line.
WORTH = {
    "cpu": "a direction, by short runs on a part of the data",
    "hours": "for small data, every seed with examples of its own",
    "gpu": "on the whole data",
    "paper": "the full protocol",
}


class Judged(NamedTuple):
    """A notebook with its paper, that paper's claims judged at the highest scale that ran most, and larger scales.

    `best` is what the method saves there, `worst` where it loses, in words.
    """

    notebook: Notebook
    paper: Paper
    results: Results
    rows: list[ClaimRow]
    parts: list[Results]
    best: str
    worst: str


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
    """Text between the markers: picture, answers and tables of every paper at the scale that `by_scale` finds."""
    return _block(list(_judged()))


def _block(judged: Sequence[Judged]) -> str:
    if not judged:
        return "No results yet: `make reproduce` makes them."
    picture = f"{paths.results().name}/{PICTURE}.png"
    shown = f"![{QUESTION} For, against, open or not run, per paper]({picture})"
    lines = "\n".join(line for found in judged for line in _answer(found))
    tables = (table.markdown().strip() for table in (_counts(judged), _savings(judged)))
    return "\n\n".join((shown, lines, *tables))


def _answer(judged: Judged) -> Iterator[str]:
    """A line with what a method saves, what its paper's claims say and what that is worth; then leading findings."""
    notebook, paper, results, rows, parts, saved, _ = judged
    said = "; ".join(f"{READING_WORDS[reading]}: **{counted(rows, reading)}**" for reading in READINGS)
    yield (
        f"- **[{notebook.title}]({_page(notebook, results.scale)})** *{paper.title}*. **What it saves: {saved}.** Its "
        f"claims at {results.scale} scale ({WORTH[results.scale]}), {said}.{_beside(rows)}"
        f"{unlearned_sentence(results, paper)}"
    )
    yield from (f"  - {told}" for told in _seen(leading(paper, results.scale), paper, results))
    for part in parts:
        told = _seen(named_at(paper.findings, part.scale), paper, part)
        yield from (f"  - At {part.scale} scale, which ran in part: {each}" for each in told)


def _seen(found: Sequence[Finding], paper: Paper, results: Results) -> Iterator[str]:
    """Sentences of the findings that results show, each with the numbers of its least sure test."""
    for finding in found:
        judged = look(finding, paper, results)
        if judged.here == "for" and judged.deciding:
            least = "Least sure of its tests: " if len(judged.evidence) > 1 else ""
            yield f"{finding.text} *{least}{judged.deciding.clause}{judged.deciding.number}.*"


def _beside(rows: list[ClaimRow]) -> str:
    """Which claims are judged on what the paper does not do, so that nobody counts them for its method."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for text in sorted({test.beside for test in row.claim.tests["fair"]} - {""}):
            found.setdefault(text, []).append(row.claim.text.partition(":")[0])
    return "".join(
        f" Fair judges {' and '.join(map(repr, names))} on what the paper does not do: {text}."
        for text, names in found.items()
    )


def _page(notebook: Notebook, scale: str) -> str:
    """The notebook as it ran, where that is kept: the one to read has smoke's outputs."""
    executed = paths.run_dir("results", scale, notebook.paper) / notebook.path.name
    return (executed if executed.exists() else notebook.path).relative_to(paths.ROOT).as_posix()


def _counts(judged: Sequence[Judged]) -> report.Table:
    """Two rows a paper, one a reading."""
    cells = (
        (f"{each.notebook.paper}, {each.results.scale} scale", READING_WORDS[reading], *_by_word(each.rows, reading))
        for each in judged
        for reading in READINGS
    )
    note = (
        "For and against are by the 95 % intervals of our runs, against corrected for several tests, or by counts and "
        "by what holds at every seed; all at their scale. At the paper's protocol a claim is "
        "reproduced or not only where our runs reach its data, length and seeds; what the paper does not state of "
        "these is our choice, and stands in its notebook."
    )
    columns = ("paper", "reading", *HERE, "at the paper's protocol")
    return report.Table("How many claims our runs speak for", columns, tuple(cells), (note,))


def _by_word(rows: list[ClaimRow], reading: Reading) -> Iterator[str]:
    """How many claims say each word here, by kind, and how many what at the paper's protocol."""
    for here in HERE:
        kinds = [row.claim.kinds[reading] for row in rows if row.judgement(reading).here == here]
        yield f"**{len(kinds)}**: {sentences.counts(kinds, KINDS)}" if kinds else "0"
    yield sentences.counts((row.judgement(reading).protocol for row in rows), AT_PROTOCOL)


def _savings(judged: Sequence[Judged]) -> report.Table:
    """A row a paper."""
    rows = ((each.notebook.paper, each.best, each.worst) for each in judged)
    scores = sorted({measures.words(each.paper.report["score"]) for each in judged})
    note = (
        "Best honest saving: what the notebook advises, of the arms that it offers in place of the baseline, chosen on "
        "validation: by FLOPs, or by seconds where steps were timed alone, search and evaluation included, with its "
        f"change in {' or '.join(scores)}. Has not learned: by test accuracy not surely better than logistic "
        "regression, than saying the most frequent class, or than counts of words. Where it loses: the arm of the "
        "method whose drop is the largest of those that surely exceed the margin."
    )
    return report.Table("What it saves", ("paper", "best honest saving", "where it loses"), tuple(rows), (note,))


def _judged() -> Iterator[Judged]:
    for notebook in notebooks():
        results, parts = by_scale(notebook.paper)
        if results:
            paper = papers.load(notebook.paper)
            yield Judged(notebook, paper, results, judge(paper, results), parts, *_best_and_worst(results, paper))


def _bars(judged: Sequence[Judged]) -> dict[str, Counter[Tally]]:
    """Two bars a paper, one a reading, named with the scale."""
    return {
        f"{each.notebook.paper}, {each.results.scale}: {READING_WORDS[reading]}": tally(each.rows, reading)
        for each in judged
        for reading in READINGS
    }


def _best_and_worst(results: Results, paper: Paper) -> tuple[str, str]:
    """Of each data set and model the saving to take, and the arm of the method that surely loses most."""
    baseline, score = paper.report["baseline"], paper.report["score"]
    if not results.where(variant=baseline):
        return NOT_AVAILABLE, NOT_AVAILABLE
    chosen = report.choose(results, paper, baseline=baseline, by=advised_by(results, paper))
    saving = [each.trade for each in chosen if each.decision == "take" and each.trade]
    found = report.trades(results, paper, baseline=baseline, metric=score)
    losing = [trade for trade in found if trade.kept == "against" and trade.variant in paper.report["method"]]
    saved = _by_group(sorted(saving, key=lambda trade: trade.cost.mean)) or f"none shown: {_reasons(chosen)}"
    return saved, _by_group(sorted(losing, key=lambda trade: trade.gain)) or "nowhere shown"


def _reasons(chosen: Sequence[Recommendation]) -> str:
    """What is advised for each data set and model, without the numbers behind it."""
    return "; ".join(f"{each.group}: {each.why.partition(': ')[0]}" for each in chosen)


def _by_group(ranked: Sequence[Trade]) -> str:
    """The first of each data set and model."""
    first: dict[str, Trade] = {}
    for trade in ranked:
        first.setdefault(trade.group, trade)
    return "; ".join(_told(first[group]) for group in sorted(first))


def _told(trade: Trade) -> str:
    change = uncertainty.shown(trade.estimate, trade.metric, difference=True)
    return f"{trade.arm}: {stats.number(trade.cost.mean, 1)} % of the {COST_WORDS[trade.by]}, {change}"


def _replaced(page: Path, text: str) -> str:
    content = page.read_text(encoding="utf-8") if page.exists() else ""
    head, begin, rest = content.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise EffiError(f"{page.name} has no generated part; put the lines {BEGIN} and {END} where it belongs.")
    return f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}"
