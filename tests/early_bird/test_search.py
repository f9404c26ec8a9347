"""The search reads and changes nothing; what it found is what the masks say; tickets take it from there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.early_bird import Found, Search, Ticket, exact, reading, scores, summary
from effi.errors import ParameterError, TrainingError
from effi.models.vit import ViT, ViTShape
from effi.training import Training, fit
from tests.training.conftest import data as data
from tests.training.curves import learnt

SHAPE = ViTShape(image_size=8, patch_size=4, channels=3, classes=4, width=8, depth=2, hidden=12)
RATIOS = (0.1, 0.3)
TRAINING = Training(epochs=4, batch_size=16, lr=1e-2)


def searched(data, *, per_epoch=1, threshold=0.1, looking=True):
    model = ViT(SHAPE, heads=2, seed=0)
    look = Search(model, masks.prunable(model), RATIOS, 3, per_epoch, threshold) if looking else None
    (history,) = fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[look] if look else [])
    return model, history, look


def test_looking_changes_nothing(data):
    with_search, without = searched(data), searched(data, looking=False)
    assert learnt(with_search[1]) == learnt(without[1])
    for one, other in zip(with_search[0].parameters(), without[0].parameters(), strict=True):
        assert one.equal(other)


def test_snapshots_are_the_masks_of_their_epochs(data):
    model, _, look = searched(data)
    found = Found(look.state_dict(), look.weights)
    untrained = masks.prunable(ViT(SHAPE, heads=2, seed=0))
    for ratio in RATIOS:
        assert len(look.rows[ratio]) == 1 + TRAINING.epochs
        for snapshot, weights in ((0, untrained), (-1, masks.prunable(model))):
            expected = masks.magnitude(weights, ratio)
            assert all(expected[name].equal(kept) for name, kept in found.mask(ratio, snapshot).items())


def test_the_state_kept_is_that_of_the_draw(data):
    _, _, look = searched(data, threshold=0.5)
    state = Found(look.state_dict(), look.weights).state(0.3)
    drawn = look.detectors[0.3]
    assert drawn.found_at is not None
    inherited = masks.magnitude({name: state[name] for name in look.weights}, 0.3)
    assert all(inherited[name].equal(kept) for name, kept in drawn.ticket.items())


def test_no_state_without_a_draw(data):
    _, _, look = searched(data, threshold=1e-9)
    assert Found(look.state_dict(), look.weights).state(0.3) == {}
    metrics, _ = reading(Found(look.state_dict(), look.weights), RATIOS, 1e-9, 1)
    assert metrics["found_consecutive_0.3"] == -1 and metrics["share_consecutive_0.3"] == 2.0


def test_a_reading_holds_the_distances_of_the_masks(data):
    _, _, look = searched(data)
    found = Found(look.state_dict(), look.weights)
    metrics, curves = reading(found, RATIOS, 0.1, 1)
    snapshots = [found.mask(0.3, t) for t in range(5)]
    assert curves["distance_0.3"] == pytest.approx([masks.distance(snapshots[t], snapshots[t + 1]) for t in range(4)])
    assert curves["final_distance_0.3"] == pytest.approx([masks.distance(mask, snapshots[-1]) for mask in snapshots])
    assert curves["heat_0.3"] == pytest.approx([masks.distance(a, b) for a in snapshots for b in snapshots], abs=5.1e-5)
    assert metrics["closest_0.3"] == pytest.approx(min(curves["distance_0.3"]))
    assert metrics["epoch_distance_0.3"] == pytest.approx(sum(curves["distance_0.3"][:3]) / 3)
    assert curves["snapshot"] == [0, 1, 2, 3, 4]


def test_distances_an_epoch_apart_do_not_depend_on_the_interval():
    matrix = torch.arange(9.0)[:, None].sub(torch.arange(9.0)).abs() / 100
    assert summary(matrix, 0.3, 0.1, 1)["epoch_distance_0.3"] == pytest.approx(0.01)
    assert summary(matrix, 0.3, 0.1, 4)["epoch_distance_0.3"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("steps", "wanted", "taken"), [(60, 20, 20), (63, 20, 20), (1407, 20, 20), (7, 20, 7), (13, 2, 2), (1, 1, 1)]
)
def test_snapshots_are_spread_over_an_epoch_and_end_with_it(data, steps, wanted, taken):
    weights = masks.prunable(ViT(SHAPE, heads=2, seed=0))
    look = Search(torch.nn.Identity(), weights, (0.3,), steps, wanted, 0.1)
    ledger = Ledger()
    for step in range(1, steps + 1):
        look(SimpleNamespace(index=step, steps=3 * steps, epoch=1, ledger=ledger))
        if step == steps - 1:
            assert len(look.rows[0.3]) == taken
    assert len(look.rows[0.3]) == 1 + taken == 1 + look.per_epoch


def test_weights_that_are_no_numbers_fail_the_training_and_not_the_run(data):
    model = ViT(SHAPE, heads=2, seed=0)
    look = Search(model, masks.prunable(model), RATIOS, 3, 1, 0.1)
    training = Training(epochs=4, batch_size=16, lr=1e30)
    with pytest.raises(TrainingError, match=r"weight is not a number in epoch 1; lower the learning rate, or warm up"):
        fit(model, data, training, seeds=[0], ledger=Ledger(), after_step=[look])


def test_one_snapshot_an_epoch_is_what_the_paper_draws_from():
    drift = torch.arange(13.0)[:, None].sub(torch.arange(13.0)).abs() / 100  # three epochs of four snapshots
    found = summary(drift, 0.3, 0.02, 4)
    assert found["share_consecutive_0.3"] == pytest.approx(1 / 12)
    assert found["share_epochs_0.3"] == 2.0
    assert summary(drift, 0.3, 0.05, 4)["share_epochs_0.3"] == pytest.approx(1 / 3)


def test_every_source_of_a_mask(data):
    _, _, look = searched(data)
    found = Found(look.state_dict(), look.weights)

    def mask(**options):
        return Ticket(0.3, **options).mask(found, 2, seed=0)

    for options, snapshot in (
        ({}, 2),
        ({"source": "initial"}, 0),
        ({"source": "late"}, 4),
        ({"source": "drawn", "drawn": 1}, 1),
    ):
        assert all(mask(**options)[name].equal(kept) for name, kept in found.mask(0.3, snapshot).items())
        assert exact(mask(**options), 0.3)
    drawn, other = found.mask(0.3, 2), mask(source="random")
    assert masks.layer_sparsity(other) == masks.layer_sparsity(drawn)
    assert masks.distance(other, drawn) > 0.2
    assert not exact(drawn, 0.1)


def test_ranking_within_matrices_prunes_each_alike(data):
    _, _, look = searched(data, threshold=0.5)
    found, at = Found(look.state_dict(), look.weights), look.detectors[0.3].found_at
    mask = Ticket(0.3, "layerwise").mask(found, at, seed=0)
    assert exact(mask, 0.3, "tensor") and not exact(Ticket(0.3).mask(found, at, seed=0), 0.3, "tensor")
    assert all(share == pytest.approx(0.3, abs=0.01) for share in masks.layer_sparsity(mask).values())


@pytest.mark.parametrize(
    ("ticket", "snapshot"),
    [
        (Ticket(0.3), 7),
        (Ticket(0.3, start="continue"), 7),
        (Ticket(0.3, "initial"), 0),
        (Ticket(0.3, "random"), 0),
        (Ticket(0.3, "snip"), 0),
        (Ticket(0.3, "late"), 20),
        (Ticket(0.3, "drawn", drawn=5), 5),
    ],
)
def test_a_ticket_pays_for_the_search_that_it_needed(ticket, snapshot):
    assert ticket.snapshot(7, 20) == snapshot


def test_a_ratio_of_one_is_refused():
    with pytest.raises(ParameterError, match="between 0 and 1"):
        Ticket(1.0)


def test_gradient_scores_are_those_of_autograd(data):
    model = ViT(SHAPE, heads=2, seed=0)
    found = {kind: scores(model, data, kind, batches=1, batch_size=40, seed=0) for kind in ("snip", "gradient")}
    model.eval()
    loss = torch.nn.functional.cross_entropy(model(data.prepare(data.train.inputs)), data.train.labels)
    loss.backward()
    for name, weight in masks.prunable(model).items():
        assert torch.allclose(found["gradient"][name], 40 * weight.grad.abs(), atol=1e-4)
        assert torch.allclose(found["snip"][name], 40 * (weight * weight.grad).abs(), atol=1e-4)
