"""The early-bird peer: its search ends at the draw, is paid until there, and the ticket starts anew."""

from __future__ import annotations

import pytest

from effi import masks
from effi.cost import Ledger
from effi.instant_soup.early_bird import Watch, early_bird
from effi.training import fit
from tests.instant_soup.tiny import (
    PER_EPOCH,
    TOTAL,
    TRAINING,
    WEIGHTS,
    obeys,
    pruned,
    same_mask,
    same_weights,
    vit,
    weights_of,
)

SETTLES = Watch(threshold=0.5, rule="consecutive")


def drawn(data, watch=SETTLES, ledger=None):
    model, ledger = vit(), ledger or Ledger()
    return model, early_bird(model, data, TRAINING, 0.45, watch, seed=0, ledger=ledger), ledger


def test_the_ticket_is_the_mask_of_the_draw_and_trains_from_the_start(data):
    model, found, _ = drawn(data)
    dense, kept = vit(), {}

    def keep(step) -> None:
        if step.index == PER_EPOCH:
            kept.update(masks.magnitude(masks.prunable(dense), 0.45))

    fit(dense, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[keep])
    assert same_mask(found.mask, kept) and found.told["drawn"] == [1.0] and found.told["step"] == [PER_EPOCH]
    alone = vit()
    fit(alone, data, TRAINING, seeds=[0], ledger=Ledger(), mask=kept)
    assert same_weights(model, alone) and obeys(weights_of(model), found.mask)


def test_a_search_is_paid_until_the_draw(data):
    _, _, ledger = drawn(data)
    phases = ledger.total()["phases"]
    # One epoch of two, whose evaluation nobody waited for.
    assert phases["search"]["flops"] == phases["train"]["flops"] / 2


def test_masks_that_never_settle_cost_a_whole_training_and_give_the_last_one(data):
    _, found, ledger = drawn(data, Watch(threshold=1e-6, rule="consecutive"))
    assert found.told["drawn"] == [0.0] and found.told["step"] == [TOTAL]
    phases = ledger.total()["phases"]
    assert phases["search"]["flops"] == phases["train"]["flops"] + phases["evaluate"]["flops"]
    assert pruned(found.mask) == masks.pruned_count(0.45, WEIGHTS)


@pytest.mark.parametrize("per_epoch", [1, 4])
def test_it_looks_as_often_as_asked(data, per_epoch):
    _, found, _ = drawn(data, Watch(threshold=0.5, rule="consecutive", per_epoch=per_epoch))
    assert found.told["step"] == [PER_EPOCH / per_epoch]
