"""What would each trick save on this data? A dry run, a budget, the workbook's notebooks, and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from effi import paths, workbook
from effi.advice import remarks, rows
from effi.advice.budget import OVERHEAD_S, Split, fits, refusal, side_by_side, split, stages
from effi.advice.delivery import Models, deliver, timed
from effi.advice.methods import METHODS, Data, Method, data_of
from effi.advice.reading import finished
from effi.advice.rows import Row
from effi.claims import papers
from effi.errors import DataError, EffiError, NotebookError, ParameterError, duration
from effi.records import kept
from effi.report.saving import save
from effi.report.tables import Table
from effi.workbook import answers
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
    """What was found: the sentence on top, the table, what was said on the way, and where records and model lie.

    `ended` says that a method came to an end, and `papers` which did.
    """

    sentence: str
    table: Table
    said: tuple[str, ...]
    results: Path
    papers: tuple[str, ...]
    model: str

    @property
    def ended(self) -> bool:
        """Whether the table tells anything of a method."""
        return bool(self.papers)


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
    DataError before anything runs, and where no method fits the data or the time.
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
    forecast = Forecast(out.absolute() / "forecast.json", named)
    seconds = _seconds(methods, forecast, tell, began + budget / 2)
    left = budget - (time.time() - began)
    plan = split(seconds, left)
    if not plan.seconds:
        raise ParameterError(refusal(seconds, left))
    tell(plan.told(left))
    took = {**seconds, **_run(plan, forecast, results, began + budget, tell, quiet)}
    found = [row for method in took for row in read(method, results, took[method], margin, checkpoint)]
    if simple := floor(plan.seconds, results):
        tell(simple)
    ended, models = [row for row in found if row.arm], Models(results, SCALE)
    if not ended:
        tell(f"No method came to an end in {duration(budget)}. The same command goes on; give it more time.")
    told = {row.arm: row for row in timed(ended, models, out.absolute() / "inference.json")}
    found = [told.get(row.arm, row) for row in found]
    title = f"What would each method save on {where.name}? {SCALE} scale"
    tried = tuple(dict.fromkeys(row.method.paper for row in ended))
    model = deliver(ended, models, out) if ended else "No model is left: none is finished."
    return Advice(rows.recommendation(found), rows.table(found, title, (NOTE,)), tuple(said), results, tried, model)


def read(method: Method, results: Path, seconds: float, margin: float | None, checkpoint: str) -> list[Row]:
    """Rows of a method from what lies on disk; one that says so where it came to no end."""
    paper = rows.with_margin(papers.load(method.paper), margin)
    found = finished(results, SCALE, method.paper)
    told = rows.rows_of(method, found, paper, sunk=bool(checkpoint), seconds=seconds)
    return told or [rows.unfinished(method, found, seconds)]


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


class Forecast:
    """Seconds of one seed of each method on a data set: of a dry run, and of a real one as soon as there was one."""

    def __init__(self, file: Path, dataset: str) -> None:
        self.dataset, self._file = dataset, file
        self._known: dict[str, float] = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def parameters(self, method: Method, seeds: int = 1) -> dict[str, object]:
        """What the method's notebook is given."""
        return _parameters(method, self.dataset, seeds)

    def of(self, method: Method) -> float | None:
        """What is known; None before anything is."""
        return self._known.get(self._key(method))

    def learn(self, method: Method, seconds: float) -> float:
        """Keep what was measured: a command that goes on need not look again."""
        self._known[self._key(method)] = seconds
        save(self._file, json.dumps(self._known, indent=1))
        return seconds

    def _key(self, method: Method) -> str:
        return json.dumps([method.paper, self.parameters(method)], sort_keys=True)


def _seconds(
    methods: list[Method], forecast: Forecast, tell: Callable[[str], None], until: float
) -> Mapping[Method, float]:
    """What one seed of each method takes; one whose notebook refuses the data is passed over with its sentence.

    After the time `until` no further method is looked at once one is known.
    """
    found = dict[Method, float]()
    for method in methods:
        known = forecast.of(method)
        if found and known is None and time.time() > until:
            tell(f"{method.name} is left out: half of the time went into looking; the same command looks at it next.")
            continue
        try:
            found[method] = forecast.learn(method, _looked(method, forecast)) if known is None else known
        except (DataError, ParameterError, NotebookError) as error:
            tell(f"{method.name} is passed over. {error}")
    return found


def _looked(method: Method, forecast: Forecast) -> float:
    plan = workbook.dry_run(method.paper, SCALE, forecast.parameters(method))
    return side_by_side(sum(row["hours"] for row in plan))


def _run(
    plan: Split, forecast: Forecast, results: Path, until: float, tell: Callable[[str], None], quiet: bool
) -> Mapping[Method, float]:
    """Notebooks one after another, until the time is over; what fails is told, and the others go on.

    One seed of every method first: a notebook trains arm by arm, and a time cut short would leave baselines alone.
    Returns the seconds of one seed of each, measured where it was trained just now.
    """
    seconds, had = dict(plan.seconds), dict.fromkeys(plan.seconds, 0)
    for seeds in stages():
        for method in sorted(seconds, key=lambda each: seconds[each]):
            more, began = seeds - had[method], time.time()
            if seeds > 1 and not (had[method] and fits(more, seconds[method], until - began)):
                continue
            ended = _trained(method, forecast.parameters(method, seeds), results, until, tell, quiet)
            if ended == "stopped":
                tell(f"{method.name}: the time was over; what is finished counts, and the same command goes on.")
                return seconds
            if ended == "done":
                had[method] = seeds
                if _all_new(results, method, began):
                    measured = max(1.0, time.time() - began - OVERHEAD_S) / more
                    seconds[method] = forecast.learn(method, measured)
    return seconds


def _trained(
    method: Method,
    parameters: dict[str, object],
    results: Path,
    until: float,
    tell: Callable[[str], None],
    quiet: bool,
) -> str:
    """How the notebook ended: done, failed or stopped; why it failed is told."""
    try:
        (outcome,) = workbook.run(
            [method.paper],
            scale=SCALE,
            parameters=parameters,
            results_dir=str(results),
            quiet=quiet,
            judged=False,
            until=until,
            surroundings={kept.ASKED: ",".join(method.arms)},
        )
    except EffiError as error:
        tell(f"{method.name}: {error}")
        return "failed"
    if outcome.error and outcome.status != "stopped":
        tell(f"{method.name}: {outcome.error}")
    return outcome.status


def _all_new(results: Path, method: Method, began: float) -> bool:
    """Whether the run that just ended trained all its arms; one that kept some took less than a seed takes."""
    counts = answers.read(paths.run_dir(results, SCALE, method.paper) / "progress.json", began)
    return counts.trained > 0 and not counts.kept
