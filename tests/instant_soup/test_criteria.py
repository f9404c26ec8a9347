"""SNIP and GraSP are what autograd says by hand, and cost what they take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import scores
from effi.models.vit import ViT
from effi.training import Regression
from tests.instant_soup.tiny import EXAMPLES, SHAPE, apart, same_weights, vit


def ranked(data, criterion, *, model=None, batches=1, batch_size=EXAMPLES, **options):
    ledger = Ledger()
    model = model or vit()
    return scores(
        model, data, criterion, batches=batches, batch_size=batch_size, seed=0, ledger=ledger, **options
    ), ledger


def gradients(model, data, weights):
    loss = F.cross_entropy(model(data.prepare(data.train.inputs)), data.train.labels)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def test_snip_is_weight_times_gradient(data):
    model = vit()
    weights = masks.prunable(model)
    found, _ = ranked(data, "snip", model=model)
    for name, gradient in gradients(model, data, weights).items():
        assert torch.allclose(found[name], (weights[name] * gradient).abs(), rtol=1e-3, atol=1e-7)


def test_grasp_is_weight_times_hessian_times_gradient(data):
    """H g by central differences of the gradient along g."""
    model = vit().double()
    weights = masks.prunable(model)
    prepare = data.prepare

    class Double:
        train = data.train

        @staticmethod
        def prepare(inputs):
            return prepare(inputs).double()

    found, _ = ranked(Double, "grasp", model=model)
    slope, size = gradients(model, Double, weights), 1e-4
    shifted = {}
    for sign in (1, -1):
        moved = vit().double()
        with torch.no_grad():
            for name, weight in masks.prunable(moved).items():
                weight += sign * size * slope[name]
        shifted[sign] = gradients(moved, Double, masks.prunable(moved))
    for name, weight in weights.items():
        curved = (shifted[1][name] - shifted[-1][name]) / (2 * size)
        expected = weight.detach() * curved
        assert float((found[name] - expected).abs().max()) < 2e-3 * float(expected.abs().max()), name


class Quadratic(nn.Module):
    """Outputs (B, 1) that are linear in one matrix, so that the loss is quadratic in it."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(64, 1, bias=False)
        nn.init.constant_(self.matrix.weight, 0.5)

    def forward(self, x_B):
        return self.matrix(x_B.flatten(1))


def test_grasp_of_a_quadratic_loss_is_in_closed_form(data):
    """L = mean (x w - y)^2: H = 2 X'X / n, g = H w - 2 X'y / n."""
    model = Quadratic()
    x = data.prepare(data.train.inputs).flatten(1)
    y = data.train.labels.float()
    w = model.matrix.weight.detach()[0]
    hessian = 2 * x.T @ x / len(x)
    slope = hessian @ w - 2 * x.T @ y / len(x)
    options = {"model": model, "names": ["matrix.weight"], "objective": Regression()}
    found = {criterion: ranked(data, criterion, **options)[0]["matrix.weight"][0] for criterion in ("snip", "grasp")}
    assert torch.allclose(found["snip"], (w * slope).abs(), rtol=1e-4, atol=1e-4)
    assert torch.allclose(found["grasp"], w * (hessian @ slope), rtol=1e-4, atol=1e-2)
    by_batches = ranked(data, "grasp", batches=4, batch_size=80, **options)[0]["matrix.weight"][0]
    assert torch.allclose(by_batches, found["grasp"], rtol=1e-3, atol=1e-2), "of the mean of all batches"


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_the_model_is_left_as_it_was(data, criterion):
    model = ViT(SHAPE, heads=2, seed=0).train()
    found, ledger = ranked(data, criterion, model=model, batches=2, batch_size=16)
    assert same_weights(model, vit()) and model.training and all(p.grad is None for p in model.parameters())
    assert found.keys() == masks.prunable(model).keys()
    assert not any(score.requires_grad for score in found.values())
    assert set(ledger.phases) == {"search"}
    again, _ = ranked(data, criterion, batches=2, batch_size=16)
    assert apart(found.values(), again.values()) == 0


def test_what_it_takes_is_counted(data):
    """SNIP: a forward and the gradients of matrices; GraSP more than twice as much."""
    (_, snip), (_, grasp) = (ranked(data, criterion, batches=2, batch_size=16) for criterion in ("snip", "grasp"))
    once = snip.total()["phases"]["search"]["flops"]
    assert 0.85 < once / (2 * vit().train_flops(16)) <= 1.0, "stem and head need no gradient of their own"
    assert 2.5 < grasp.total()["phases"]["search"]["flops"] / once < 5


def test_an_unknown_criterion_is_refused(data):
    with pytest.raises(ParameterError, match="criterion 'synflow' is unknown; give one of snip, grasp"):
        ranked(data, "synflow")
