"""Schedules in closed form, and that rates, decay, betas and eps reach exactly the parameters they are for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.training import Group, LanguageModelling, Replicas, Single, Step, Training, fit, optimizers
from tests.training.tiny import Reader, gradients_of, sentences, vit, weights_of

ONE = Training(steps=1, batch_size=40, optimizer="sgd", momentum=0.0, lr=0.1)


class Mixed(nn.Module):
    """One parameter or more of every role."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.layer = nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.filter, self.gain = nn.Conv2d(1, 2, 3), nn.Parameter(torch.ones(4))


ROLES = {
    "embedding": {"words.weight"},
    "norm": {"norm.weight", "norm.bias"},
    "bias": {"layer.bias", "filter.bias"},
    "matrix": {"layer.weight", "filter.weight"},
    "vector": {"gain"},
}


def settings_of(model: nn.Module, training: Training) -> dict[str, tuple[float, float]]:
    """Parameter -> its share of the rate, and its decay."""
    optimizer = optimizers.make(Single(model), model, training)
    told = {id(p): (group["scale"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    return {name: told[id(parameter)] for name, parameter in model.named_parameters()}


# --- schedules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.2, 2, 2.0])
def test_warm_up_as_a_share_and_as_a_number_of_steps(warmup):
    if warmup == 0.2:
        assert Training(steps=10, lr=0.8, warmup=warmup).rate(0, 10) == 0.4
    training = Training(steps=10, lr=0.8, warmup=warmup, schedule="linear", floor=0.25)
    assert [training.rate(step, 10) for step in range(3)] == pytest.approx([0.4, 0.8, 0.8])
    for step in range(2, 10):
        assert training.rate(step, 10) == pytest.approx(0.8 * (0.25 + 0.75 * (10 - step) / 8))


def test_a_warm_up_longer_than_the_training_never_ends():
    training = Training(steps=4, lr=1.0, warmup=8, schedule="cosine")
    assert [training.rate(step, 4) for step in range(4)] == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_a_schedule_ends_at_its_floor(schedule, floor):
    training = Training(steps=100, lr=0.5, schedule=schedule, floor=floor)
    rates = [training.rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0.5 * (1 + floor) / 2)
    assert rates[100] == pytest.approx(0.5 * floor, abs=1e-12)
    assert rates == sorted(rates, reverse=True)


def test_cosine_with_a_floor_in_closed_form():
    training = Training(steps=8, lr=2.0, schedule="cosine", floor=0.3)
    for step in range(8):
        assert training.rate(step, 8) == pytest.approx(2 * (0.3 + 0.7 * (1 + math.cos(math.pi * step / 8)) / 2))


def test_the_optimiser_has_the_scheduled_rate_at_every_step(data):
    rates: list[tuple[float, ...]] = []
    training = Training(
        epochs=3, batch_size=16, lr=0.02, schedule="cosine", warmup=3, floor=0.1, groups=({"of": "head.*", "lr": 0.1},)
    )

    def look(step: Step) -> None:
        rates.append((step.rate, *sorted({group["lr"] for group in step.optimizer.param_groups})))

    fit(vit(), data, training, seeds=[0], ledger=Ledger(), before_step=[look])
    expected = [training.rate(step, 9) for step in range(9)]
    assert rates == [pytest.approx((rate, rate, 5 * rate)) for rate in expected]


# --- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_its_parameters_and_no_others(role):
    told = settings_of(Mixed(), Training(steps=1, lr=0.1, weight_decay=0.01, groups=(Group(role, 0.3, 0.07),)))
    for name in set().union(*ROLES.values()):
        decay = 0.01 if name in ROLES["matrix"] | ROLES["embedding"] else 0.0
        assert told[name] == (pytest.approx((3.0, 0.07)) if name in ROLES[role] else (1.0, decay)), name


def test_patterns_and_the_first_of_several_groups_count():
    groups = (Group("layer.*", lr=0.2), Group("*.weight", weight_decay=0.5), {"of": "bias", "lr": 0.0})
    told = settings_of(Mixed(), Training(steps=1, lr=0.1, weight_decay=0.01, groups=groups))
    assert told == {
        "layer.weight": (2.0, 0.01),
        "layer.bias": (2.0, 0.0),
        "words.weight": (1.0, 0.5),
        "norm.weight": (1.0, 0.5),
        "filter.weight": (1.0, 0.5),
        "norm.bias": (1.0, 0.0),
        "filter.bias": (0.0, 0.0),
        "gain": (1.0, 0.0),
    }


def test_a_step_with_groups_in_closed_form(data):
    """Plain SGD: w - rate (g + decay w), with the rate and the decay of each group."""
    groups = (Group("head.*", lr=0.03, weight_decay=0.5), {"of": "norm", "lr": 0.0}, Group("stem.weight", lr=1.0))
    training, model = replace(ONE, weight_decay=0.2, groups=groups), vit()
    before, gradients = weights_of(model), {}
    fit(
        model,
        data,
        training,
        seeds=[0],
        ledger=Ledger(),
        before_step=[lambda step: gradients.update(gradients_of(step.model))],
    )
    for name, weight in weights_of(model).items():
        rate, decay = 0.1, 0.2 if before[name].ndim > 1 else 0.0
        if name.startswith("head."):
            rate, decay = 0.03, 0.5
        elif "norm" in name:
            rate = 0.0
        elif name == "stem.weight":
            rate = 1.0
        expected = before[name] - rate * (gradients[name] + decay * before[name])
        assert torch.allclose(weight, expected, atol=1e-7), name
        assert torch.equal(weight, before[name]) is (rate == 0.0), name


def test_groups_reach_seeds_that_train_together(data):
    """A vector of one seed is a matrix of the stack."""
    training = replace(ONE, weight_decay=0.2, groups=(Group("bias", weight_decay=0.7), Group("norm", lr=0.0)))
    models = [vit(0), vit(1)]
    network = Replicas(models)
    optimizer = optimizers.make(network, models[0], training)
    told = {id(p): (group["scale"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    expected = settings_of(vit(), training)
    assert {name: told[id(p)] for name, p in zip(network.names, network.stacked, strict=True)} == expected


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (({"of": "haed.*"},), r"nothing is 'haed\.\*'; give a role \(matrix, .*\) or a pattern of parameters such as"),
        (({"of": "embedding"},), "nothing is 'embedding'"),
        (({"of": "head.*"}, {"of": "head.bias"}), "nothing is 'head.bias'"),
    ],
)
def test_a_group_that_fits_nothing_is_refused(groups, told):
    model = vit()
    with pytest.raises(ParameterError, match=told):
        optimizers.make(Single(model), model, Training(steps=1, groups=groups))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"groups": ({"of": "bias", "learning_rate": 1.0},)}, "unknown option of a group 'learning_rate'"),
        ({"groups": ({"of": "bias", "weight_decy": 1.0},)}, "did you mean 'weight_decay'"),
        ({"groups": ({"lr": 1.0},)}, r"a group of parameters \{'lr': 1.0\} wants of"),
        ({"groups": ({"of": "bias", "lr": -1.0},)}, "lr=-1.0 of 'bias' is below 0"),
        ({"groups": (Group("bias"), {"of": "norm", "weight_decay": -2})}, "weight_decay=-2 of 'norm' is below 0"),
        ({"optimizer": "admw"}, "unknown optimizer 'admw' of a training; use adam, adamw, sgd, muon"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin' of a training; use constant, linear, cosine"),
        ({"precision": "bf17"}, "unknown precision 'bf17' of a training; use fp32, bf16, auto"),
        ({"betas": (0.9, 1.0)}, r"betas=\[0.9, 1.0\] must be two numbers from 0 to below 1"),
        ({"betas": (0.9,)}, r"betas=\[0.9\] must be two numbers"),
        ({"eps": -1e-8}, "training eps=-1e-08 is too small"),
        ({"momentum": 1.0}, "training momentum=1 never forgets"),
        ({"momentum": -0.1}, "training momentum=-0.1 is too small"),
        ({"floor": 1.1}, "training floor=1.1 is a share of the rate"),
        ({"floor": -0.1}, "training floor=-0.1 is too small"),
        ({"clip": -1.0}, "training clip=-1.0 is too small"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, told):
    with pytest.raises(ParameterError, match=told):
        replace(ONE, **change)


# --- optimisers ----------------------------------------------------------------------------------------------


def watched(data, training: Training, model: nn.Module | None = None):
    """The weights before each step, the gradients of each, and the optimiser."""
    model = model or vit()
    weights, gradients, found = [], [], []

    def look(step: Step) -> None:
        weights.append(weights_of(step.model))
        gradients.append(gradients_of(step.model))
        found.append(step.optimizer)

    fit(model, data, training, seeds=[0], ledger=Ledger(), before_step=[look])
    return [*weights, weights_of(model)], gradients, found[0]


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_eps_reaches_adam(data, eps):
    """The first step of Adam is rate g / (|g| + eps), bias-corrected."""
    (before, after), (gradients,), _ = watched(data, replace(ONE, optimizer="adam", lr=0.01, eps=eps))
    for name, gradient in gradients.items():
        expected = before[name] - 0.01 * gradient / (gradient.abs() + eps)
        assert (after[name] - expected)[gradient.abs() > 1e-5].abs().max() < 1e-6, name


REFERENCES = {
    "adam": (torch.optim.Adam, {"betas": (0.6, 0.7), "eps": 1e-4}),
    "adamw": (torch.optim.AdamW, {"betas": (0.6, 0.7), "eps": 1e-4}),
    "sgd": (torch.optim.SGD, {"momentum": 0.8}),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_optimiser_is_that_of_torch(data, name):
    """The same gradients, given to torch's optimiser by hand, make the same steps."""
    make, options = REFERENCES[name]
    training = Training(epochs=2, batch_size=16, optimizer=name, lr=0.02, weight_decay=0.1, **options)
    weights, gradients, _ = watched(data, training)
    mine = {key: value.clone() for key, value in weights[0].items()}
    groups = [{"params": [value], "weight_decay": 0.1 * (value.ndim > 1)} for value in mine.values()]
    optimizer = make(groups, lr=0.02, **options)
    for expected, step in zip(weights[1:], gradients, strict=True):
        for key, value in mine.items():
            value.grad = step[key]
        optimizer.step()
        assert all((mine[key] - expected[key]).abs().max() < 1e-6 for key in mine)


MUON = Training(epochs=2, batch_size=16, optimizer="muon", lr=0.02, betas=(0.6, 0.7), eps=1e-4)


def muon_by_hand(start: dict[str, torch.Tensor], hidden: set[str], decay: float):
    mine = {key: value.clone() for key, value in start.items()}
    parts = [
        torch.optim.Muon(
            [mine[key] for key in hidden], lr=0.02, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [{"params": [v], "weight_decay": decay * (v.ndim > 1)} for key, v in mine.items() if key not in hidden],
            lr=0.02,
            betas=(0.6, 0.7),
            eps=1e-4,
        ),
    ]
    return mine, parts


def test_muon_takes_matrices_and_adamw_the_rest(data):
    weights, gradients, _ = watched(data, replace(MUON, weight_decay=0.1))
    hidden = {name for name, weight in weights[0].items() if weight.ndim == 2}
    assert len(hidden) == 6 and len(weights[0]) > 2 * len(hidden)
    mine, parts = muon_by_hand(weights[0], hidden, 0.1)
    for expected, step in zip(weights[1:], gradients, strict=True):
        for key, value in mine.items():
            value.grad = step[key]
        for part in parts:
            part.step()
        assert all((mine[key] - expected[key]).abs().max() < 1e-6 for key in mine)


def test_an_embedding_is_no_matrix_to_muon():
    model, steps = Reader(), []
    fit(
        model,
        sentences(),
        replace(MUON, batch_size=20, epochs=1),
        objective=LanguageModelling(),
        seeds=[0],
        ledger=Ledger(),
        before_step=[lambda step: steps.append((weights_of(step.model), gradients_of(step.model)))],
    )
    ((before, gradients),) = steps
    for name, vectors in (("embedding.weight", False), ("layer.weight", True), ("head.weight", True)):
        adam = 0.02 * gradients[name] / (gradients[name].abs() + 1e-4)
        change = before[name] - weights_of(model)[name]
        assert torch.allclose(change, adam, atol=1e-6) is not vectors, name


@pytest.mark.parametrize("name", ["stem.weight", "blocks.0.mlp.0.weight", "blocks.0.attention.qkv.weight"])
def test_an_update_of_muon_is_orthogonal_and_as_long_as_one_of_adamw(data, name):
    """Singular values near 0.2 sqrt(the longer side) times the rate, whatever those of the gradient."""
    (before, after), (gradients,), _ = watched(data, replace(MUON, epochs=None, steps=1, batch_size=40))
    update, gradient = before[name] - after[name], gradients[name]
    values = torch.linalg.svdvals(update) / (0.02 * 0.2 * math.sqrt(max(update.shape)))
    spread = torch.linalg.svdvals(gradient)
    assert spread[0] > 5 * spread[-1]
    # What a LayerNorm gives sums to zero: one direction of the matrices behind it has no gradient.
    assert values[-2] > 0.6 and values[0] < 1.3
    assert 0.02 * 0.12 < update.square().mean().sqrt() < 0.02 * 0.25


def test_muon_reaches_groups_and_keeps_its_own_momentum(data):
    training = replace(MUON, momentum=0.5, weight_decay=0.1, groups=(Group("*.mlp.*", lr=0.0), Group("bias", lr=0.04)))
    weights, _, optimizer = watched(data, training)
    still = [name for name in weights[0] if ".mlp." in name]
    assert still and all(torch.equal(weights[0][name], weights[-1][name]) for name in still)
    assert {group["momentum"] for group in optimizer.param_groups if "momentum" in group} == {0.5}
    scales = {group["scale"] for group in optimizer.param_groups}
    assert scales == {0.0, 2.0, 1.0}


def test_muon_is_refused_for_several_models(data):
    with pytest.raises(ParameterError, match=r"muon orthogonalises matrices of one model: .* \(together=1\)"):
        fit([vit(0), vit(1)], data, MUON, seeds=[0, 1], ledger=Ledger())
