"""Coefficients at 1 change nothing, a zero masks its unit, and an optimiser trains them."""

from __future__ import annotations

import copy

import pytest
import torch

from effi.axes import mask_units, units, with_gates
from effi.errors import ParameterError
from tests.axes.tiny import TINY, Tiny, scattered

every = pytest.mark.parametrize("tiny", TINY.values(), ids=list(TINY))


@every
def test_gates_at_one_change_nothing_and_come_off(tiny: Tiny):
    model, inputs = scattered(tiny.make()), tiny.inputs()
    names, kinds, before = [name for name, _ in model.named_parameters()], list(map(type, model.modules())), None
    with torch.no_grad():
        before = model(*inputs)
        gates = with_gates(model)
        assert (model(*inputs) - before).abs().max() < 1e-5
        gates.remove()
        assert torch.equal(model(*inputs), before)
    assert [name for name, _ in model.named_parameters()] == names
    assert list(map(type, model.modules())) == kinds


@every
def test_a_zero_gate_equals_masking_its_unit(tiny: Tiny):
    model, inputs = scattered(tiny.make()), tiny.inputs()
    # A coefficient on a talking head falls behind the mixing, in which the head still has a part.
    counts = {axis: count for axis, count in units(model).items() if not _talks(tiny, axis)}
    gone = {axis: 1 if axis.endswith("heads") else 5 for axis in counts}
    keep = {axis: [unit for unit in range(count) if unit != gone[axis]] for axis, count in counts.items()}
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask_units(model, keep).items():
            masked.get_parameter(name).mul_(kept)
        coefficients = with_gates(model).coefficients
        for axis, unit in gone.items():
            coefficients[axis][unit] = 0.0
        assert (model(*inputs) - masked(*inputs)).abs().max() < 1e-5


def _talks(tiny: Tiny, axis: str) -> bool:
    return axis.startswith(tiny.talking) and axis.endswith("heads")


@every
def test_every_coefficient_gets_a_gradient(tiny: Tiny):
    model, inputs = scattered(tiny.make()).train(), tiny.inputs()
    counts = units(model)
    gates = with_gates(model)
    assert {axis: len(value) for axis, value in gates.coefficients.items()} == counts
    assert all(torch.equal(value, torch.ones_like(value)) for value in gates.coefficients.values())
    named = dict(model.named_parameters())
    assert sum(name.startswith("gates.") for name in named) == len(counts)
    model(*inputs).square().sum().backward()
    for axis, value in gates.coefficients.items():
        assert any(value is parameter for parameter in named.values())
        assert (value.grad != 0).float().mean() > 0.5, axis


def test_a_coefficient_scales_a_heads_context():
    model, inputs = scattered(TINY["our ViT"].make()), TINY["our ViT"].inputs()
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        doubled.blocks[0].attention.out.weight[:, 4:8] *= 2.0
        with_gates(model).coefficients["blocks.0.attention.heads"][1] = 2.0
        assert torch.allclose(model(*inputs), doubled(*inputs), atol=1e-6)


def test_a_copy_has_coefficients_of_its_own():
    model, inputs = scattered(TINY["BERT"].make()), TINY["BERT"].inputs()
    gates = with_gates(model)
    before, other = model(*inputs), copy.deepcopy(model)
    with torch.no_grad():
        for coefficients in gates.coefficients.values():
            coefficients.fill_(0.5)
    assert torch.equal(other(*inputs), before)
    assert not torch.allclose(model(*inputs), before)
    other.gates.remove()
    assert hasattr(model, "gates")
    assert not hasattr(other, "gates")


@pytest.mark.parametrize("name", ["our ViT", "GPT-2", "torchvision Swin"])
def test_gates_survive_compilation(name: str):
    model, inputs = scattered(TINY[name].make()), TINY[name].inputs()
    gates = with_gates(model)
    with torch.no_grad():
        for coefficients in gates.coefficients.values():
            coefficients.mul_(0.5)
        compiled = torch.compile(model, backend="eager")
        assert torch.allclose(compiled(*inputs), model(*inputs), atol=1e-6)
    torch._dynamo.reset()


def test_gates_are_put_on_once():
    model = TINY["our ViT"].make()
    with_gates(model)
    with pytest.raises(ParameterError, match=r"this ViT has gates already: call remove\(\)"):
        with_gates(model)
