"""Seeds trained together are the seeds trained alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from effi.cost import Ledger
from effi.data import Dataset
from effi.errors import TrainingError
from effi.minimal import Variant
from effi.models.vit import ViT
from effi.training import Classification, History, Replicas, Single, Training, fit
from effi.training.evaluation import evaluate
from tests.training.curves import learnt

SEEDS = (3, 5, 8)
EVERYTHING = Training(
    epochs=3,
    batch_size=16,
    optimizer="sgd",
    lr=1e-2,
    weight_decay=0.1,
    schedule="cosine",
    warmup=0.2,
    clip=0.5,
    augment=("flip", "crop"),
)
SMALL = Variant(width=8, hidden=12, depth=2, heads=2)
VARIANTS = {
    "full": SMALL,
    "minimum": replace(SMALL, mlp=False, query_key="collapsed", value_output="dropped", heads=1),
    "tied": replace(SMALL, query_key="tied"),
    "mirrored": replace(SMALL, query_key="mirrored"),
    "gram": replace(SMALL, query_key="gram", value_output="averaged"),
    "fixed": replace(SMALL, mixing="fixed"),
    "cls": replace(SMALL, pool="cls", positions="learned", norm="post"),
}


def vit(variant: Variant, seed: int) -> ViT:
    return variant.model((3, 8, 8), 4, 4, seed=seed)


def together(variant: Variant, data: Dataset, settings: Training, ledger: Ledger) -> tuple[list[ViT], list[History]]:
    models = [vit(variant, seed) for seed in SEEDS]
    return models, fit(models, data, settings, seeds=SEEDS, ledger=ledger)


def alone(variant: Variant, data: Dataset, settings: Training, seed: int) -> tuple[ViT, History]:
    model = vit(variant, seed)
    return model, fit(model, data, settings, seeds=[seed], ledger=Ledger())[0]


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert (a[name] - b[name]).abs().max() <= 1e-5, name


@pytest.mark.parametrize("name", VARIANTS)
def test_each_seed_is_trained_as_if_alone(name, data):
    models, histories = together(VARIANTS[name], data, EVERYTHING, Ledger())
    for seed, model, history in zip(SEEDS, models, histories, strict=True):
        single, expected = alone(VARIANTS[name], data, EVERYTHING, seed)
        assert (history.seed, history.best_epoch) == (seed, expected.best_epoch)
        assert list(history.curves) == list(expected.curves)
        for curve in learnt(expected):
            assert history.curves[curve] == pytest.approx(expected.curves[curve], abs=1e-5), curve
        assert_same_weights(model.state_dict(), single.state_dict())
        assert_same_weights(history.best_state, expected.best_state)


@pytest.mark.parametrize(
    ("changes", "loss"), [({"optimizer": "adamw"}, "cross_entropy"), ({"optimizer": "adam", "clip": None}, "mse")]
)
def test_adam_too(data, changes, loss):
    """Adam lengthens the rounding noise of vanishing gradients to whole steps, so that only curves can be compared."""
    settings, objective = replace(EVERYTHING, **changes), Classification(loss)
    histories = fit([vit(SMALL, s) for s in SEEDS], data, settings, objective=objective, seeds=SEEDS, ledger=Ledger())
    for seed, history in zip(SEEDS, histories, strict=True):
        (expected,) = fit(vit(SMALL, seed), data, settings, objective=objective, seeds=[seed], ledger=Ledger())
        for curve in ("train_loss", "validation_loss"):
            assert history.curves[curve] == pytest.approx(expected.curves[curve], abs=1e-4)


def test_seeds_differ(data):
    _, histories = together(SMALL, data, EVERYTHING, Ledger())
    assert len({tuple(history.curves["train_loss"]) for history in histories}) == len(SEEDS)


def test_best_states_reproduce_their_losses(data):
    models, histories = together(SMALL, data, replace(EVERYTHING, epochs=5, lr=0.1), Ledger())
    for model, history in zip(models, histories, strict=True):
        model.load_state_dict(history.best_state)
        loss = evaluate(model, data.validation, data)["loss"]
        assert loss == pytest.approx(min(history.curves["validation_loss"]), abs=1e-5)


def test_flops_are_those_of_all_seeds(data):
    ledger = Ledger()
    models, _ = together(SMALL, data, EVERYTHING, ledger)
    assert ledger.total()["phases"]["train"]["flops"] == 3 * EVERYTHING.epochs * models[0].train_flops(40)
    forward = sum(models[0].forward_flops(12).values())
    assert ledger.total()["phases"]["evaluate"]["flops"] == 3 * EVERYTHING.epochs * forward


def test_clipping_looks_at_each_seed_alone():
    models = [vit(SMALL, seed) for seed in SEEDS]
    replicas, singles = Replicas(models), [Single(vit(SMALL, seed)) for seed in SEEDS]
    x = torch.randn(len(SEEDS), 4, 3, 8, 8)
    scale = torch.tensor([100.0, 1.0, 0.0])
    (replicas(x).square().sum((1, 2)) * scale).sum().backward()
    replicas.clip(0.5)
    named = dict(zip(replicas.names, replicas.stacked, strict=True))
    for replica, single in enumerate(singles):
        (single(x[replica : replica + 1]).square().sum() * scale[replica]).backward()
        single.clip(0.5)
        for name, parameter in single.model.named_parameters():
            assert torch.allclose(named[name].grad[replica], parameter.grad, atol=1e-6), name


def test_what_is_trained_has_the_dimensions_of_one_seed():
    models = [vit(VARIANTS["cls"], seed) for seed in SEEDS]
    stacked, single = Replicas(models).trainable(), Single(models[0]).trainable()
    for (name, several, rank), (other, one, expected) in zip(stacked, single, strict=True):
        assert (name, rank, tuple(several.shape)) == (other, expected, (3, *one.shape))


def test_frozen_parameters_stay(data):
    models = [vit(SMALL, seed) for seed in SEEDS]
    for model in models:
        model.stem.requires_grad_(False)
    before = [model.stem.weight.clone() for model in models]
    fit(models, data, EVERYTHING, seeds=SEEDS, ledger=Ledger())
    assert all(torch.equal(model.stem.weight, weight) for model, weight in zip(models, before, strict=True))


def test_dropout_differs_between_seeds_and_repeats(data):
    variant = replace(SMALL, dropout=0.4)
    first = [learnt(history) for history in together(variant, data, EVERYTHING, Ledger())[1]]
    again = [learnt(history) for history in together(variant, data, EVERYTHING, Ledger())[1]]
    assert first == again
    replicas = Replicas([vit(variant, 0), vit(variant, 0)])
    output = replicas(torch.ones(2, 4, 3, 8, 8))
    assert not torch.allclose(output[0], output[1])


def test_the_seed_that_fails_is_named(data):
    models = [vit(SMALL, seed) for seed in SEEDS]
    with torch.no_grad():
        models[1].head.bias.fill_(math.nan)
    with pytest.raises(TrainingError, match="the loss of seed 5 is not a number in epoch 1"):
        fit(models, data, EVERYTHING, seeds=SEEDS, ledger=Ledger())


def test_a_dry_run_counts_all_seeds(data):
    ledger = Ledger(dry_run=True)
    models, histories = together(SMALL, data, EVERYTHING, ledger)
    assert ledger.phases["train"].flops == 9 * 3 * models[0].train_flops(16)
    assert ledger.planned_steps == 9
    assert [history.seed for history in histories] == list(SEEDS)
