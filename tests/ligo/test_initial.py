"""Beginnings of the operator: their closed forms, and what they are on average."""

from __future__ import annotations

import pytest
import torch

from effi.ligo.initial import layer_weights, new_rows


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("layers", "expected"), [(6, 0.93), (12, 0.86), (24, 0.74)])
def test_the_main_weight_of_a_noisy_stack(layers: int, expected: float):
    """1 / (1 + 0.015 (L1 - 1)) on average, as noise is U(0, 0.03)."""
    many = 40 * layers
    weights = layer_weights("stackbert_noisy", many, layers, 0.03, stream())
    main = weights[torch.arange(many), torch.arange(many) % layers].mean()
    assert main == pytest.approx(1 / (1 + 0.015 * (layers - 1)), abs=0.004)
    assert round(float(main), 2) == expected
    assert torch.allclose(weights.sum(1), torch.ones(many)) and (weights >= 0).all()


def test_stacks_and_interlaced_layers():
    assert layer_weights("stackbert", 5, 2, 0.03, stream()).argmax(1).tolist() == [0, 1, 0, 1, 0]
    assert layer_weights("interlace", 6, 3, 0.03, stream()).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    for kind in ("stackbert", "interlace"):
        assert sorted(layer_weights(kind, 6, 3, 0.03, stream()).unique().tolist()) == [0, 1]
        noisy, plain = (layer_weights(each, 6, 3, 0.03, stream()) for each in (f"{kind}_noisy", kind))
        assert torch.equal(noisy.argmax(1), plain.argmax(1)) and (noisy > 0).all()


@pytest.mark.parametrize("kind", ["rand", "rand_softmax"])
def test_random_shares_sum_to_one(kind: str):
    rows, layers = new_rows(kind, (2, 50, 64), 0.03, stream()), layer_weights(kind, 50, 64, 0.03, stream())
    for found in (rows.flatten(0, 1), layers):
        assert (found > 0).all() and torch.allclose(found.sum(1), torch.ones(len(found)))
        assert found.mean() == pytest.approx(1 / 64) and found.std() > 0.1 / 64


def test_a_new_unit_of_rand_is_about_the_mean_of_all_old_ones():
    """Row norm about sqrt(4 / 3 / D1): 0.05 at 512."""
    assert new_rows("rand", (256, 512), 0.03, stream()).norm(dim=1).mean() == pytest.approx(0.051, abs=0.001)


def test_selected_rows_are_one_old_unit():
    rows = new_rows("sel", (400, 8), 0.03, stream())
    assert torch.equal(rows.sum(1), torch.ones(400)) and ((rows == 0) | (rows == 1)).all()
    assert rows.sum(0).min() > 20, "every old unit is drawn"
    noisy = new_rows("sel_noisy", (400, 8), 0.03, stream())
    assert ((noisy == 1).sum(1) == 1).all() and (noisy[noisy < 1] <= 0.03).all() and (noisy > 0).all()


def test_zero_and_normal():
    assert not new_rows("zero", (3, 4, 5), 0.03, stream()).any()
    assert new_rows("normal", (256, 512), 0.03, stream()).std() == pytest.approx(768**-0.5, rel=0.02)
