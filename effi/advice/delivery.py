"""The model that is recommended, in a folder of its own; and how much sooner a smaller one predicts."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import torch
from scipy.stats import quantile_test

from effi import paths
from effi.advice import predict, rows
from effi.advice.reading import finished
from effi.advice.rows import Row
from effi.claims import stats
from effi.claims.stats import Interval
from effi.cost import measure
from effi.errors import RecordError
from effi.records import kept
from effi.report.saving import save

BATCH = 32
ROUNDS, FEWEST, SECONDS = 200, 9, 4.0


@dataclass(frozen=True)
class Models:
    """The models that arms of seed 0 left beside their records."""

    results: Path
    scale: str

    def of(self, paper: str, arm: str) -> Path:
        """The folder of an arm's model. RecordError where it left none."""
        seeds = finished(self.results, self.scale, paper).seeds(arm)
        if kept.SEED not in seeds:
            raise RecordError(f"{arm} has not finished at seed {kept.SEED}, whose model is kept: run it again")
        records = paths.records_file(self.results, self.scale, paper)
        place = kept.folder(records, seeds[kept.SEED]["identity"])
        if (place / kept.WHY_NOT).exists():
            raise RecordError(f"{arm} could not be written out ({(place / kept.WHY_NOT).read_text('utf-8')})")
        if not place.exists():
            raise RecordError(f"{arm} was trained without keeping its model: give another --out to train it again")
        return place

    def plain(self, found: Sequence[Row]) -> Row:
        """The row whose baseline is best on validation."""
        runs = [finished(self.results, self.scale, row.method.paper) for row in found]
        pairs = [(run, row.baseline) for run, row in zip(runs, found, strict=True)]
        by = "accuracy" if all(run.holds(arm, "validation_accuracy") for run, arm in pairs) else "loss"
        sign = -1 if by == "loss" else 1
        worth = [sign * fmean(run.values(arm, f"validation_{by}")) for run, arm in pairs]
        return found[worth.index(max(worth))]


def deliver(found: Sequence[Row], models: Models, out: Path) -> str:
    """Put what is recommended into out/model with a script that loads it, and say what it is.

    Where no method pays that is the plain baseline which is best on validation.
    """
    best = rows.best(found)
    row = best or models.plain(found)
    arm = row.arm if best else row.baseline
    why = "what is recommended" if best else "plain training, of the baselines the best on validation"
    try:
        place = models.of(row.method.paper, arm)
    except RecordError as error:
        return f"No model is left: {error}."
    _copy(place, out / "model")
    return f"{out / 'model'} holds {arm} of seed {kept.SEED}, {why}; {out / 'model' / 'predict.py'} loads it."


def _copy(place: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        shutil.copytree(place, half)
        shutil.copy(predict.__file__, half / "predict.py")
        shutil.rmtree(target, ignore_errors=True)
        half.rename(target)
    except OSError as error:
        raise RecordError(f"{target} cannot be written ({error.strerror}): free space there") from error


# --- how long a prediction takes -----------------------------------------------------------------------------


def timed(found: Sequence[Row], models: Models, file: Path) -> list[Row]:
    """Rows with the seconds of a prediction that they save, where the model is another one and was kept.

    What was measured for the same two models is read from `file`.
    """
    known: dict[str, list[float]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    told = []
    for row in found:
        if row.method.model != "same":
            try:
                pair = [models.of(row.method.paper, arm) for arm in (row.baseline, row.arm)]
            except RecordError:
                told.append(row)
                continue
            key = "/".join(place.name for place in pair)
            if key not in known:
                known[key] = list(saving(*pair))
                save(file, json.dumps(known, indent=1))
            row = replace(row, inference=stats.measured(Interval(*known[key]), ROUNDS, "%", 1))
        told.append(row)
    return told


def saving(baseline: Path, arm: Path) -> Interval:
    """What of the seconds of a batch a model saves beside another, in %: median over rounds, with a 95 % interval.

    Seconds of one thread at work, which others on the machine hardly move.
    """
    steps = {"baseline": _batch(baseline), "arm": _batch(arm)}
    with _one_thread():
        # Of fewer rounds the median has no interval.
        least = measure(steps, repeats=FEWEST, budget_s=math.inf, clock=_at_work)
        more = measure(steps, repeats=ROUNDS - FEWEST, budget_s=SECONDS, clock=_at_work)
    seconds = {name: [*least[name], *more[name]] for name in steps}
    saved = [100 * (1 - own / other) for own, other in zip(seconds["arm"], seconds["baseline"], strict=True)]
    bounds = quantile_test(saved, p=0.5).confidence_interval(0.95)
    return Interval(median(saved), bounds.low, bounds.high)


def _batch(place: Path) -> Callable[[], object]:
    model = predict.Model(place)
    inputs = predict.checked(model)["inputs"]
    x = inputs[torch.arange(BATCH) % len(inputs)]
    return lambda: model(x)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _at_work(step: Callable[[], object]) -> float:
    start = time.thread_time()
    step()
    return time.thread_time() - start
