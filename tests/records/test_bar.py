"""The bar under a notebook's cell, in the kernel of a notebook and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from effi.records.bar import in_notebook

BEGIN = """
from pathlib import Path
from effi.records.progress import Progress
told = Progress(Path({file!r}), "made_up smoke", None, Path("records.jsonl"))
told.expect(0)
"""
TRAIN = """
told.expect(3, kept=1)
told.finished("d/<thin>", (0,), None)
told.finished("d/thin", (1,), "loss is nan\\nat step 3")
"""


def outputs(tmp_path: Path, code: str, **environment: str) -> list[Any]:
    cell = nbformat.v4.new_code_cell(code.format(file=str(tmp_path / "p.json")))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    kept = {name: value for name, value in os.environ.items() if name not in ("JPY_SESSION_NAME", "EFFI_PROGRESS")}
    NotebookClient(notebook, timeout=120).execute(env={**kept, **environment})
    return list(notebook.cells[0].outputs)


@pytest.mark.slow
def test_in_a_notebook_that_is_watched_one_bar_is_drawn_anew_and_failures_stay(tmp_path: Path) -> None:
    bar, failed = outputs(tmp_path, BEGIN + TRAIN, JPY_SESSION_NAME="a.ipynb")
    text, drawn = bar["data"]["text/plain"], bar["data"]["text/html"]
    assert text.startswith("3/3 arms and seeds | 0 s left | made_up smoke d/thin seed 1 failed: loss is nan")
    assert '<progress value="3" max="3"' in drawn and "<thin>" not in drawn
    assert failed["name"] == "stderr" and failed["text"].startswith("made_up smoke d/thin seed 1 failed: loss is nan")


@pytest.mark.slow
def test_papermill_and_nbval_see_no_bar(tmp_path: Path) -> None:
    assert outputs(tmp_path, BEGIN + TRAIN) == []


@pytest.mark.slow
def test_no_bar_is_drawn_of_no_arm(tmp_path: Path) -> None:
    assert outputs(tmp_path, BEGIN, JPY_SESSION_NAME="a.ipynb") == []


def test_a_test_is_no_notebook() -> None:
    assert not in_notebook()
