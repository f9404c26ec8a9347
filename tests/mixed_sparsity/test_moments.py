"""Moments that masks leave alone, and a bias correction of each weight's own, against Adam written out by weight."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.masks import hold
from effi.mixed_sparsity.cold_start import ColdStart, adam_move
from effi.mixed_sparsity.moments import Corrected, Kept
from effi.mixed_sparsity.recipes import PHASES, mst
from effi.training import Step
from tests.instant_soup.tiny import same_weights
from tests.mixed_sparsity.toy import TRAINING, cut_off, task
from tests.training.conftest import one_thread as one_thread

RATE, DECAY, EPS, BETAS = 1e-2, 0.3, 1e-12, (0.9, 0.999)
SIZE, STEPS_MADE = 12, 60
# Steps before which the mask changes.
CHANGES = (10, 25, 40)
# Updates after 10, 20 ... steps; more than a few weights grow from 30 on.
METHOD = mst(10, None, replace(PHASES, warmup=0.4, restoration=0.3, settle=0.5))


def course():
    """Gradients of all steps, and the mask of each, with one weight that comes and goes and one that always stays."""
    draw = torch.Generator().manual_seed(3)
    gradients = torch.randn(STEPS_MADE, 1, SIZE, generator=draw, dtype=torch.float64)
    kept = torch.rand(len(CHANGES) + 1, 1, SIZE, generator=draw) < 0.5
    kept[:, 0, 0], kept[:, 0, 1] = True, torch.tensor([True, False, True, False])
    return gradients, [kept[sum(index >= change for change in CHANGES)] for index in range(STEPS_MADE)]


def written_out(kind: str, decoupled: bool) -> np.ndarray:
    """Adam by weight: moments kept or zeroed where a weight is pruned, corrected by its own steps or by all."""
    gradients, masks = course()
    w, m, v = (np.zeros(SIZE) for _ in range(3))
    born = np.zeros(SIZE)
    for index, (mask, gradient) in enumerate(zip(masks, gradients, strict=True)):
        for i in range(SIZE):
            on = bool(mask[0, i])
            if index and on and not masks[index - 1][0, i]:
                born[i] = index
            w[i] *= on
            if not on and kind != "kept":
                m[i] = v[i] = 0
            g = float(gradient[0, i]) * on + (0 if decoupled else DECAY * w[i])
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            steps = index + 1 - (born[i] if kind == "corrected" else 0)
            w[i] *= 1 - RATE * DECAY if decoupled else 1
            if m[i]:
                w[i] -= RATE * (m[i] / (1 - 0.9**steps)) / (math.sqrt(v[i] / (1 - 0.999**steps)) + EPS)
            w[i] *= on
    return w


def trained_by_hand(kind: str, optimizer_type: type[torch.optim.Optimizer]) -> np.ndarray:
    """The same with torch's optimiser, a mask that is held, and the listeners in line."""
    model = nn.Linear(SIZE, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    optimizer = optimizer_type(model.parameters(), RATE, BETAS, EPS, DECAY)
    held = []
    step = Step(STEPS_MADE, model, optimizer, Ledger(), lambda mask: held.append(hold(model, optimizer, mask)))
    made = {"kept": Kept, "corrected": Corrected}.get(kind)
    early, late = made({"weight": model.weight}).around([], []) if made else ([], [])
    gradients, masks = course()
    step.hold({"weight": masks[0]})
    for step.index, (mask, gradient) in enumerate(zip(masks, gradients, strict=True), 1):
        for listener in [] if kind == "corrected" else early:
            listener(step)
        if not torch.equal(step.mask["weight"], mask):
            step.hold({"weight": mask})
        model.weight.grad = gradient.clone()
        held[-1].zero_gradients()
        for listener in early if kind == "corrected" else []:
            listener(step)
        optimizer.step()
        for listener in late:
            listener(step)
    return model.weight.detach().numpy()[0]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adam])
@pytest.mark.parametrize("kind", ["zero", "kept", "corrected"])
def test_weights_are_those_of_adam_written_out(kind, optimizer):
    found, expected = trained_by_hand(kind, optimizer), written_out(kind, optimizer is torch.optim.AdamW)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6) and (found != 0).sum() >= 3
    others = [written_out(other, optimizer is torch.optim.AdamW) for other in {"zero", "kept", "corrected"} - {kind}]
    assert all(np.abs(found - other).max() > 1e-3 for other in others)


def test_another_optimiser_is_not_corrected():
    model = nn.Linear(2, 1)
    step = Step(1, model, torch.optim.SGD(model.parameters(), 0.1), Ledger(), lambda mask: None)
    with pytest.raises(ParameterError, match="SGD has no bias to correct; train with adam or adamw"):
        Corrected({"weight": model.weight})(step)


# --- in a training -------------------------------------------------------------------------------------------


@cache
def trained(moments: str, **options):
    one = task(replace(TRAINING, steps=80, betas=BETAS), **options)
    return one, ColdStart(**vars(METHOD), moments=moments)(one)


def moves(found, since: int) -> list[tuple[float, float]]:
    """(optimiser steps before, mean move of what grew) of each update."""
    rows = zip(*(found.watched[f"cold/{name}"] for name in ("since", "taken", "grown")), strict=True)
    return [(taken, grown) for after, taken, grown in rows if after == since]


def test_what_grows_moves_one_learning_rate_at_first_where_it_is_corrected():
    """But for weights without a gradient; uncorrected it is the closed form, kept it is neither."""
    first = {moments: moves(trained(moments)[1], 1) for moments in ("zero", "kept", "corrected")}
    assert all(0.85 < grown < 1.001 for _, grown in first["corrected"]) and len(first["corrected"]) > 2
    for taken, grown in first["zero"]:
        expected = adam_move(1, *BETAS, before=taken)
        assert 0.85 * expected < grown < 1.001 * expected
    later = {moments: np.mean([grown for _, grown in moves(trained(moments)[1], 8)]) for moments in first}
    assert later["corrected"] < later["zero"] and later["kept"] < later["zero"]


def test_until_the_first_update_all_three_are_one_training():
    losses = {moments: trained(moments)[1].history.curves["train_loss"] for moments in ("zero", "kept", "corrected")}
    assert losses["zero"][0] == losses["kept"][0] == losses["corrected"][0]
    assert len({each[-1] for each in losses.values()}) == 3


@pytest.mark.parametrize("moments", ["kept", "corrected"])
def test_a_training_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch, moments):
    with cut_off(monkeypatch, 46):
        trained.__wrapped__(moments, checkpoint=tmp_path / "arm")
    again, resumed = trained.__wrapped__(moments, checkpoint=tmp_path / "arm")
    one, found = trained(moments)
    assert same_weights(again.model, one.model) and resumed.watched == found.watched


def test_other_moments_are_refused():
    with pytest.raises(ParameterError, match="moments='keep' of what grows: give one of zero, kept, corrected"):
        ColdStart(**vars(METHOD), moments="keep")
