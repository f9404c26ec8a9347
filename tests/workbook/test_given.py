"""What plain papermill gives a notebook is read and checked as `effi run` does, in its first cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import papermill
import pytest
from papermill.cli import papermill as command
from papermill.exceptions import PapermillExecutionError

from effi.errors import ParameterError
from effi.workbook import given
from tests.workbook.tiny import cell, write

PARAMETERS = "patches: int = 4\nonly: list[str] = []\nseeds: list[int] = []\nvariant: dict = {}\nscale = 'smoke'"
BEFORE = ["", "from effi import report", PARAMETERS, "x = 3"]


def held(**injected: object) -> dict[str, Any]:
    """Names of a notebook after papermill's cell."""
    names = dict(injected)
    given.hold(
        [*BEFORE, "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in injected.items())], names
    )
    return names


def test_names_that_a_cell_sets() -> None:
    assert given.assigned("scale = 'a'\nx = y = 2\nprint(1)") == ["scale", "x", "y"]


def test_text_is_read_where_no_text_is_wanted() -> None:
    wanted = {"only": ["minimum", "mlp-h1"], "seeds": [0, 1], "variant": {"norm": "post"}, "scale": "cpu", "patches": 2}
    text = {"only": '["minimum", "mlp-h1"]', "seeds": "0,1", "variant": "{'norm': 'post'}", "scale": "cpu"}
    assert held(**text, patches=2) == wanted == held(**wanted)
    assert held(only="minimum") == {"only": ["minimum"]}


def test_a_name_that_is_not_there_is_guessed_and_another_type_is_told() -> None:
    with pytest.raises(ParameterError, match=r"this notebook has no parameter 'patchs'; did you mean 'patches'"):
        held(patchs=2)
    with pytest.raises(ParameterError, match=r"seeds wants a list of int, for example \[0, 1, 2\]; got \['a'\]\."):
        held(seeds='["a"]')


@pytest.mark.slow
def test_papermill_reads_a_list_and_stops_at_a_mistyped_name(tmp_path: Path) -> None:
    """The cell that begins the watch comes before the parameters, papermill's own behind them."""
    path = write(tmp_path / "1_made_up.ipynb", "print(patches, only)", parameters=PARAMETERS)
    notebook = json.loads(path.read_text())
    notebook["cells"].insert(1, cell("from effi.report import injected\ninjected.watch()"))
    path.write_text(json.dumps(notebook))
    output, how = str(tmp_path / "out.ipynb"), ["-k", "python3", "--language", "python", "--no-progress-bar"]
    command.main([str(path), output, *how, "-p", "patches", "2", "-p", "only", '["a"]'], standalone_mode=False)
    assert "2 ['a']\\n" in Path(output).read_text()
    with pytest.raises(PapermillExecutionError, match="no parameter 'patchs'; did you mean 'patches'"):
        papermill.execute_notebook(
            path, output, {"patchs": 2}, kernel_name="python3", language="python", progress_bar=False
        )
