"""Notebooks found by name, parameters read and checked without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from effi import paths
from effi.errors import ParameterError
from effi.workbook import Parameter, check, find, notebooks, open_notebook, parameters
from tests.workbook.tiny import PARAMETERS, cell, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "2_second.ipynb")
    write(tmp_path / "1_first_of_all.ipynb")
    return tmp_path


def test_notebooks_come_in_order_with_their_title(folder: Path) -> None:
    found = notebooks(folder)
    assert [(each.paper, each.path.name) for each in found] == [
        ("first_of_all", "1_first_of_all.ipynb"),
        ("second", "2_second.ipynb"),
    ]
    assert found[0].title == "A tiny question"


def test_paper_is_the_claims_file_that_the_name_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "data" / "papers").mkdir(parents=True)
    for name in ("first", "first_of", "other"):
        paths.paper_file(name).touch()
    assert open_notebook(write(tmp_path / "1_first_of_all.ipynb")).paper == "first_of"


@pytest.mark.parametrize("name", ["second", "2", "2_second"])
def test_a_notebook_goes_by_id_number_and_file_name(folder: Path, name: str) -> None:
    assert [each.paper for each in find([name], folder)] == ["second"]


def test_no_name_means_all_and_a_name_twice_means_once(folder: Path) -> None:
    assert len(find([], folder)) == 2
    assert [each.paper for each in find(["second", "second"], folder)] == ["second"]


def test_an_unknown_name_is_answered_with_a_guess(folder: Path) -> None:
    with pytest.raises(ParameterError, match="no paper 'secnod'; did you mean 'second'"):
        find(["secnod"], folder)


def test_parameters_have_type_default_and_help(tmp_path: Path) -> None:
    known = parameters(open_notebook(write(tmp_path / "1_x.ipynb")))
    assert known["scale"] == Parameter("str", "smoke", "smoke, cpu, gpu or paper")
    assert known["seeds"] == Parameter("list[int]", [], "empty: those of the scale")
    assert known["width"] == Parameter("int", 60, "")
    assert known["dry_run"] == Parameter("bool", False, "")
    assert known["note"] == Parameter("str", "a # inside", "shown as it is")


def test_a_list_without_annotation_has_the_type_of_its_items(tmp_path: Path) -> None:
    known = parameters(open_notebook(write(tmp_path / "1_x.ipynb", parameters="a = [1, 2]\nb = [1, 'x']\nc = {}")))
    assert [each.type for each in known.values()] == ["list[int]", "list", "dict"]


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("width", "7", 7),
        ("width", 7, 7),
        ("rate", "1", 1.0),
        ("rate", "1e-3", 0.001),
        ("seeds", "[0, 1]", [0, 1]),
        ("seeds", "0, 1", [0, 1]),
        ("seeds", "3", [3]),
        ("seeds", "[]", []),
        ("seeds", [], []),
        ("dry_run", "true", True),
        ("dry_run", "False", False),
        ("steps", "None", None),
        ("steps", "5", 5),
        ("note", "007", "007"),
        ("scale", "gpu", "gpu"),
        ("names", "['a', 1]", ["a", 1]),
        ("options", "{'a': None}", {"a": None}),
    ],
)
def test_values_take_their_parameters_type(tmp_path: Path, name: str, given: object, value: object) -> None:
    checked = check(open_notebook(write(tmp_path / "1_x.ipynb")), {name: given})[name]
    assert checked == value and type(checked) is type(value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"widht": 3}, "x has no parameter 'widht'; did you mean 'width'"),
        ({"zzz": 3}, "no parameter 'zzz'; known: scale, seeds, results_dir, dry_run, width"),
        ({"width": "wide"}, "width wants an int, for example 60; got 'wide'"),
        ({"width": 1.5}, "width wants an int"),
        ({"width": True}, "width wants an int"),
        ({"seeds": 3}, r"seeds wants a list of int, for example \[0, 1, 2\]; got 3"),
        ({"seeds": "0,a"}, r"seeds wants a list of int, .* got \[0, 'a'\]"),
        ({"seeds": ["a"]}, "seeds wants a list of int"),
        ({"dry_run": 1}, "dry_run wants True or False"),
        ({"note": 5}, "note wants text"),
        ({"names": 3}, r"names wants a list, for example \[0, 1\]"),
        ({"options": "[1]"}, "options wants a dict, for example {'a': 1}"),
        ({"rate": "fast"}, "rate wants a float, for example 0.1"),
        ({"scale": "gpuu"}, "no scale 'gpuu'; did you mean 'gpu'"),
    ],
)
def test_a_wrong_name_type_or_scale_is_named(tmp_path: Path, given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        check(open_notebook(write(tmp_path / "1_x.ipynb")), given)


@pytest.mark.parametrize("line", ["b = 2 * a", "import os", "a, b = 1, 2", "b: int"])
def test_the_parameters_cell_holds_literals_only(tmp_path: Path, line: str) -> None:
    notebook = open_notebook(write(tmp_path / "1_x.ipynb", parameters=f"a = 1\n{line}"))
    with pytest.raises(ParameterError, match="literals only"):
        parameters(notebook)


@pytest.mark.parametrize("cells", [[cell(PARAMETERS, "parameters")] * 2, []])
def test_one_cell_is_tagged_parameters(tmp_path: Path, cells: list[dict[str, object]]) -> None:
    path = write(tmp_path / "1_x.ipynb", *cells)
    if not cells:
        path.write_text(path.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(ParameterError, match="one cell tagged 'parameters'"):
        parameters(open_notebook(path))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metadata": {}}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "1_x.ipynb"
    path.write_text(content)
    with pytest.raises(ParameterError, match=r"1_x.ipynb cannot be read as a notebook"):
        open_notebook(path)


@pytest.mark.parametrize("text", ['{"mlp": false, "lr": 1e-3}', "{'mlp': False, 'lr': 0.001}"])
def test_options_may_be_written_as_json_or_as_python(tmp_path: Path, text: str) -> None:
    write(tmp_path / "1_first.ipynb")
    (notebook,) = notebooks(tmp_path)
    assert check(notebook, {"options": text}) == {"options": {"mlp": False, "lr": 0.001}}
