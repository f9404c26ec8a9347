"""The dry run: the notebook up to its cell tagged `run`, then its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from effi.errors import NotebookError, ParameterError
from effi.workbook import dry_run
from tests.workbook.tiny import cell, write

PLANNER = """
class Run:
    def plan(self):
        return [{"arm": scale, "steps": 3, "flops": width, "peak_bytes": None, "hours": 0.5 * dry_run}]
"""


@pytest.mark.slow
def test_the_plan_is_asked_for_after_the_cell_tagged_run(tmp_path: Path) -> None:
    write(tmp_path / "1_x.ipynb", PLANNER, cell("run = Run()", "run"), "raise SystemError('past the plan')")
    rows = dry_run("x", "gpu", {"width": "5"}, tmp_path)
    assert rows == [{"arm": "gpu", "steps": 3, "flops": 5, "peak_bytes": None, "hours": 0.5}]
    assert [path.name for path in tmp_path.iterdir()] == ["1_x.ipynb"]


def test_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "papermill.py").write_text("raise ImportError('no papermill here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write(tmp_path / "1_x.ipynb", cell("run = None", "run"))
    with pytest.raises(NotebookError, match="x: The notebook could not be executed: ImportError"):
        dry_run("x", folder=tmp_path)


def test_a_notebook_without_a_cell_tagged_run_is_told(tmp_path: Path) -> None:
    write(tmp_path / "1_x.ipynb", "1")
    with pytest.raises(ParameterError, match="one cell tagged 'run'"):
        dry_run("x", folder=tmp_path)


@pytest.mark.slow
def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "1_x.ipynb", "from effi.errors import DataError\nraise DataError('no such set')", cell("1", "run"))
    with pytest.raises(ParameterError, match=r"^x: no such set$"):
        dry_run("x", folder=tmp_path)
