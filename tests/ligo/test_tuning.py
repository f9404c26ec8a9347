"""Tuning the operator through the large model: two ways to one gradient, one loss, and weights that stay."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effi.cost import Ledger, forward_flops, train_flops
from effi.ligo.operator import GrowthOperator
from effi.ligo.tuning import Grown, export, two_stage_gradients
from effi.models.gpt import GPT
from effi.training import Training, fit
from tests.axes.tiny import TINY, scattered
from tests.ligo.beginnings import LARGER, MODELS, SMALL, inputs, pair, words
from tests.ligo.toy import text


def loss_of(name: str) -> Callable[[nn.Module], Tensor]:
    x = inputs(name)

    def loss(model: nn.Module) -> Tensor:
        logits = model(x)
        return F.cross_entropy(logits.flatten(0, -2), torch.arange(logits[..., 0].numel()) % logits.shape[-1])

    return loss


@pytest.mark.parametrize("name", MODELS)
def test_what_is_exported_has_the_loss_of_what_was_tuned(name: str):
    small, large = pair(name, LARGER)
    operator, loss = GrowthOperator(small, large), loss_of(name)
    functional = loss(Grown(operator, large).eval())
    export(operator, large)
    assert loss(large).item() == pytest.approx(functional.item(), abs=1e-6)
    assert all(parameter.is_leaf and parameter.grad is None for parameter in large.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_two_stages_are_the_direct_ones(name: str):
    small, large = pair(name, LARGER)
    operator, loss = GrowthOperator(small, large, head="own"), loss_of(name)
    direct = loss(Grown(operator, large))
    direct.backward()
    value, gradients = two_stage_gradients(operator, large.requires_grad_(False), loss)
    assert value.item() == pytest.approx(direct.item(), abs=1e-6)
    assert gradients.keys() == dict(operator.named_parameters()).keys()
    for key, parameter in operator.named_parameters():
        assert torch.allclose(gradients[key], parameter.grad, atol=1e-6, rtol=1e-4), key
        assert gradients[key].any(), key
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in large.parameters())


def test_two_stages_reach_only_what_is_learned():
    small, large = pair("GPT", LARGER)
    _, gradients = two_stage_gradients(GrowthOperator(small, large, tune_width=False), large, loss_of("GPT"))
    assert gradients and all(key.startswith("depth.") for key in gradients)


def test_its_parameters_are_the_operators_and_the_large_model_is_not_touched():
    small, large = pair("GPT", LARGER)
    operator, before = GrowthOperator(small, large), copy.deepcopy(large.state_dict())
    model = Grown(operator, large)
    assert {id(each) for each in model.parameters()} == {id(each) for each in operator.parameters()}
    loss_of("GPT")(model).backward()
    assert all(torch.equal(value, before[key]) for key, value in large.state_dict().items())
    assert all(parameter.grad is None for parameter in large.parameters())


def test_the_mode_is_that_of_the_large_model():
    """Dropout acts in training alone."""
    large = words("bert", LARGER)
    for module in large.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model, loss = Grown(GrowthOperator(scattered(words("bert", SMALL)), large), large), loss_of("BERT")
    assert loss(model.train()).item() != loss(model).item() and large.training
    assert loss(model.eval()).item() == loss(model).item() and not large.training


def test_weights_kept_in_evaluation_follow_the_operator():
    small, large = pair("GPT", LARGER)
    operator, loss = GrowthOperator(small, large), loss_of("GPT")
    model = Grown(operator, large).eval()
    with torch.no_grad():
        first = float(loss(model))
        assert model._weights() is model._weights()
        operator.width["width"].mul_(3)
        assert float(loss(model)) != first
        operator.load_state_dict(GrowthOperator(small, large).state_dict())
        assert float(loss(model)) == first


def test_weights_are_made_in_full_precision():
    small, large = pair("GPT", LARGER)
    model = Grown(GrowthOperator(small, large), large)
    seen = []
    model.operator.register_forward_hook(lambda module, args, output: seen.extend(v.dtype for v in output.values()))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(inputs("GPT")).dtype == torch.bfloat16
    assert set(seen) == {torch.float32}


def test_flops_are_those_of_the_large_model_and_of_growth():
    small, large = GPT(32, 20, SMALL), GPT(32, 20, LARGER)
    model, ids = Grown(GrowthOperator(small, large), large), torch.zeros(3, 7, dtype=torch.long)
    assert train_flops(model, ids) == large.train_flops(3, 7) + model.operator.flops()
    assert forward_flops(model, ids) == large.forward_flops(3, 7)
    assert model.flops_version == large.flops_version


def test_flops_without_a_closed_form_are_counted():
    vit = TINY["torchvision ViT"]
    small, large = vit.make(), vit.make()
    model, (images,) = Grown(GrowthOperator(small, large), large), vit.inputs()
    assert model.train_flops is None
    assert train_flops(model, images) > train_flops(large, images)


def test_the_loop_trains_the_operator():
    small, large = pair("GPT", LARGER)
    operator, before = GrowthOperator(small, large), copy.deepcopy(large.state_dict())
    training = Training(steps=12, batch_size=8, lr=3e-3, optimizer="adamw", eval_every="6 steps")
    ledger = Ledger()
    (history,) = fit(Grown(operator, large), text(), training, seeds=[0], ledger=ledger)
    losses = history.curves["validation_loss"]
    assert losses[-1] < losses[0] and operator.moved()["width"] > 0 and operator.moved()["depth"] > 0
    assert set(history.best_state) == {f"operator.{name}" for name, _ in operator.named_parameters()}
    assert all(torch.equal(value, before[key]) for key, value in large.state_dict().items())
    assert ledger.total()["phases"]["train"]["flops"] == 12 * (large.train_flops(8, 16) + operator.flops())
