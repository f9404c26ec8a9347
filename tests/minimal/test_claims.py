"""What the notebook records about a training, and the claims that algebra and the clock settle."""

from __future__ import annotations

import pytest
import torch

from effi import minimal
from effi.cost import Ledger
from effi.data import load
from effi.minimal import Variant
from effi.training import Training, fit

SMALL = Variant(mlp=False, depth=2, width=12, query_key="collapsed", value_output="dropped")


@pytest.fixture(scope="module")
def digits():
    return load("digits", train=200, validation=50, test=60)


def test_merging_is_exact_only_without_residual_and_norm():
    found = minimal.merging_error(width=12, depth=3, tokens=5)
    assert found["query_key_difference"] <= 1e-10
    assert found["difference"] <= 1e-10 < 1e-2 < found["difference_with_residual"]


@pytest.mark.parametrize(("depth", "order"), [(1, 3), (2, 9), (3, 27)])
def test_composition_multiplies_the_order_by_three(depth, order):
    assert minimal.growth_order(depth)["order"] == pytest.approx(order, rel=1e-6)


def test_totals_of_six_and_twelve_encoders():
    assert minimal.totals() == {
        "parameters_mlp_6": 287_686,
        "parameters_nomlp_6": 101_470,
        "parameters_mlp_12": 563_182,
        "parameters_nomlp_12": 190_750,
    }


def test_parts_sum_to_what_torch_counts_part_by_part():
    parts = Variant().parts(192)
    model = Variant().model((3, 32, 32), 8, 10, seed=0)
    counted = sum(p.numel() for name, p in model.named_parameters() if "mlp" in name)
    assert parts["MLP"] == counted == 6 * 31_036
    assert parts["norms"] == sum(p.numel() for name, p in model.named_parameters() if "norm" in name) == 6 * 240


def test_forward_flops_of_the_sheet():
    full = sum(Variant().model((3, 32, 32), 8, 10, seed=0).forward_flops(1).values())
    assert full == 2 * (184_320 + 6 * (4 * 57_600 + 30_720 + 491_520) + 600)
    minimum = Variant(mlp=False, query_key="collapsed", value_output="dropped").model((3, 32, 32), 8, 10, seed=0)
    assert sum(minimum.forward_flops(1).values()) / full == pytest.approx(0.152, abs=5e-4)


def test_savings_are_ratios_to_the_baseline_with_their_slope():
    counts = {"full": 100, "half": 50, "tenth": 10}
    sizes = {name: {"parameters": count, "flops_per_image": 2 * count} for name, count in counts.items()}
    proportional = minimal.savings({"full": 4.0, "half": 2.0, "tenth": 0.4}, sizes, "full")
    assert proportional["slope"] == pytest.approx(1.0)
    assert [proportional[f"{kind}_ratio/half"] for kind in ("time", "parameters", "flops")] == [0.5, 0.5, 0.5]
    assert minimal.savings({"full": 4.0, "half": 4.0, "tenth": 4.0}, sizes, "full")["slope"] == pytest.approx(0.0)
    same = minimal.savings({"full": 4.0, "twin": 5.0}, {"full": sizes["full"], "twin": sizes["full"]}, "full")
    assert "slope" not in same and same["time_ratio/twin"] == 1.25


def test_outcome_of_a_training(digits):
    model = SMALL.model(digits.shape, 2, 10, seed=0)
    training = Training(epochs=4, batch_size=50, lr=1e-2)
    (history,) = fit(model, digits, training, seeds=[0], ledger=Ledger())
    last = {name: value.clone() for name, value in model.state_dict().items()}
    found, marks = minimal.outcome(model, history, digits)
    assert found["parameters"] == SMALL.parameters(4)
    assert found["q_ratio"] == pytest.approx(200 * 10 / SMALL.parameters(4))
    assert found["train_loss"] == history.curves["train_loss"][-1]
    assert found["best_epoch"] == history.best_epoch
    assert marks["test_accuracy"].float().mean().item() == pytest.approx(found["test_accuracy"])
    assert found["scaled_test_loss"] <= found["test_loss"] + 0.1
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    assert set(map(len, minimal.layers(model, digits).values())) == {SMALL.depth}
