"""Adam's moments of the large model from those of the small one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.ligo.moments import Inherited, grow_moments, moments
from effi.ligo.operator import GrowthOperator
from effi.training import Step, Training, fit
from tests.ligo.beginnings import DEEPER, LARGER, inputs, pair
from tests.ligo.toy import ROWS, text


def stepped(model: nn.Module, steps: int = 3) -> torch.optim.Optimizer:
    """An optimiser after some steps on a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        logits = model(inputs("GPT"))
        F.cross_entropy(logits.flatten(0, -2), inputs("GPT").flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def test_first_moments_are_mapped_as_weights_and_second_by_squares():
    small, large = pair("GPT", LARGER)
    of = moments(stepped(small), small)
    operator = GrowthOperator(small, large)
    found, maps = grow_moments(operator, small, of), operator.maps()
    into, w = maps["width"].dense(), operator.depth["blocks/mlp/0"]
    out = maps["blocks.neurons"].dense()[3]
    for kind, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        mixed = sum(w[3, layer] ** power * of[kind][f"blocks.{layer}.mlp.0.weight"] for layer in range(2))
        expected = out**power @ mixed @ (into**power).T
        assert torch.allclose(found[kind]["blocks.3.mlp.0.weight"], expected, rtol=1e-4, atol=1e-9)
        assert found[kind].keys() == dict(large.named_parameters()).keys()
    assert all((value >= 0).all() for value in found["exp_avg_sq"].values())
    assert {float(value) for value in found["step"].values()} == {3.0}


def test_moments_are_stacked_with_the_layers():
    small, large = pair("GPT", DEEPER)
    of = moments(stepped(small), small)
    found = grow_moments(GrowthOperator(small, large, depth="stackbert"), small, of)
    for kind in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(found[kind]["blocks.3.norm1.bias"], of[kind]["blocks.1.norm1.bias"])
        assert torch.equal(found[kind]["embedding.weight"], of[kind]["embedding.weight"])


def test_a_training_goes_on_from_them():
    """Two steps on all rows at once are one step, and another that begins with the moments of the first."""
    model = pair("GPT", LARGER)[1]
    whole, parted, kept = model, copy.deepcopy(model), {}

    def keep(step: Step) -> None:
        kept.update(moments(step.optimizer, step.model))

    def trained(model: nn.Module, steps: int, **listeners: Any) -> None:
        how = Training(steps=steps, batch_size=ROWS, lr=1e-2, optimizer="adamw", eval_every=f"{steps} steps")
        fit(model, text(), how, seeds=[0], ledger=Ledger(), **listeners)

    trained(whole, 2)
    trained(parted, 1, after_step=[keep])
    before = kept["exp_avg"]["embedding.weight"].clone()
    listener = Inherited(dict(kept))
    trained(parted, 1, before_step=[listener], after_step=[keep])
    for (name, one), two in zip(whole.named_parameters(), parted.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5), name
    assert {float(value) for value in kept["step"].values()} == {2.0}
    assert torch.equal(listener.of["exp_avg"]["embedding.weight"], before), "what is inherited may be used again"


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_only_moments_that_are_there_can_be_grown(optimizer):
    model, _ = pair("GPT", LARGER)
    with pytest.raises(ParameterError, match=r"embedding\.weight has no exp_avg: only moments of Adam"):
        moments(optimizer(model.parameters(), lr=1e-3), model)
