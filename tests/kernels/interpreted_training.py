"""A training that asks for kernels makes what it does without, masks bit for bit; and it resumes."""

from __future__ import annotations

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.kernels import using
from effi.kernels.adamw import MaskedAdamW
from effi.kernels.gpu import adamw, selection
from effi.mixed_sparsity.evolution import Evolution, evolve
from effi.training import Step, Training, checkpoint, fit
from tests.training import tiny

SETTINGS = {
    "steps": 6,
    "batch_size": 16,
    "lr": 1e-2,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "eval_every": "3 steps",
    "eps": 1e-3,  # gradients that are zero but for rounding, those of the keys' biases, make no steps
}
KERNELS = ("adamw", "selection")


@pytest.fixture
def launches(monkeypatch) -> list[str]:
    """Names of the kernels that computed, in order."""
    found: list[str] = []
    for module, name in ((adamw, "step"), (selection, "keep")):
        inner = getattr(module, name)
        label = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, name, lambda *given, i=inner, n=label: (found.append(n), i(*given))[1])
    return found


def move(step: Step) -> None:
    """Another mask after the third step, chosen under the training's wishes."""
    if step.index == 3:
        step.hold(masks.magnitude(masks.prunable(step.model), 0.7))


def trained(kernels=(), file=None, stop=None, **changes):
    def cut(step: Step) -> None:
        if step.index == stop:
            raise KeyboardInterrupt

    model, optimizers = tiny.vit(), []
    mask = masks.magnitude(masks.prunable(model), 0.5)
    listeners = [move, lambda step: optimizers.append(type(step.optimizer)), cut]
    training = Training(**(SETTINGS | changes), kernels=kernels)
    options = {"seeds": [0], "ledger": Ledger(), "after_step": listeners, "mask": mask, "checkpoint": file}
    try:
        fit(model, tiny.images(), training, **options)
    except KeyboardInterrupt:
        assert stop
    return model, set(optimizers)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_it_learns_the_same(launches, clip):
    plain, usual = trained(clip=clip)
    assert usual == {torch.optim.AdamW} and not launches
    model, own = trained(KERNELS, clip=clip)
    assert own == {MaskedAdamW}
    # Matrices and vectors are groups of their own; a mask is chosen before the fourth step.
    assert launches == ["adamw"] * 6 + ["selection"] + ["adamw"] * 6
    for (name, one), (_, other) in zip(plain.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
        assert torch.equal(other == 0, one == 0), name
    assert masks.sparsity({name: weight != 0 for name, weight in masks.prunable(model).items()}) > 0.69


def test_cut_off_it_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    # A file's tensors begin anywhere on a CPU; a GPU's are copies, which begin where wide stores can.
    monkeypatch.setattr(adamw, "ALIGNED", 1)
    expected, _ = trained(KERNELS)
    trained(KERNELS, tmp_path / "arm", stop=5)
    model, _ = trained(KERNELS, tmp_path / "arm")
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_masks_are_those_of_a_cpu(launches, scope):
    draw = torch.Generator().manual_seed(3)
    weights = {"a": torch.randn(70, 40, generator=draw), "b": torch.randn(999, generator=draw).round()}
    for sparsity in (0.001, 0.3, 0.97):
        within = masks.random(weights, sparsity / 2, generator=draw)
        for make in (masks.magnitude, masks.smallest):
            here = make(weights, sparsity, scope=scope, within=within)
            with using("selection"):
                there = make(weights, sparsity, scope=scope, within=within)
            assert masks.distance(here, there) == 0
    assert launches == ["selection"] * 6
    like = [masks.random_like(within, torch.Generator().manual_seed(0))]
    with using("selection"):
        like.append(masks.random_like(within, torch.Generator().manual_seed(0)))
    assert masks.distance(*like) == 0


def test_an_update_of_topology_is_two_selections(launches):
    draw = torch.Generator().manual_seed(0)
    weights = {str(layer): torch.randn(20, 15 + layer, generator=draw).round() for layer in range(5)}
    gradients = {name: torch.randn(weight.shape, generator=draw) for name, weight in weights.items()}
    mask = masks.random(weights, 0.6, generator=draw)

    def updated():
        options = {"share": 0.0, "options": Evolution(), "generator": torch.Generator().manual_seed(1)}
        return evolve(weights, mask, dict.fromkeys(weights, 0.5), gradients=gradients, **options)

    here = updated()
    with using("selection"):
        there = updated()
    assert masks.distance(here.mask, there.mask) == 0 and here.facts == there.facts
    assert launches == ["selection"] * 2
