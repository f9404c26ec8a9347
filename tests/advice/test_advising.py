"""The command from own images to a table, with a real notebook and a training of one epoch."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from effi import advice, data, workbook
from effi.advice import advising, predict
from effi.advice.budget import OVERHEAD_S, Split
from effi.advice.methods import METHODS
from effi.claims import Results
from effi.errors import ParameterError

MINIMAL = METHODS["folder"][0]


def images(folder: Path, count: int = 40) -> Path:
    """Two classes, light and dark, with noise."""
    draw = np.random.default_rng(0)
    for place in range(2 * count):
        path = folder / ("dark", "light")[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 120, (16, 16)) + 120 * (place % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


class Calls:
    """What the workbook is asked for: dry runs get an answer, runs are made unless they are made already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dry, self.real, run = list[Any](), list[Any](), workbook.run

        def planned(paper: str, scale: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
            self.dry.append((paper, scale, dict(parameters)))
            return [{"hours": 0.001}]

        def executed(papers: list[str], **how: Any) -> Any:
            made, how["until"] = how in self.real, None
            self.real.append(how)
            return [workbook.Outcome("minimal", "done", 0.0)] if made else run(papers, **{**how, "until": math.inf})

        monkeypatch.setattr(workbook, "dry_run", planned)
        monkeypatch.setattr(workbook, "run", executed)


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One arm beside the baseline, at one seed, in an epoch and in the notebook's own process."""
    quick = replace(MINIMAL, offered=("mlp-small",), parameters={"training": {"epochs": 1}})
    monkeypatch.setattr(advising, "METHODS", {"folder": (quick,)})
    monkeypatch.setattr("effi.advice.budget.MOST_SEEDS", 1)
    monkeypatch.setattr("effi.advice.delivery.SECONDS", 0.5)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


@pytest.mark.slow
def test_own_images_end_in_a_table_and_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    calls = Calls(monkeypatch)
    said, how = list[str](), {"budget": 1e4, "out": tmp_path / "out", "quiet": True}
    folder = images(tmp_path / "data")
    found = advice.advise(f"folder:{folder}", say=said.append, **how)
    (row,) = found.table.rows
    assert row[0] == "smaller or without MLP: mlp-small" and "test accuracy" in row[1] and "not available" not in row
    assert re.fullmatch(r"-?[\d.]+ % \[-?[\d.]+, -?[\d.]+\]", row[3])
    assert row[-1].startswith(("cannot be told", "not worth it", "worth it"))
    plan, simple = said[-2:]
    assert plan.startswith("A seed of each") and "logistic regression test accuracy" in simple
    page = advice.save(found, tmp_path / "out").read_text("utf-8")
    assert page.count(found.sentence) == page.count(found.model) == 1
    the_model_is_that_of_the_run(tmp_path / "out", folder)
    again = advice.advise(f"folder:{folder}", say=said.append, **how)
    # The same notebook with the same parameters trains nothing again, and what it takes was looked at once.
    assert again.table.rows == found.table.rows and calls.real[0] == calls.real[1] and len(calls.real) == 2
    (dry,) = calls.dry
    assert dry == ("minimal", "cpu", calls.real[0]["parameters"])


def the_model_is_that_of_the_run(out: Path, folder: Path) -> None:
    """What lies in out/model has the recorded loss on the test split, and its script tells as much of an image."""
    model = predict.Model(out / "model")
    subset = model.config["settings"]["data"]["subset"]
    one = data.load(f"folder:{folder}", size=subset["size"], validation=subset["validation"])
    outputs = model(one.prepare(one.test.inputs))
    recorded = Results.read(out / "results", "cpu", "minimal").seeds(model.config["arm"])[0]["metrics"]
    loss = torch.nn.functional.cross_entropy(outputs, one.test.labels)
    assert loss.item() == pytest.approx(recorded["test_loss"], abs=1e-5)
    file = str(folder / "light" / "1.png")
    shares = model(predict.image(file, model.config["inputs"])).softmax(-1)[0]
    script = [sys.executable, "-I", str(out / "model" / "predict.py"), file]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"{shares.max():.4f} {one.classes[int(shares.argmax())]}\n")


def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    how: dict[str, Any] = {"budget": 60.0, "out": tmp_path / "out", "say": print}
    for dataset, sentence in (
        ("images", "put folder:, csv: or text:"),
        (f"folder:{images(tmp_path / 'data', 2)}", "--model is a GPT-2 to be grown"),
    ):
        with pytest.raises(ParameterError, match=sentence):
            advice.advise(dataset, checkpoint="somewhere", **how)
    assert not (tmp_path / "out").exists()


class Clock:
    """Seconds that notebooks take, and what each is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, results: Path, takes: Mapping[str, float]) -> None:
        self.now, self.asked, self.results, self.takes = 0.0, list[Any](), results, takes
        monkeypatch.setattr(advising.time, "time", lambda: self.now)
        monkeypatch.setattr(workbook, "run", self.executed)

    def executed(self, papers: list[str], *, parameters: dict[str, Any], until: float, **_: Any) -> list[Any]:
        (paper,) = papers
        had = sum(each[0] == paper for each in self.asked)
        self.asked.append((paper, len(parameters["seeds"])))
        self.now += OVERHEAD_S + self.takes[paper] * (len(parameters["seeds"]) - (0, 1, 3)[had])
        folder = self.results / "cpu" / paper
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "progress.json").write_text(f'{{"trained": 2, "kept": {had}}}')
        return [workbook.Outcome(paper, "stopped" if self.now > until else "done", 0.0)]


def test_one_seed_of_each_comes_first_and_more_by_what_the_first_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    _, ticket, growth, _ = METHODS["folder"]
    clock = Clock(monkeypatch, tmp_path, {"minimal": 20.0, "ligo": 300.0})
    forecast = advising.Forecast(tmp_path / "forecast.json", "folder:data")
    # Growth is said to be quickest and takes fifteen times as long: two seeds more would not fit any more.
    plan = Split({growth: 9.0, MINIMAL: 20.0}, (ticket,))
    took = advising._run(plan, forecast, tmp_path, 900.0, said.append, True)
    assert clock.asked == [("ligo", 1), ("minimal", 1), ("minimal", 3), ("minimal", 5)] and not said
    assert took == {growth: 300.0, MINIMAL: 20.0}
    again = advising.Forecast(tmp_path / "forecast.json", "folder:data")
    assert again.of(growth) == 300.0 and again.of(ticket) is None


def test_a_time_that_is_over_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, growth = list[str](), METHODS["folder"][2]
    clock = Clock(monkeypatch, tmp_path, {"minimal": 1.0, "ligo": 300.0})
    forecast = advising.Forecast(tmp_path / "forecast.json", "folder:data")
    advising._run(Split({growth: 9.0, MINIMAL: 1.0}, ()), forecast, tmp_path, 200.0, said.append, True)
    assert clock.asked == [("minimal", 1), ("ligo", 1)] and forecast.of(growth) is None
    assert said == ["growth: the time was over; what is finished counts, and the same command goes on."]


def test_where_no_method_ends_there_is_a_page_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, tmp_path / "out" / "results", {"minimal": 1e6})
    monkeypatch.setattr(advising, "METHODS", {"folder": (MINIMAL,)})
    monkeypatch.setattr(workbook, "dry_run", lambda *_: [{"hours": 0.001}])
    said = list[str]()
    folder = images(tmp_path / "data", 12)
    found = advice.advise(f"folder:{folder}", budget=600.0, out=tmp_path / "out", say=said.append, quiet=True)
    assert not found.ended and found.sentence == "Nothing can be told in this time; until it can, train as you do."
    ((name, kept, *_, verdict),) = found.table.rows
    assert (name, kept) == ("smaller or without MLP", "0 of 5 arms finished")
    assert verdict.startswith("cannot be told: 1 more seed, about ")
    page = advice.save(found, tmp_path / "out").read_text("utf-8")
    assert "No method came to an end in 10 min 00 s. The same command goes on; give it more time." in page
