"""The parts of README.md and START.md that are drawn from results, rewritten by `effi report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from effi.report.saving import save
from effi.report.trades import COST_WORDS, advised_by, unlearned, unlearned_sentence
from effi.workbook import Notebook, notebooks

NO_RESULTS = "No results yet: `make reproduce` makes them."
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
    """Rewrite the generated parts and the picture, and say which is first; EffiError when a page lacks markers."""
    found = list(_judged())
    fresh = {page: _replaced(page, texts) for page, texts in _pages(found).items()}
    if found:
        report.style()
        report.save_figure(report.verdict_bars(_bars(found), title=QUESTION), paths.results(), PICTURE)
    for page, content in fresh.items():
        save(page, content)
    return paths.readme()


def is_fresh() -> bool:
    """Whether the generated parts of the pages are what the results give; EffiError when one lacks markers."""
    pages = _pages(list(_judged()))
    return all(_replaced(page, texts) == page.read_text(encoding="utf-8") for page, texts in pages.items())


def _pages(judged: Sequence[Judged]) -> dict[Path, dict[str, str]]:
    """The front page, and where there is one the page on which JupyterLab opens."""
    front = paths.readme()
    start = front.with_name("START.md")
    lines = "\n\n".join(_begun(each) for each in judged) or NO_RESULTS
    return {front: _parts(judged), **({start: {"start": lines}} if start.exists() else {})}


def _begun(judged: Judged) -> str:
    """A paper's question, its notebook, and the gist of the findings that lead and that its results show."""
    first = leading(judged.paper, judged.results.scale)
    seen = [each.short or each.text for each in first if look(each, judged.paper, judged.results).here == "for"]
    page, scale = judged.notebook.path.relative_to(paths.ROOT).as_posix(), judged.results.scale
    said = "\n".join(f"- {each}" for each in seen or ["Nothing is sure yet."])
    return f"**[{judged.notebook.title}]({page})** *At {scale} scale: {WORTH[scale]}.*\n\n{said}"


def parts() -> dict[str, str]:
    """Name of a generated part -> its text: "results" for the first screen, "findings" with what carries them.

    Each paper is shown at the scale that `by_scale` finds.
    """
    return _parts(list(_judged()))


def _parts(judged: Sequence[Judged]) -> dict[str, str]:
    if not judged:
        return dict.fromkeys(("results", "findings"), NO_RESULTS)
    picture = f"![{QUESTION} For, against, open or not run, per paper]({paths.results().name}/{PICTURE}.png)"
    lines = "\n".join(line for found in judged for line in _answer(found))
    return {
        "results": f"{picture}\n\n{_overview(judged).markdown().strip()}",
        "findings": f"{lines}\n\n{_counts(judged).markdown().strip()}",
    }


def _answer(judged: Judged) -> Iterator[str]:
    """A line with the paper, what our scale is worth and what stands beside its claims; then leading findings."""
    notebook, paper, results, rows, parts, *_ = judged
    yield (
        f"- **{notebook.title}** *{paper.title}*, at {results.scale} scale ({WORTH[results.scale]}).{_beside(rows)}"
        f"{unlearned_sentence(results, paper)}"
    )
    yield from (f"  - {told}" for told in _seen(leading(paper, results.scale), paper, results))
    for part in parts:
        told = _seen(named_at(paper.findings, part.scale), paper, part)
        yield from (f"  - *At {part.scale} scale, which ran in part.* {each}" for each in told)


def _seen(found: Sequence[Finding], paper: Paper, results: Results) -> Iterator[str]:
    """Sentences of the findings that results show, each with the numbers of its least sure test."""
    for finding in found:
        judged = look(finding, paper, results)
        if judged.here == "for" and judged.deciding:
            least = "Of its tests that which holds most narrowly: " if len(judged.evidence) > 1 else ""
            gist = f"**{finding.short}** " if finding.short else ""
            yield f"{gist}{finding.text} *{least}{judged.deciding.clause}{judged.deciding.number}.*"


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


def _overview(judged: Sequence[Judged]) -> report.Table:
    """A row a paper: what its claims say, what it saves and where it loses."""
    rows = (
        (
            f"[{each.notebook.title}]({_page(each.notebook, each.results.scale)})",
            each.results.scale,
            *(counted(each.rows, reading) for reading in READINGS),
            each.best,
            each.worst,
        )
        for each in judged
    )
    scores = sorted({measures.words(each.paper.report["score"]) for each in judged})
    note = (
        "Best honest saving: what the notebook advises, of the arms that it offers in place of the baseline, chosen on "
        "validation: by FLOPs, or by seconds where steps were timed alone, search and evaluation included, with its "
        f"change in {' or '.join(scores)}. Where all arms train as long as scratch: until they have its last "
        "validation loss, the source's training paid, of arms that have it at every seed. Has not learned: by test "
        "accuracy not surely better than logistic regression, than saying the most frequent class, or than counts of "
        "words. Where it loses: the arm of the method whose drop is the largest of those that surely exceed the "
        "margin, or that surely costs until then."
    )
    readings = (READING_WORDS[reading] for reading in READINGS)
    columns = ("notebook, as it ran", "scale", *readings, "best honest saving", "where it loses")
    return report.Table("What our runs say", columns, tuple(rows), (note,))


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
    if "savings" in paper.report:
        return _until_a_target(results, paper)
    chosen = report.choose(results, paper, baseline=baseline, by=advised_by(results, paper))
    saving = [each.trade for each in chosen if each.decision == "take" and each.trade]
    found = report.trades(results, paper, baseline=baseline, metric=score)
    losing = [trade for trade in found if trade.kept == "against" and trade.variant in paper.report["method"]]
    saved = _by_group(sorted(saving, key=lambda trade: trade.cost.mean)) or f"none shown: {_reasons(chosen)}"
    return saved, _by_group(sorted(losing, key=lambda trade: trade.gain)) or "nowhere shown"


def _until_a_target(results: Results, paper: Paper) -> tuple[str, str]:
    """The same of a paper whose arms all train as long: what each saves until it is as good as the baseline."""
    baseline = paper.report["baseline"]
    groups = [results.group(arm) for arm in results.pairs(baseline)]
    told = {group: report.ligo.best_and_worst(results, group, paper) for group in groups}
    hazy, but = unlearned(results, paper), f" (but {baseline} has not learned)"
    saving = [f"{saves}{but * (group in hazy)}" for group, (saves, _) in told.items() if saves]
    losing = [loses for _, loses in told.values() if loses]
    return "; ".join(saving) or "none surely", "; ".join(losing) or "nowhere shown"


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


def _replaced(page: Path, texts: Mapping[str, str]) -> str:
    content = page.read_text(encoding="utf-8") if page.exists() else ""
    for name, text in texts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, opened, rest = content.partition(begin)
        _, closed, tail = rest.partition(end)
        if not (opened and closed):
            raise EffiError(f"{page.name} lacks a generated part; put the lines {begin} and {end} where it belongs.")
        content = f"{head}{begin}\n{text.strip()}\n{end}{tail}"
    return content
