"""What would each trick save on this data? A dry run, a budget, the workbook's notebooks, and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from effi import workbook
from effi.advice import remarks, rows
from effi.advice.budget import Split, counted, refusal, side_by_side, split
from effi.advice.delivery import Models, deliver, timed
from effi.advice.methods import METHODS, Data, Method, data_of
from effi.advice.reading import finished
from effi.advice.rows import Row
from effi.claims import papers
from effi.errors import DataError, EffiError, NotebookError, ParameterError, duration
from effi.records import kept
from effi.report.saving import save
from effi.report.tables import Table
from effi.workbook.batch import prepare
from effi.workbook.notebook import find

SCALE = "cpu"
# Arms of every notebook that learn next to nothing.
SIMPLE = {
    "majority": "the most frequent class",
    "logistic": "logistic regression",
    "unigram": "counts of tokens",
    "bigram": "counts of pairs of tokens",
}
NOTE = (
    "Each method beside its own baseline, trained here, so that two methods do not compare by what they keep. Chosen "
    "on validation, told on test: mean [95 % interval] over seeds. Seconds with search and source, of trainings side "
    "by side or of steps timed alone where a notebook times them. Inference: of one thread "
    "for 32 test examples, models of seed 0 in turn, median [95 % interval] over rounds."
)


@dataclass(frozen=True)
class Advice:
    """What was found: the sentence on top, the table, what was said on the way, and where records and model lie."""

    sentence: str
    table: Table
    said: tuple[str, ...]
    results: Path
    papers: tuple[str, ...]
    model: str


def advise(
    dataset: str,
    *,
    budget: float,
    out: Path,
    margin: float | None = None,
    checkpoint: str = "",
    say: Callable[[str], None],
    quiet: bool = False,
) -> Advice:
    """Try every method that fits the data within `budget` seconds; what is recorded in `out` is kept and counts.

    `margin` is what may be lost, in points of accuracy or nats of loss (None: each paper's). ParameterError and
    DataError before anything runs; NotebookError where nothing could be tried.
    """
    began, (kind, path) = time.time(), data_of(dataset)
    where = Path(path).expanduser().absolute()
    methods = _fitting(kind, checkpoint)
    named, results = f"{kind}:{where}", out.absolute() / "results"
    for method in methods:  # what is wrong is refused before anything runs
        (notebook,) = find([method.paper])
        prepare(notebook, SCALE, _parameters(method, named, 1), str(results))
    said = list[str]()

    def tell(text: str) -> None:
        said.append(text)
        say(text)

    for remark in remarks.remarks(kind, where):
        tell(remark)
    say("Looking at how long each method takes, for half of the time at most ...")
    seconds = _seconds(methods, named, out.absolute() / "forecast.json", tell, began + budget / 2)
    left = budget - (time.time() - began)
    plan = split(seconds, left)
    if not plan.seeds:
        raise ParameterError(refusal(seconds, left))
    tell(plan.told(left))
    _run(plan, named, results, began + budget, tell, quiet)
    found = [row for method in plan.seconds for row in read(method, results, plan.seconds[method], margin, checkpoint)]
    if simple := floor(plan.seconds, results):
        tell(simple)
    if not found:
        raise NotebookError(
            f"No method came to an end in {duration(budget)}; run it again with a --budget of twice as long: {results} "
            f"keeps what is done. {simple}".strip()
        )
    models = Models(results, SCALE)
    found = timed(found, models, out.absolute() / "inference.json")
    title = f"What would each method save on {where.name}? {SCALE} scale, up to {counted(plan.seeds)}"
    tried = tuple(dict.fromkeys(row.method.paper for row in found))
    table, model = rows.table(found, title, (NOTE,)), deliver(found, models, out)
    return Advice(rows.recommendation(found), table, tuple(said), results, tried, model)


def read(method: Method, results: Path, seconds: float, margin: float | None, checkpoint: str) -> list[Row]:
    """Rows of a method from what lies on disk; none where its baseline has no record."""
    paper = rows.with_margin(papers.load(method.paper), margin)
    found = finished(results, SCALE, method.paper)
    return rows.rows_of(method, found, paper, sunk=bool(checkpoint), seconds=seconds)


def floor(methods: Iterable[Method], results: Path) -> str:
    """What simple ways reach on the data, on which a model must improve; empty before one was tried."""
    told = dict[str, str]()
    for method in methods:
        found, metric = finished(results, SCALE, method.paper), papers.load(method.paper).report["score"]
        for arm in found.arms:
            name = found.label(arm)
            if name in SIMPLE and found.holds(arm, metric):
                told.setdefault(SIMPLE[name], rows.reached([*found.seeds(arm).values()], metric))
    return f"Simple ways reach: {', '.join(f'{name} {value}' for name, value in told.items())}." if told else ""


def _fitting(kind: Data, checkpoint: str) -> list[Method]:
    if not checkpoint:
        return list(METHODS[kind])
    growing = [method for method in METHODS[kind] if method.paper == "ligo"]
    if kind != "text":
        raise ParameterError("--model is a GPT-2 to be grown, which reads text: give text:PATH with it.")
    return [replace(each, parameters={**each.parameters, "checkpoint": checkpoint}) for each in growing]


def _parameters(method: Method, dataset: str, seeds: int) -> dict[str, object]:
    return {"dataset": dataset, "only": method.arms, "seeds": list(range(seeds)), **method.parameters}


def _seconds(
    methods: list[Method], dataset: str, file: Path, tell: Callable[[str], None], until: float
) -> Mapping[Method, float]:
    """What one seed of each method takes; one whose notebook refuses the data is passed over with its sentence.

    What was measured for the same parameters is read from `file`: a command that goes on need not look again. After
    the time `until` no further method is looked at once one is known.
    """
    known: dict[str, float] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found = dict[Method, float]()
    for method in methods:
        parameters = _parameters(method, dataset, 1)
        key = json.dumps([method.paper, parameters], sort_keys=True)
        if found and key not in known and time.time() > until:
            tell(f"{method.name} is left out: half of the time went into looking; the same command looks at it next.")
            continue
        try:
            if key not in known:
                plan = workbook.dry_run(method.paper, SCALE, parameters)
                known[key] = side_by_side(sum(row["hours"] for row in plan))
                save(file, json.dumps(known, indent=1))
        except (DataError, ParameterError, NotebookError) as error:
            tell(f"{method.name} is passed over. {error}")
            continue
        found[method] = known[key]
    return found


def _run(plan: Split, dataset: str, results: Path, until: float, tell: Callable[[str], None], quiet: bool) -> None:
    """Notebooks one after another, until the time is over; what fails is told, and the others go on.

    One seed of every method first: a notebook trains arm by arm, and a time cut short would leave baselines alone.
    """
    methods = sorted(plan.seconds, key=lambda each: plan.seconds[each])
    for seeds, method in ((seeds, method) for seeds in sorted({1, plan.seeds}) for method in methods):
        try:
            (outcome,) = workbook.run(
                [method.paper],
                scale=SCALE,
                parameters=_parameters(method, dataset, seeds),
                results_dir=str(results),
                quiet=quiet,
                judged=False,
                until=until,
                surroundings={kept.ASKED: ",".join(method.arms)},
            )
        except EffiError as error:
            tell(f"{method.name}: {error}")
            continue
        if outcome.status == "stopped":
            tell(f"{method.name}: the time was over; what is finished counts, and the same command goes on.")
            return
        if outcome.error:
            tell(f"{method.name}: {outcome.error}")
