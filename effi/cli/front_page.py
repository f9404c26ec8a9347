"""The part of README.md that is drawn from results: a table and a picture, rewritten by `effi report`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from effi import claims, paths, report
from effi.claims import measures, papers, stats
from effi.claims.measures import Record, Unit
from effi.claims.papers import KINDS, NOT_AVAILABLE
from effi.claims.stats import Interval
from effi.errors import EffiError
from effi.records import store
from effi.workbook import SCALES, Notebook, notebooks

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURE = "verdicts"
# Smoke runs test invariants: their verdicts say nothing about a claim.
JUDGED = SCALES[1:]


@dataclass(frozen=True)
class Trade:
    """What an arm costs and loses beside the baseline of its data set: FLOPs in %, score in its unit."""

    arm: str
    flops: float
    change: Interval
    unit: Unit
    margin: float
    n: int

    def __str__(self) -> str:
        cost = f"{stats.number(self.flops, 1)} % of the FLOPs"
        return f"{self.arm}: {cost}, {stats.measured(self.change, self.n, self.unit.name, self.unit.digits)}"


def write() -> Path:
    """Rewrite the generated part and the picture, and say which file; EffiError when the page has no markers."""
    found = list(_judged())
    page = paths.readme()
    fresh = _replaced(page, block())
    if found:
        report.style()
        counts = {f"{notebook.paper}, {scale}": claims.count(rows) for notebook, scale, _, rows in found}
        figure = report.verdict_bars(counts, title="Which claims hold, as the papers tested them?")
        report.save_figure(figure, paths.results(), PICTURE)
    page.write_text(fresh, encoding="utf-8")
    return page


def is_fresh() -> bool:
    """Whether the generated part of the page is what the results give; EffiError when it has no markers."""
    page = paths.readme()
    return _replaced(page, block()) == page.read_text(encoding="utf-8")


def block() -> str:
    """Text between the markers: picture and table of every paper at every scale that has records."""
    judged = list(_judged())
    rows = tuple(_row(*found) for found in judged)
    if not rows:
        return "No results yet: `make reproduce` makes them."
    counted = "reproduced / not / inconclusive"
    kinds = (f"as in the paper: {counted}", f"fair: {counted}")
    columns = ("paper", "scale", *kinds, "best honest saving", "where it loses", "notebook")
    scores = sorted({papers.load(notebook.paper).report["score"].replace("_", " ") for notebook, *_ in judged})
    notes = (
        f"Best honest saving: the fewest training FLOPs, search included, whose 95 % interval of the change in "
        f"{' or '.join(scores)} stays above the margin. Where it loses: the largest drop whose interval lies below "
        f"the margin.",
    )
    table = report.Table("Results", columns, rows, notes)
    picture = f"{paths.results().name}/{PICTURE}.png"
    return f"![Claims reproduced, not reproduced and inconclusive, per paper]({picture})\n\n{table.markdown()}"


def trades(paper: str, records: Sequence[Record]) -> list[Trade]:
    """Every arm beside the baseline of its data set, on the seeds that both have."""
    loaded, runs = papers.load(paper), measures.by_arm(records)
    score, unit = loaded.report["score"], measures.unit(loaded.report["score"], difference=True)
    found = []
    for arm, seeds in runs.items():
        base = runs.get(f"{measures.dataset(arm)}/{loaded.report['baseline']}".removeprefix("/"), {})
        both = [(seeds[s], base[s]) for s in seeds if s in base and all(_holds(r, score) for r in (seeds[s], base[s]))]
        if both and base is not seeds:
            changes = [unit.factor * (measures.value(a, score) - measures.value(b, score)) for a, b in both]
            flops = [100 * measures.value(a, "cost.flops") / measures.value(b, "cost.flops") for a, b in both]
            margin, mean = loaded.margin(loaded.report["margin"], arm), sum(flops) / len(flops)
            found.append(Trade(arm, mean, stats.interval(changes), unit, margin, len(both)))
    return found


def _holds(record: Record, score: str) -> bool:
    return score in record["metrics"] and bool(record["cost"].get("flops"))


def _judged() -> Iterator[tuple[Notebook, str, list[Record], list[claims.ClaimRow]]]:
    for notebook in notebooks():
        for scale in JUDGED:
            if records := store.current(paths.records_file(paths.results(), scale, notebook.paper)):
                yield notebook, scale, records, claims.judge(notebook.paper, records)


def _row(notebook: Notebook, scale: str, records: list[Record], rows: list[claims.ClaimRow]) -> tuple[str, ...]:
    found = trades(notebook.paper, records)
    kept = [trade for trade in found if trade.change.low > -trade.margin and trade.flops < 100]
    lost = [trade for trade in found if trade.change.high < -trade.margin]
    counts = (" / ".join(map(str, claims.count(rows, kind).values())) for kind in KINDS)
    best = _per_dataset(sorted(kept, key=lambda trade: trade.flops), "none shown" if found else NOT_AVAILABLE)
    worst = _per_dataset(sorted(lost, key=lambda trade: trade.change.mean), "nowhere shown" if found else NOT_AVAILABLE)
    link = f"[{notebook.path.name}](notebooks/{notebook.path.name})"
    return (papers.load(notebook.paper).title, scale, *counts, best, worst, link)


def _per_dataset(ranked: Sequence[Trade], otherwise: str) -> str:
    """The first of each data set."""
    first: dict[str, Trade] = {}
    for trade in ranked:
        first.setdefault(measures.dataset(trade.arm), trade)
    return "; ".join(str(first[dataset]) for dataset in sorted(first)) or otherwise


def _replaced(page: Path, text: str) -> str:
    content = page.read_text(encoding="utf-8") if page.exists() else ""
    head, begin, rest = content.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise EffiError(f"{page.name} has no generated part; put the lines {BEGIN} and {END} where it belongs.")
    return f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}"
