"""AdamW under a mask in plain torch, as an optimiser that `hold` knows and a training asks for."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from effi import masks
from effi.errors import ParameterError
from effi.kernels import using
from effi.kernels.adamw import MaskedAdamW
from effi.training import Single, Training, optimizers
from tests.kernels import adam
from tests.kernels.adam import OPTIONS, both, gradients, parameters, stencils


@pytest.mark.parametrize("kinds", [["half"], ["all"], ["none"], ["some"], ["half", "none", "all", "some"]])
def test_twenty_steps_with_changes_of_the_mask(kinds):
    assert both([stencils(kind, seed) for seed, kind in enumerate(kinds)]) == adam.count()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 3))


def trained(model, optimizer, steps=5) -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        model(torch.randn(8, 12, generator=draw)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def mask_of(model, seed=0) -> masks.Mask:
    weights = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    return masks.random(weights, 0.5, generator=torch.Generator().manual_seed(seed))


def test_under_hold_it_trains_as_torch_does():
    """With a mask, then another, then none; the step keeps zeros itself."""
    nets = [net(), net()]
    pair = [torch.optim.AdamW(nets[0].parameters(), **OPTIONS), MaskedAdamW(nets[1].parameters(), **OPTIONS)]
    for seed in (0, 1):
        helds = [
            masks.hold(model, optimizer, mask_of(model, seed)) for model, optimizer in zip(nets, pair, strict=True)
        ]
        for model, optimizer in zip(nets, pair, strict=True):
            trained(model, optimizer)
        assert len(pair[1]._optimizer_step_post_hooks) == 0 < len(pair[0]._optimizer_step_post_hooks)
        for name, kept in mask_of(net(), seed).items():
            weight = nets[1].get_parameter(name)
            values = [weight, *(pair[1].state[weight][key] for key in ("exp_avg", "exp_avg_sq"))]
            assert not any(value[~kept].any() for value in values) and weight[kept].any()
    for held, model, optimizer in zip(helds, nets, pair, strict=True):
        held.release()
        trained(model, optimizer)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert all(nets[1].get_parameter(name)[~kept].any() for name, kept in mask_of(net(), 1).items()), "released"


def test_gradients_are_zero_for_who_clips_them():
    model = net()
    optimizer = MaskedAdamW(model.parameters(), **OPTIONS)
    masks.hold(model, optimizer, mask_of(model))
    model(torch.randn(8, 12)).sum().backward()
    assert not any(model.get_parameter(name).grad[~kept].any() for name, kept in mask_of(model).items())


def test_its_state_is_that_of_torchs_optimiser():
    one, other = net(), net()
    before, after = (
        torch.optim.AdamW(one.parameters(), **OPTIONS, fused=True),
        MaskedAdamW(other.parameters(), **OPTIONS),
    )
    trained(one, before)
    other.load_state_dict(one.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for model, optimizer in ((one, before), (other, after)):
        trained(model, optimizer)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
        assert after.state[b].keys() == before.state[a].keys() and after.state[b]["step"] == before.state[a]["step"]


def test_a_held_optimizer_that_is_dropped_is_freed():
    model = net()
    optimizer = MaskedAdamW(model.parameters(), **OPTIONS)
    held, watched = masks.hold(model, optimizer, mask_of(model)), weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert watched() is None and held.in_step


def test_a_closure_gives_its_loss():
    model = net()
    optimizer = MaskedAdamW(model.parameters(), **OPTIONS)

    def closure() -> float:
        loss = model(torch.ones(2, 12)).square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) > model(torch.ones(2, 12)).square().sum().item()


def test_a_training_asks_for_it_by_name(monkeypatch):
    model = net()
    asked = Training(steps=1, optimizer="adamw", kernels=("adamw",))
    assert type(optimizers.make(Single(model), model, asked)) is torch.optim.AdamW, "a CPU has no kernels"
    monkeypatch.setattr(optimizers, "takes", lambda name, device, size: name == "adamw" and size == 323)
    made = optimizers.make(Single(model), model, asked)
    assert type(made) is MaskedAdamW and [group["scale"] for group in made.param_groups] == [1.0, 1.0]
    for name in ("adam", "sgd"):
        with pytest.raises(ParameterError, match=f'"adamw" makes the step of optimizer="adamw", not of .{name}.;'):
            optimizers.make(Single(model), model, Training(steps=1, optimizer=name, kernels=("adamw",)))
    assert Training(steps=1).kernels == ()
    with pytest.raises(ParameterError, match="there is no kernel 'adam'; did you mean 'adamw'"):
        Training(steps=1, kernels=("adam",))


@pytest.mark.parametrize("option", ["amsgrad", "maximize", "capturable", "differentiable"])
def test_what_its_step_does_not_do_is_refused(option):
    with pytest.raises(ParameterError, match=f"has no {option}; take torch.optim.AdamW"):
        MaskedAdamW(net().parameters(), **{option: True})


def test_weights_in_parts_are_left_to_torch(monkeypatch):
    model = net()
    monkeypatch.setattr(optimizers, "takes", lambda name, device, size: True)
    for parameter in model.parameters():
        parameter.to_local = None  # what a weight of fsdp has
    made = optimizers.make(Single(model), model, Training(steps=1, optimizer="adamw", kernels=("adamw",)))
    assert type(made) is torch.optim.AdamW


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
def test_a_gpu_computes_the_same(monkeypatch):
    """Weights of several whole blocks and a tail among them, all by the kernel."""
    monkeypatch.setattr(adam, "SIZES", (*adam.SIZES, (2 * 2048 + 17,), (65, 129)))
    monkeypatch.setattr("effi.kernels.adamw.by_torch", lambda weights, rates: pytest.fail("torch") if weights else None)
    monkeypatch.setattr(adam, "parameters", lambda: [nn.Parameter(p.data.cuda()) for p in parameters()])
    monkeypatch.setattr(adam, "gradients", lambda step: [g.cuda() for g in gradients(step)])
    with using("adamw"):
        masks_there = [[None if s is None else s.cuda() for s in stencils(kind)] for kind in ("half", "none", "some")]
        assert both(masks_there) == adam.count() > 2 * 2048
