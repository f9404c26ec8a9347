"""`effi run --processes 2`: notebooks whose trainings two processes share, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from effi import paths
from effi.errors import ParameterError
from effi.records import store
from effi.workbook import Outcome, run, together
from tests.workbook.tiny import PARAMETERS, cell, write

TRAINS = """
import os, signal
from pathlib import Path
from effi.records import Run
from effi.training import Training, fit
from tests.training.tiny import images, vit

run = Run("trained", scale, results_dir=results_dir, uses=["effi.seeds"])

def train(arm):
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and arm.seed:
        os.kill(os.getpid(), signal.SIGKILL)
    (history,) = fit(vit(), images(), arm.settings, seeds=arm.seeds, ledger=arm.ledger, checkpoint=arm.checkpoint)
    arm.record({"loss": history.curves["validation_loss"][-1]})

run.each(train, {"one": Training(steps=6, batch_size=13, **training)}, [0, 1], jobs=2, together=2)
"""
AFTER = """
Path(results_dir, f"after-{os.environ['RANK']}").touch()
run.derived("both", lambda rows: {"rows": len(rows)}, of=run.records())
print(len(run.records()), "records")
"""
WITH_TRAINING = PARAMETERS + "training: dict = {}\n"
TOGETHER = {"training": {"parallel": "ddp"}}


def executed(folder: Path, results: Path, **options: Any) -> Outcome:
    """The outcome of the one notebook of a folder."""
    root = {"PYTHONPATH": str(paths.ROOT)}
    (outcome,) = run(
        scale="cpu", results_dir=str(results), quiet=True, folder=folder, surroundings=root, processes=2, **options
    )
    return outcome


@pytest.mark.slow
def test_two_processes_make_the_arms_and_one_the_rest_also_after_a_kill(tmp_path: Path) -> None:
    folder, results = tmp_path / "notebooks", tmp_path / "results"
    write(folder / "1_trained.ipynb", cell(TRAINS, "run"), AFTER, parameters=WITH_TRAINING)
    outcome = executed(folder, results, parameters=TOGETHER)
    assert (outcome.status, outcome.error) == ("done", None)
    rows = store.records(paths.records_file(results, "cpu", "trained"))
    assert [(row["arm"], row["seed"], row["status"]) for row in rows] == [
        ("one", 0, "done"),
        ("one", 1, "done"),
        ("both", 0, "done"),
    ]
    assert [row["provenance"].get("processes") for row in rows] == [2, 2, None]
    assert [path.name for path in results.glob("after-*")] == ["after-0"]
    kept = json.loads((results / "cpu" / "trained" / "1_trained.ipynb").read_text())
    assert "".join(kept["cells"][-1]["outputs"][0]["text"]) == "3 records\n"
    assert kept["metadata"]["papermill"]["input_path"].endswith("notebooks/1_trained.ipynb")
    assert not list(results.rglob("*.shards"))


@pytest.mark.slow
def test_a_mistake_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    folder, results = tmp_path / "notebooks", tmp_path / "results"
    told = "from pathlib import Path\nimport os\n"
    told += "Path(results_dir, f\"{os.environ['RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}\").touch()\n"
    told += "from effi.errors import DataError\nraise DataError('no such set')"
    write(folder / "1_mistaken.ipynb", cell(told, "run"), parameters=WITH_TRAINING)
    outcome = executed(folder, results, parameters=TOGETHER)
    assert (outcome.status, outcome.error, outcome.mistake) == ("failed", "no such set", True)
    assert sorted(path.name for path in results.glob("?-?")) == ["0-0", "1-0"]


def test_processes_without_a_training_to_share_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "1_tiny.ipynb", cell("pass", "run"), parameters=WITH_TRAINING)
    with pytest.raises(ParameterError, match=r'--processes 2 shares out .* add --set \'training={"parallel": "ddp"}\''):
        executed(tmp_path, tmp_path / "results")
    with pytest.raises(ParameterError, match="processes is 0"):
        run(scale="cpu", quiet=True, folder=tmp_path, results_dir=str(tmp_path), processes=0)


@pytest.mark.parametrize(("seen", "shown"), [(None, "1"), ("4,6", "6"), ("4", "")])
def test_a_process_sees_one_gpu(seen: str | None, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert together.own_gpu() == {"CUDA_VISIBLE_DEVICES": shown}
