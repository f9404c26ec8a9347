"""Iterative magnitude pruning: what is reset to what, and what the rounds cost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import Rounds, lottery_ticket
from effi.seeds import derive
from effi.training import checkpoint, fit
from tests.instant_soup.tiny import (
    PER_EPOCH,
    TRAINING,
    WEIGHTS,
    obeys,
    pruned,
    same_mask,
    same_weights,
    vit,
    weights_of,
    within,
)

SHORT = replace(TRAINING, epochs=1)
LADDER = Rounds(0.45, 0.15, relative=False).ladder()


def drawn(data, sparsities=LADDER, training=SHORT, *, ledger=None, **options):
    model, ledger = vit(), ledger or Ledger()
    found, networks, _ = lottery_ticket(model, data, training, sparsities, seed=0, ledger=ledger, **options)
    return model, found, networks, ledger


def by_hand(data, rewind):
    """Train, prune 15 points, reset, train, and so on."""
    model, mask, early = vit(), None, {}
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def keep(step) -> None:
        if step.index == rewind and not early:
            early.update({name: value.clone() for name, value in model.state_dict().items()})

    for place, sparsity in enumerate(LADDER):
        fit(model, data, SHORT, seeds=[derive(0, f"lottery {place}")], ledger=Ledger(), mask=mask, after_step=[keep])
        mask = masks.magnitude(masks.prunable(model), sparsity, within=mask)
        if rewind is not None:
            model.load_state_dict(early or start)
    fit(model, data, SHORT, seeds=[0], ledger=Ledger(), mask=mask)
    return model, mask


@pytest.mark.parametrize("rewind", [0, 3, None])
def test_it_is_the_algorithm_by_hand(data, rewind):
    model, found, _, _ = drawn(data, rewind=rewind)
    expected, mask = by_hand(data, rewind)
    assert same_mask(found.mask, mask) and same_weights(model, expected)
    assert pruned(mask) == int(0.45 * WEIGHTS) and obeys(weights_of(model), mask)


def test_where_weights_are_reset_to_matters(data):
    kept = [drawn(data, rewind=rewind)[1].mask for rewind in (0, 3, None)]
    assert len({tuple(torch.cat([k.flatten() for k in mask.values()]).tolist()) for mask in kept}) == 3


def test_rounds_are_charged_as_search_and_the_ticket_as_training(data):
    """S / 10 + 1 trainings: here three and one."""
    _, _, _, ledger = drawn(data)
    phases, step = ledger.total()["phases"], vit().train_flops(16)
    assert phases["train"]["flops"] == PER_EPOCH * step
    search = Ledger()
    fit(vit(), data, SHORT, seeds=[0], ledger=search)
    assert phases["search"]["flops"] == 3 * search.total()["flops"] and phases["search"]["seconds"] > 0
    planned = Ledger(dry_run=True)
    drawn(data, ledger=planned)
    assert planned.planned_steps == 4 * PER_EPOCH and set(planned.phases) == {"train"}


def test_rounds_may_be_shorter_than_the_training_of_the_ticket(data):
    cheap = replace(SHORT, epochs=None, steps=5)
    _, found, _, ledger = drawn(data, search=cheap)
    assert found.history.curves["step"][-1] == PER_EPOCH
    evaluated = sum(vit().forward_flops(80).values())
    assert ledger.total()["phases"]["search"]["flops"] == 3 * (5 * vit().train_flops(16) + evaluated)


def test_the_networks_of_all_rounds_come_along(data):
    model, found, networks, _ = drawn(data, keep=True)
    assert [each.sparsity for each in networks] == [0.0, *LADDER]
    assert [pruned(each.mask) for each in networks] == [int(share * WEIGHTS + 1e-9) for share in (0, *LADDER)]
    assert all(within(b.mask, a.mask) for a, b in pairwise(networks))
    assert all(obeys(each.state, each.mask) for each in networks)
    assert same_mask(networks[-1].mask, found.mask)
    assert all(torch.equal(networks[-1].state[name], value) for name, value in model.state_dict().items())
    assert drawn(data)[2] == []


def test_a_round_cut_off_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    whole, found, _, first = drawn(data, rewind=3, checkpoint=tmp_path / "arm")
    names = {file.name for file in tmp_path.iterdir()}
    assert {"arm.safetensors", "arm.round-0.safetensors", "arm.round-2.safetensors"} <= names
    (tmp_path / "arm.safetensors").unlink()
    (tmp_path / "arm.round-2.safetensors").unlink()
    again, other, _, ledger = drawn(data, rewind=3, checkpoint=tmp_path / "arm")
    assert same_weights(again, whole) and same_mask(found.mask, other.mask)
    assert ledger.total()["flops"] == first.total()["flops"], "rounds that were done are still paid for"


@pytest.mark.parametrize(
    ("sparsities", "options", "message"),
    [
        ([], {}, "must grow"),
        ([0.3, 0.2], {}, "must grow"),
        ([0.3], {"rewind": 500}, "rewind=500 lies beyond the first training"),
        ([0.3], {"names": ["nothing"]}, "no parameter 'nothing'"),
    ],
)
def test_bad_tickets_are_refused(data, sparsities, options, message):
    with pytest.raises(ParameterError, match=message):
        drawn(data, sparsities, **options)
