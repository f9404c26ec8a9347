"""Pruned weights stay exactly zero, with their gradients and moments, under every optimiser and way of training."""

from __future__ import annotations

import copy
import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi import masks
from effi.errors import ParameterError
from effi.models.vit import ViT, ViTShape

SHAPE = ViTShape(8, 4, 3, 10, width=16, depth=2, hidden=24, positions="learned")
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "SGD, Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "SGD, fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, amsgrad=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "Muon": lambda p: torch.optim.Muon([x for x in p if x.ndim == 2], lr=1e-2, weight_decay=0.1),
}


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(16, 3, 8, 8, generator=draw), torch.randint(10, (16,), generator=draw)


def train(forward, optimizer, data, steps=3, *, clip=None, autocast=False) -> None:
    images, labels = data
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        if clip:
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
        optimizer.step()
        optimizer.zero_grad()


def companions(weight, optimizer):
    return [v for v in optimizer.state[weight].values() if isinstance(v, torch.Tensor) and v.shape == weight.shape]


def check(model, optimizer, mask, before) -> None:
    """Pruned weights and moments exactly zero, at least 99 % of the kept weights moved."""
    for name, weight in masks.prunable(model).items():
        kept = mask[name]
        assert weight[~kept].count_nonzero() == 0
        assert (weight != before[name])[kept].float().mean() > 0.99
        moments = companions(weight, optimizer)
        assert moments
        assert all(moment[~kept].count_nonzero() == 0 for moment in moments)
        assert any(moment[kept].count_nonzero() for moment in moments)


def held(name: str, *, before_hold=lambda model, optimizer: None):
    model = ViT(SHAPE, heads=2)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    before_hold(model, optimizer)
    mask = masks.magnitude(masks.prunable(model), 0.4)
    handle = masks.hold(model, optimizer, mask)
    return model, optimizer, mask, copy.deepcopy(model.state_dict()), handle


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_and_kept_ones_move(name, data):
    model, optimizer, mask, before, _ = held(name)
    assert all(not before[n][~kept].any() for n, kept in mask.items())
    train(model, optimizer, data)
    check(model, optimizer, mask, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_gathered_before_are_zeroed(name, data):
    model, optimizer, mask, before, _ = held(name, before_hold=lambda model, opt: train(model, opt, data))
    moments = [m[~mask[n]] for n, w in masks.prunable(model).items() for m in companions(w, optimizer)]
    assert moments
    assert not any(moment.any() for moment in moments)
    train(model, optimizer, data)
    check(model, optimizer, mask, before)


@pytest.mark.parametrize("options", [{"clip": 0.1}, {"autocast": True}, {"clip": 0.1, "autocast": True}])
def test_clipping_and_bf16_autocast(options, data):
    model, optimizer, mask, before, _ = held("AdamW, fused")
    train(model, optimizer, data, **options)
    check(model, optimizer, mask, before)


@pytest.mark.parametrize("held_model", ["inner", "compiled"])
def test_torch_compile(held_model, data):
    """Backend "aot_eager" traces forward and backward as the default one does, and spares the C++ compiler."""
    model = ViT(SHAPE, heads=2)
    optimizer = OPTIMIZERS["AdamW, fused"](list(model.parameters()))
    mask = masks.magnitude(masks.prunable(model), 0.4)
    compiled = torch.compile(model, backend="aot_eager")
    masks.hold(compiled if held_model == "compiled" else model, optimizer, mask)
    before = copy.deepcopy(model.state_dict())
    train(compiled, optimizer, data)
    check(model, optimizer, mask, before)
    torch._dynamo.reset()


def test_training_is_that_of_a_model_that_multiplies_by_its_mask(data):
    """Plain SGD under hold equals SGD on w * m, whose gradient carries the mask by the chain rule."""
    model, reference = ViT(SHAPE, heads=2), ViT(SHAPE, heads=2)
    mask = masks.magnitude(masks.prunable(model), 0.4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks.hold(model, optimizer, mask)
    train(model, optimizer, data, steps=3)

    free = {name: p.detach().clone().requires_grad_() for name, p in reference.named_parameters()}
    other = torch.optim.SGD(free.values(), lr=0.1)

    def forward(images):
        masked = {name: p * mask[name] if name in mask else p for name, p in free.items()}
        return torch.func.functional_call(reference, masked, (images,))

    train(forward, other, data, steps=3)
    for name, parameter in model.named_parameters():
        expected = free[name] * mask[name] if name in mask else free[name]
        assert torch.allclose(parameter, expected, atol=1e-6)


def test_gradients_are_zero_before_clipping_and_when_accumulated(data):
    model, _, mask, _, _ = held("AdamW")
    images, labels = data
    for _ in range(2):
        F.cross_entropy(model(images), labels).backward()
    for name, weight in masks.prunable(model).items():
        assert weight.grad[~mask[name]].count_nonzero() == 0
        assert weight.grad[mask[name]].count_nonzero() > 0


def test_infinite_gradients_of_pruned_weights_become_zero():
    layer = nn.TransformerEncoderLayer(4, 1, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    kept = torch.ones(4, 4, dtype=torch.bool).triu()
    masks.hold(layer, optimizer, {"linear1.weight": kept})
    (layer.linear1.weight * torch.full((4, 4), torch.inf)).sum().backward()
    assert layer.linear1.weight.grad[~kept].eq(0).all()


def test_a_second_hold_takes_the_place_of_the_first(data):
    model, optimizer, first, _, handle = held("AdamW, fused")
    hooks = len(optimizer._optimizer_step_post_hooks)
    masks.hold(model, optimizer, first)
    assert len(optimizer._optimizer_step_post_hooks) == hooks == 1
    handle.release()
    second = masks.random_like(first, torch.Generator().manual_seed(3))
    masks.hold(model, optimizer, second)
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, data)
    check(model, optimizer, second, before)


def test_release_lets_weights_grow_again(data):
    model, optimizer, mask, _, handle = held("AdamW")
    handle.release()
    handle.release()
    train(model, optimizer, data)
    grown = [(weight[~mask[name]] != 0).float().mean() for name, weight in masks.prunable(model).items()]
    assert min(grown) > 0.99


def test_an_optimizer_that_is_dropped_is_freed():
    _, optimizer, _, _, handle = held("AdamW")
    watched = weakref.ref(optimizer)
    del optimizer, handle
    gc.collect()
    assert watched() is None


def test_frozen_weights_are_zeroed_once():
    model = ViT(SHAPE, heads=2)
    mask = masks.magnitude(masks.prunable(model), 0.4)
    model.blocks.requires_grad_(False)
    masks.hold(model, torch.optim.SGD(model.head.parameters(), lr=0.1), mask)
    assert all(not weight[~mask[name]].any() for name, weight in masks.prunable(model).items())


def test_a_copy_of_a_held_model_is_free(data):
    model, _, mask, _, _ = held("AdamW")
    twin = copy.deepcopy(model)
    twin(data[0]).sum().backward()
    assert any(w.grad[~mask[n]].any() for n, w in masks.prunable(twin).items())


def test_a_mask_that_does_not_fit_changes_nothing(data):
    model = ViT(SHAPE, heads=2)
    optimizer, before = torch.optim.SGD(model.parameters(), lr=0.1), copy.deepcopy(model.state_dict())
    mask = masks.magnitude(masks.prunable(model), 0.4)
    name = "blocks.0.attention.qkv.weight"
    with pytest.raises(ParameterError, match=r'has "blocks.7.x.weight" and ViT has not'):
        masks.hold(model, optimizer, {**mask, "blocks.7.x.weight": mask[name]})
    with pytest.raises(ParameterError, match=rf'"{name}" is \(2, 2\)'):
        masks.hold(model, optimizer, {**mask, name: torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ParameterError, match="float32 in the mask"):
        masks.hold(model, optimizer, {**mask, name: mask[name].float()})
    assert not optimizer._optimizer_step_post_hooks
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
