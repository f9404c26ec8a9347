"""Which model is left in the reader's folder, and what of a prediction's time a smaller one saves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from effi import paths
from effi.advice import delivery, predict
from effi.advice.delivery import Models
from effi.advice.methods import METHODS, Method
from effi.advice.rows import Row
from effi.claims import Results
from effi.records import kept
from tests.claims import synthetic

MINIMAL, TICKET, GROWTH, SOUP = METHODS["folder"]
# A computation that takes so many products.
NETWORK = """WEIGHTS = ["weight"]

def forward(self, weight, x):
    for _ in range({times}):
        x = x @ weight
    return (x,)
"""


class Left:
    """Records of seed 0 by paper, and the models beside them."""

    def __init__(self, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models, self.records = Models(results, "cpu"), dict[str, list[dict[str, Any]]]()
        monkeypatch.setattr(delivery, "finished", lambda _, __, paper: Results(self.records.get(paper, [])))

    def model(self, paper: str, arm: str, accuracy: float, *, times: int = 1, seed: int = 0) -> Path:
        scores = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}
        record = {**synthetic.record(arm, seed, **scores), "identity": arm.replace("/", "-")}
        self.records.setdefault(paper, []).append(record)
        place = kept.folder(paths.records_file(self.models.results, "cpu", paper), record["identity"])
        place.mkdir(parents=True)
        eye, x = torch.eye(64), torch.ones(3, 64)
        save_file({"weight": eye}, place / "model.safetensors")
        save_file({"inputs": x, "outputs": x.clone()}, place / "check.safetensors")
        (place / "network.py").write_text(NETWORK.format(times=times))
        (place / "config.json").write_text(json.dumps({"arm": arm}))
        return place


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    return Left(tmp_path / "results", monkeypatch)


def row(method: Method, arm: str, verdict: Any, gain: float = 0.0) -> Row:
    return Row(method, arm.rpartition("/")[0], arm, "kept", "saved", "memory", verdict, "", "why", gain)


def arm_in(out: Path) -> str:
    return str(json.loads((out / "model" / "config.json").read_text())["arm"])


def test_the_recommended_model_is_left_with_a_script_that_loads_it(left: Left, tmp_path: Path) -> None:
    left.model("minimal", "d/mlp-h1", 0.9)
    left.model("minimal", "d/minimum", 0.8)
    found = [row(MINIMAL, "d/minimum", "worth it", 40.0), row(TICKET, "d/vit/structured", "not worth it")]
    said = delivery.deliver(found, left.models, tmp_path)
    assert "holds d/minimum of seed 0, what is recommended" in said and arm_in(tmp_path) == "d/minimum"
    script = [sys.executable, str(tmp_path / "model" / "predict.py"), "--check"]
    told = subprocess.run(script, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("Test examples, 3: outputs at most 0.0e+00")


def test_where_nothing_pays_the_best_plain_baseline_is_left(left: Left, tmp_path: Path) -> None:
    for paper, arm, accuracy in (("minimal", "d/mlp-h1", 0.7), ("early_bird", "d/vit/dense", 0.9)):
        left.model(paper, arm, accuracy)
    found = [row(MINIMAL, "d/minimum", "not worth it"), row(TICKET, "d/vit/structured", "cannot be told")]
    said = delivery.deliver(found, left.models, tmp_path)
    assert "holds d/vit/dense of seed 0, plain training" in said and arm_in(tmp_path) == "d/vit/dense"
    left.records["minimal"][0]["metrics"] = {"validation_loss": 0.01}  # of numbers there is no accuracy
    delivery.deliver(found, left.models, tmp_path)
    assert arm_in(tmp_path) == "d/mlp-h1"


def test_a_model_that_was_not_kept_is_told(left: Left, tmp_path: Path) -> None:
    place = left.model("minimal", "d/mlp-h1", 0.9)
    found = [row(MINIMAL, "d/minimum", "not worth it")]
    (place / kept.WHY_NOT).write_text("ValueError: odd")
    assert delivery.deliver(found, left.models, tmp_path).endswith("could not be written out (ValueError: odd).")
    shutil.rmtree(place)
    assert "give another --out to train it again" in delivery.deliver(found, left.models, tmp_path)
    left.records["minimal"][0]["seed"] = 1
    assert "has not finished at seed 0" in delivery.deliver(found, left.models, tmp_path)
    assert not (tmp_path / "model").exists()


def test_seconds_of_a_prediction_are_measured_once(left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS", 0.2)
    left.model("minimal", "d/mlp-h1", 0.9, times=200)
    left.model("minimal", "d/minimum", 0.8, times=50)
    left.model("instant_soup", "e/dense", 0.8, seed=1)
    same, whole, gone = (
        row(GROWTH, "d/vit/copy", "worth it"),
        row(MINIMAL, "d/minimum", "worth it"),
        row(SOUP, "e/isp", "worth it"),
    )
    file = tmp_path / "inference.json"
    told = delivery.timed([same, whole, gone], left.models, file)
    ((mean, low, high),) = json.loads(file.read_text()).values()
    assert 60 < low <= mean <= high < 90 and told[1].cells[3] == f"{mean:.1f} % [{low:.1f}, {high:.1f}]"
    assert told[0].cells[3] == "none: the same model" and told[2].cells[3] == "none: zeros are multiplied, too"
    monkeypatch.setattr(delivery, "saving", lambda *_: pytest.fail("measured again"))
    assert delivery.timed([whole], left.models, file)[0].inference == told[1].inference


def test_images_are_read_as_in_the_run(tmp_path: Path) -> None:
    from PIL import Image

    from effi import data
    from tests.advice.test_advising import images

    folder = images(tmp_path / "data", 4)
    one = data.load(f"folder:{folder}", size=9)
    reads = kept._images(one)
    mine = torch.cat([predict.image(str(file), reads) for file in sorted(folder.rglob("*.png"))])
    theirs = torch.cat([one.prepare(part.inputs) for part in one.splits.values()])
    assert sorted(mine.flatten(1).sum(1).tolist()) == pytest.approx(sorted(theirs.flatten(1).sum(1).tolist()))
    Image.new("RGBA", (30, 20), (200, 10, 10, 0)).save(tmp_path / "other.png")
    assert predict.image(str(tmp_path / "other.png"), reads).shape == (1, 1, 9, 9)
