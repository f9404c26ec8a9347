"""Every notebook of the workbook: what nbval, papermill and readers rely on."""

from __future__ import annotations

import json
import re
from statistics import median

import papermill
import pytest

from effi import paths
from effi.records.machine import cpu
from effi.workbook import Notebook, notebooks, parameters
from effi.workbook.notebook import cells, source, tagged
from tests.notebooks.outputs import CHECKED, LAX, MADE_ON, STRICT, option

COMMON = ("scale", "seeds", "device", "dataset", "results_dir", "price_per_gpu_hour", "dry_run")
NOTEBOOKS = notebooks()
every = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.paper)


def code(notebook: Notebook) -> list[dict]:
    """Code cells that hold code."""
    return [cell for cell in cells(notebook.path) if cell["cell_type"] == "code" and source(cell).strip()]


def compared(notebook: Notebook) -> list[str]:
    """Text of every output that nbval compares: not of pictures, and not of cells whose output it ignores."""
    kept = [cell for cell in code(notebook) if "nbval-ignore-output" not in cell["metadata"].get("tags", ())]
    outputs = [output for cell in kept for output in cell["outputs"] if "image/png" not in output.get("data", {})]
    return ["".join(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in outputs]


def test_there_are_notebooks_each_of_a_paper_with_claims() -> None:
    assert NOTEBOOKS
    assert all(paths.paper_file(notebook.paper).exists() for notebook in NOTEBOOKS)


@every
def test_common_parameters_default_to_smoke(notebook: Notebook) -> None:
    known = parameters(notebook)
    assert set(COMMON) <= set(known)
    assert known["scale"].default == "smoke" and known["dry_run"].default is False
    assert known["results_dir"].default == "results"


@every
def test_papermill_reads_the_same_parameters(notebook: Notebook) -> None:
    # A second "=" on a line, or an annotation that it does not know, would hide a parameter from it.
    inspected = papermill.inspect_notebook(str(notebook.path))
    known = parameters(notebook)
    assert {name: each["help"] for name, each in inspected.items()} == {n: p.help for n, p in known.items()}


@every
def test_nothing_is_derived_before_parameters_arrive(notebook: Notebook) -> None:
    place = tagged(notebook.path, "parameters")
    before = [source(cell) for cell in cells(notebook.path)[:place] if cell["cell_type"] == "code"]
    assert not [name for name in parameters(notebook) for text in before if re.search(rf"\b{name} = ", text)]


@every
def test_a_dry_run_knows_where_to_stop(notebook: Notebook) -> None:
    assert tagged(notebook.path, "run") > tagged(notebook.path, "parameters")


@every
def test_every_cell_was_executed_in_order(notebook: Notebook) -> None:
    # nbval passes a cell without an execution count, whatever it prints.
    counts = [cell["execution_count"] for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@every
def test_outputs_are_kept_and_compared(notebook: Notebook) -> None:
    assert len([text for text in compared(notebook) if text.strip()]) >= 5


@every
def test_golden_checks_are_compared_on_every_kind_of_cpu(notebook: Notebook) -> None:
    golden = [cell for cell in code(notebook) if "report.check(" in source(cell)]
    assert golden and all(CHECKED in cell["metadata"].get("tags", ()) for cell in golden)


def test_stored_outputs_are_compared_whole_on_the_kind_of_cpu_that_made_them() -> None:
    assert (option(cpu()), option("another one")) == (STRICT, LAX)
    assert MADE_ON.read_text().strip()


@every
def test_no_output_is_an_error_a_warning_or_a_moving_picture(notebook: Notebook) -> None:
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert not kinds & {"image/svg+xml", "application/javascript", "application/vnd.jupyter.widget-view+json"}


@every
def test_no_cell_relies_on_a_semicolon(notebook: Notebook) -> None:
    # nbval runs cells without history, where IPython looks for the semicolon: the output would come back.
    assert not [source(cell) for cell in code(notebook) if source(cell).rstrip().endswith(";")]


@every
def test_printed_numbers_have_three_decimals_at_most(notebook: Notebook) -> None:
    # More decimals differ from one machine to the next. Tables round by themselves, and quote others as printed.
    streams = [output for cell in code(notebook) for output in cell["outputs"] if output["output_type"] == "stream"]
    assert not [found for output in streams for found in re.findall(r"\d\.\d{4,}", "".join(output["text"]))]


@every
def test_one_heading_says_what_the_notebook_asks(notebook: Notebook) -> None:
    text = "\n".join(source(cell) for cell in cells(notebook.path) if cell["cell_type"] == "markdown")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1 and notebook.title.endswith("?")


@every
def test_the_machinery_opens_from_its_heading_in_jupyterlab(notebook: Notebook) -> None:
    headings = {
        source(cell).splitlines()[0]: cell["metadata"] for cell in cells(notebook.path) if source(cell)[:3] == "## "
    }
    assert [name for name, how in headings.items() if how.get("jp-MarkdownHeadingCollapsed")] == ["## Build and check"]


@every
def test_code_follows_text(notebook: Notebook) -> None:
    kinds = [cell["cell_type"] for cell in cells(notebook.path)]
    assert kinds[0] == "markdown" and kinds.count("markdown") >= 10


@every
def test_it_reads_like_an_essay(notebook: Notebook) -> None:
    lengths = [len(source(cell).strip().splitlines()) for cell in code(notebook)]
    assert len(lengths) <= 30 and median(lengths) <= 8 and max(lengths) <= 25


@every
def test_ten_pictures_at_most_are_shown(notebook: Notebook) -> None:
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert 1 <= sum("image/png" in output.get("data", {}) for output in outputs) <= 10


@every
def test_it_fits_into_git_and_names_no_machine(notebook: Notebook) -> None:
    text = notebook.path.read_text(encoding="utf-8")
    assert len(text) < 2_000_000
    assert str(paths.ROOT) not in text
    assert not {"papermill", "widgets"} & set(json.loads(text)["metadata"])
