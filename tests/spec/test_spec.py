"""Parameters of a notebook turned into what it will do, or refused in one sentence."""

from __future__ import annotations

import pytest
import torch

from effi import spec
from effi.errors import DataError, ParameterError
from effi.training import Training

SCALES = {
    "smoke": {"datasets": ("digits",), "seeds": (0, 1)},
    "cpu": {"datasets": ("digits",), "seeds": (0, 1, 2)},
}


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_empty_values_mean_those_of_the_scale():
    found = spec.resolve("cpu", [], "cpu", "auto", SCALES)
    assert (found.seeds, found.datasets, found.device, found.together) == ((0, 1, 2), ("digits",), "cpu", 1)
    assert found.row is SCALES["cpu"]
    assert torch.get_num_threads() == 1


def test_given_values_win():
    found = spec.resolve("smoke", [7], "cpu", "digits", SCALES)
    assert (found.seeds, found.datasets, found.notices) == ((7,), ("digits",), ())


def test_several_data_sets_are_joined_by_commas():
    found = spec.resolve("smoke", [], "cpu", "digits, docstrings,digits", SCALES)
    assert found.datasets == ("digits", "docstrings")
    assert spec.data_sets("csv:/a,b.csv") == ("csv:/a,b.csv",), "a path may hold commas"
    rules = {"dataset": spec.holding("images")}
    with pytest.raises(ParameterError, match="dataset=docstrings holds"):
        spec.check(rules, {"dataset": "digits,docstrings"})
    with pytest.raises(DataError, match="digit"):
        spec.check(rules, {"dataset": "digits,digit"})


def test_missing_data_leave_a_notice(monkeypatch):
    notice = "mnist: not found"
    monkeypatch.setattr("effi.data.resolve", lambda dataset, preferred: (("digits",), notice))
    assert spec.resolve("cpu", [], "cpu", "auto", SCALES).notices == (notice,)


def test_seeds_share_a_gpu_but_not_a_cpu():
    on_gpu = spec.Spec("gpu", (0, 1, 2, 3, 4), "cuda", ("mnist",), {}, ())
    assert on_gpu.together == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("cpi", [], "cpu", "auto"), "unknown scale 'cpi'; did you mean 'cpu'"),
        (("cpu", [], "tpu", "auto"), "unknown device 'tpu'.*nown: auto, cpu, cuda"),
        (("cpu", [0, 0], "cpu", "auto"), "must be different whole numbers"),
        (("cpu", ["0"], "cpu", "auto"), "must be different whole numbers"),
        (("cpu", [-1], "cpu", "auto"), "must be different whole numbers"),
    ],
)
def test_bad_values_name_the_mend(given, message):
    with pytest.raises(ParameterError, match=message):
        spec.resolve(*given, SCALES)


def test_unknown_data_is_an_error_of_data():
    with pytest.raises(DataError, match="mnits"):
        spec.resolve("cpu", [], "cpu", "mnits", SCALES)


def test_a_gpu_asked_for_and_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match=r"no GPU here; use device='auto' or 'cpu'"):
        spec.resolve("cpu", [], "cuda", "auto", SCALES)
    assert spec.resolve("cpu", [], "auto", "auto", SCALES).device == "cpu"


def test_options_fill_a_dataclass_and_refuse_what_it_lacks():
    assert spec.options(Training, {"epochs": 3, "lr": 0.1}) == Training(epochs=3, lr=0.1)
    with pytest.raises(ParameterError, match=r"unknown option of Training 'epoch'; did you mean 'epochs'\?"):
        spec.options(Training, {"epoch": 3})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adamax"}, "unknown Training optimizer 'adamax'; did you mean 'adam'"),
        ({"epochs": "many"}, "Training epochs is 'many'; it wants a whole number from 1 on"),
        ({"epochs": True}, "Training epochs is True; it wants a whole number from 1 on"),
        ({"clip": "1"}, "it wants a number from 0 on or None"),
        ({"epochs": 0}, "epochs is 0; it wants a whole number from 1 on"),
        ({"epochs": 1, "lr": 0.0}, "lr=0.0 is too small; give at least 1e-12"),
        ({"epochs": 1, "lr": -1.0}, "lr is -1.0; it wants a number from 0 on"),
    ],
)
def test_options_refuse_unknown_words_and_other_types(given, message):
    with pytest.raises(ParameterError, match=message):
        spec.options(Training, given)


def test_options_take_what_json_has_for_numbers_and_tuples():
    made = spec.options(Training, {"epochs": 1, "lr": 1, "augment": ["flip"], "clip": None})
    assert (made.lr, made.augment, made.clip) == (1, ("flip",), None)
