"""The rules of every paper's own room, as `effi run` asks them before a kernel starts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from effi import spec, workbook
from effi.errors import DataError, EffiError, ParameterError
from effi.workbook import Notebook, batch, notebooks, parameters
from effi.workbook.notebook import cells, source
from tests.workbook.tiny import write

NOTEBOOKS = notebooks()
every = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.paper)


@every
def test_rules_are_of_parameters_that_there_are(notebook: Notebook) -> None:
    rules = import_module(f"effi.{notebook.paper}.parameters").PARAMETERS
    assert set(rules) <= set(parameters(notebook))


@every
def test_every_parameter_with_more_than_a_type_has_a_rule(notebook: Notebook) -> None:
    rules = import_module(f"effi.{notebook.paper}.parameters").PARAMETERS
    open_ended = {name for name, each in parameters(notebook).items() if each.type not in ("str", "bool")}
    assert open_ended <= {"seeds", "price_per_gpu_hour", *rules}


@every
def test_defaults_keep_the_rules(notebook: Notebook) -> None:
    rules = import_module(f"effi.{notebook.paper}.parameters").PARAMETERS
    defaults = {name: each.default for name, each in parameters(notebook).items()}
    assert set(rules) <= set(defaults)
    assert [name for name in rules if broken({name: rules[name]}, defaults)] == []


def broken(rules: Mapping[str, spec.Rule], values: Mapping[str, object]) -> bool:
    """Whether a value does not keep its rule."""
    try:
        spec.check(rules, values)
    except EffiError:
        return True
    return False


@pytest.mark.parametrize(
    ("paper", "given", "error", "sentence"),
    [
        ("minimal", {"patches": "-4"}, ParameterError, "patches is -4; give a whole number of at least 1."),
        ("minimal", {"patches": 5}, ParameterError, "patches=5 does not divide 32 pixels"),
        ("minimal", {"variant": '{"widht": 3}'}, ParameterError, "unknown option of variant 'widht'"),
        ("minimal", {"variant": {"mlp": False}}, ParameterError, "mlp of variant would relabel the arms"),
        ("minimal", {"training": {"lr": "fast"}}, ParameterError, "training lr is 'fast'; it wants a number from 0"),
        ("minimal", {"dataset": "sst2"}, ParameterError, "dataset=sst2 holds labelled texts"),
        ("minimal", {"dataset": "mnits"}, DataError, "unknown data set 'mnits'"),
        ("minimal", {"only": ["minimum", "minimum"]}, ParameterError, "only holds 'minimum' more than once"),
        ("early_bird", {"threshold": -1}, ParameterError, "threshold is -1.0; give a number between 0 and 1"),
        ("early_bird", {"ratios": [0.1, 1.0]}, ParameterError, "ratios is 1.0; give a number between 0 and 1"),
        ("early_bird", {"ratios": [0.1, 0.1]}, ParameterError, "ratios holds 0.1 more than once"),
        ("early_bird", {"vision": {"vitt": {}}}, ParameterError, "unknown key of vision 'vitt'; did you mean 'vit'?"),
        ("early_bird", {"vision": {"vit": {"depht": 1}}}, ParameterError, "unknown option of vision['vit'] 'depht'"),
        ("early_bird", {"vision": {"swin": {"depths": 2}}}, ParameterError, "vision['swin'] depths is 2; it wants"),
        ("early_bird", {"language": {"hiden": 1}}, ParameterError, "unknown option of language 'hiden'"),
        ("early_bird", {"fine_tuning": {"epoch": 1}}, ParameterError, "unknown option of fine_tuning 'epoch'"),
        ("early_bird", {"models": ["vti"]}, ParameterError, "unknown models 'vti'; did you mean 'vit'?"),
        ("early_bird", {"rule": "queu"}, ParameterError, "unknown rule 'queu'; did you mean 'queue'?"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    paper: str, given: dict[str, object], error: type[EffiError], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        workbook.run([paper], scale="smoke", parameters=given, results_dir=str(tmp_path / "results"), quiet=True)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_paper_without_a_room_has_the_shared_rules(tmp_path: Path) -> None:
    write(tmp_path / "1_first.ipynb", parameters='scale = "smoke"\nresults_dir = "r"\nprice_per_gpu_hour = 2.0')
    (notebook,) = notebooks(tmp_path)
    assert batch.prepare(notebook, "smoke", {"price_per_gpu_hour": 0}, "r").parameters["price_per_gpu_hour"] == 0
    with pytest.raises(ParameterError, match=r"price_per_gpu_hour is -1.0"):
        batch.prepare(notebook, "smoke", {"price_per_gpu_hour": -1}, "r")


@every
def test_the_notebook_asks_the_same_rules(notebook: Notebook) -> None:
    # Who edits the cell of parameters in JupyterLab hears what `effi run` would say.
    assert any("spec.check(PARAMETERS, globals())" in source(cell) for cell in cells(notebook.path))
