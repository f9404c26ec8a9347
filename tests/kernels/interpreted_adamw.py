"""AdamW under a mask by the kernel is torch's AdamW and then the mask."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effi.kernels import adamw, using
from effi.kernels.adamw import MaskedAdamW
from effi.kernels.gpu import adamw as kernels
from tests.kernels.adam import OPTIONS, both, gradients, parameters, stencils


@pytest.fixture(autouse=True)
def only_by_kernel(monkeypatch):
    """Blocks with whole ones, tails, and several of a weight; nothing is left to plain torch."""

    def refused(weights, rates) -> None:
        assert not weights, "the kernel was to compute all"

    monkeypatch.setattr(kernels, "BLOCK", 64)
    monkeypatch.setattr(adamw, "by_torch", refused)
    with using("adamw"):
        yield


def test_twenty_steps_with_changes_of_the_mask():
    """All is kept, half, nothing, then there is no mask for some."""
    both([stencils(kind, seed) for seed, kind in enumerate(("all", "half", "none", "some"))])


def test_a_gradient_of_what_is_pruned_that_is_no_number_does_no_harm():
    found = parameters()
    optimizer = MaskedAdamW(found, **OPTIONS)
    given = stencils("half")
    optimizer.stencils = dict(zip(found, given, strict=True))
    for parameter, gradient, stencil in zip(found, gradients(0), given, strict=True):
        parameter.grad = torch.where(stencil == 0, torch.tensor([torch.nan]), gradient)
    optimizer.step()
    for parameter, stencil in zip(found, given, strict=True):
        assert parameter.isfinite().all() and not parameter[stencil == 0].any()


def test_groups_and_counts_of_steps_are_apart():
    """A rate and decay of each group, and a weight without gradient that makes no step."""

    def made() -> tuple[list[nn.Parameter], list[dict[str, object]]]:
        found = parameters()
        return found, [{"params": found[:2], "lr": 0.1}, {"params": found[2:], "weight_decay": 0.0}]

    (expected, one), (found, other) = made(), made()
    pair = torch.optim.AdamW(one, **OPTIONS, foreach=False), MaskedAdamW(other, **OPTIONS)
    for step in range(4):
        for of, optimizer in zip((expected, found), pair, strict=True):
            for place, (parameter, gradient) in enumerate(zip(of, gradients(step), strict=True)):
                parameter.grad = None if place == 1 and step < 2 else gradient
            optimizer.step()
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-6)
        assert pair[0].state[a]["step"] == pair[1].state[b]["step"]


def test_gradients_need_not_lie_in_order():
    found, twin = nn.Parameter(torch.ones(7, 5)), nn.Parameter(torch.ones(7, 5))
    found.grad = torch.arange(35.0).view(5, 7).T
    twin.grad = found.grad.contiguous()
    for parameter in (found, twin):
        MaskedAdamW([parameter], **OPTIONS).step()
    assert torch.equal(found, twin) and not torch.equal(found, torch.ones(7, 5))


def test_what_the_kernel_cannot_write_is_left_to_torch(monkeypatch):
    """Weights in another type, out of order, or where no wide store can begin."""
    calls = []
    monkeypatch.setattr(adamw, "by_torch", lambda weights, rates: calls.append(len(weights)))
    whole = torch.zeros(41)
    odd = [torch.zeros(4, dtype=torch.float64), torch.zeros(4, 3).T, whole[1:]]
    for value in (*odd, whole[:40]):
        parameter = nn.Parameter(value)
        parameter.grad = torch.ones_like(parameter)
        MaskedAdamW([parameter], **OPTIONS).step()
    assert calls == [1, 1, 1, 0]
