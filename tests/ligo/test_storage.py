"""Operators as files: read again to the bit, used for other models of their shapes, and refused for any others."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from effi.errors import DataError, ParameterError
from effi.ligo.operator import GrowthOperator
from effi.ligo.storage import load, save
from tests.axes.tiny import scattered
from tests.ligo.beginnings import DEEPER, LARGER, SMALL, gpt, pair


def moved(**options: object) -> GrowthOperator:
    """An operator that has learned something."""
    operator = GrowthOperator(*pair("GPT", LARGER), **options)
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return operator


@pytest.mark.parametrize(
    "options", [{}, {"share": "all", "full": True, "seed": 5}, {"tie": False, "tune_depth": False}]
)
def test_read_again_to_the_bit(options: dict[str, object], tmp_path):
    operator = moved(**options)
    save(operator, tmp_path / "operator")
    again = load(tmp_path / "operator", *pair("GPT", LARGER))
    assert again.options == operator.options and again.moved() == operator.moved()
    learned = {name: parameter.requires_grad for name, parameter in operator.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in again.named_parameters()} == learned
    grown = operator()
    assert all(torch.equal(value, grown[name]) for name, value in again().items())


def test_another_model_of_the_same_shapes_is_grown_by_it(tmp_path):
    """The map is linear: twice the weights give twice the weights."""
    operator = moved()
    save(operator, tmp_path / "operator")
    small, large = pair("GPT", LARGER)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(2)
    grown = operator()
    for name, value in load(tmp_path / "operator", small, large)().items():
        assert torch.allclose(value, 2 * grown[name], rtol=1e-5, atol=1e-6), name


def test_other_shapes_are_refused_by_name(tmp_path):
    save(moved(), tmp_path / "operator")
    with pytest.raises(ParameterError, match=r"for other shapes: depth.* is \(4, 2\) there and \(4, 4\) for these"):
        load(tmp_path / "operator", scattered(gpt(LARGER)), gpt(LARGER))
    with pytest.raises(ParameterError, match=r"for other shapes: width.* is \(4, 8, 16\) there and none for these"):
        load(tmp_path / "operator", *pair("GPT", DEEPER))
    with pytest.raises(ParameterError, match="is none there"):
        load(tmp_path / "operator", *pair("BERT", LARGER))


def test_a_file_that_is_no_operator_is_named(tmp_path):
    (tmp_path / "torn").write_bytes(b"not weights")
    save_file({"width.width": torch.zeros(2)}, tmp_path / "weights")
    for name in ("torn", "weights", "absent"):
        with pytest.raises(DataError, match=f"{name} is no growth operator"):
            load(tmp_path / name, gpt(SMALL), gpt(LARGER))
