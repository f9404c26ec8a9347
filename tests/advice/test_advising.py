"""The command from own images to a table, with a real notebook and a training of one epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from effi import advice
from effi.advice import advising
from effi.advice.methods import METHODS
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


@pytest.mark.slow
def test_own_images_end_in_a_table_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(MINIMAL, offered=("mlp-small",), parameters={"training": {"epochs": 1}})
    monkeypatch.setattr(advising, "METHODS", {"folder": (quick,)})
    monkeypatch.setattr("effi.advice.budget.MOST_SEEDS", 1)
    said, how = list[str](), {"budget": 1e4, "out": tmp_path / "out", "quiet": True}
    found = advice.advise(f"folder:{images(tmp_path / 'data')}", say=said.append, **how)
    (row,) = found.table.rows
    assert row[0] == "smaller or without MLP: mlp-small" and "test accuracy" in row[1] and "not available" not in row
    assert row[-1].startswith(("cannot be told", "not worth it", "worth it")) and said[-1].startswith("A seed of each")
    assert advice.save(found, tmp_path / "out").read_text("utf-8").count(found.sentence) == 1
    records = tmp_path / "out" / "results" / "cpu" / "minimal" / "records.jsonl"
    before = records.read_text("utf-8")
    again = advice.advise(f"folder:{tmp_path / 'data'}", say=said.append, **how)
    assert again.table.rows == found.table.rows and records.read_text("utf-8") == before


def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    how: dict[str, Any] = {"budget": 60.0, "out": tmp_path / "out", "say": print}
    for dataset, sentence in (
        ("images", "put folder:, csv: or text:"),
        (f"folder:{images(tmp_path / 'data', 2)}", "--model is a GPT-2 to be grown"),
    ):
        with pytest.raises(ParameterError, match=sentence):
            advice.advise(dataset, checkpoint="somewhere", **how)
    assert not (tmp_path / "out").exists()
