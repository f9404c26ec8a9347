"""A mistyped parameter under plain papermill ends the notebook in its first cells."""

from __future__ import annotations

import json
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from effi.report import injected
from tests.workbook.tiny import cell, write

PARAMETERS = "patches: int = 4\nscale = 'smoke'"


def test_names_that_a_cell_of_literals_sets() -> None:
    assert injected.assigned(f"{PARAMETERS}\nprint(1)") == ["scale", "patches"]
    assert injected.assigned("not python at all") == []


def test_a_known_name_passes_and_an_unknown_one_is_guessed() -> None:
    before = ["from effi import report", PARAMETERS]
    assert injected.refusal(before, "# Parameters\npatches = 2\n") == []
    (line,) = injected.refusal(before, "# Parameters\npatchs = 2\n")
    assert "no parameter 'patchs'; did you mean 'patches'" in line


@pytest.mark.slow
def test_papermill_stops_at_a_mistyped_parameter_and_not_at_a_known_one(tmp_path: Path) -> None:
    """The cell that shows the parameters comes after papermill's."""
    path = write(tmp_path / "1_made_up.ipynb", "print(patches)", parameters=PARAMETERS)
    notebook = json.loads(path.read_text())
    notebook["cells"].insert(1, cell("from effi.report import injected\ninjected.watch()"))
    path.write_text(json.dumps(notebook))
    how = {"kernel_name": "python3", "language": "python", "progress_bar": False}
    papermill.execute_notebook(path, tmp_path / "out.ipynb", {"patches": 2}, **how)
    assert '"2\\n"' in (tmp_path / "out.ipynb").read_text()
    with pytest.raises(PapermillExecutionError, match="no parameter 'patchs'; did you mean 'patches'"):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", {"patchs": 2}, **how)
