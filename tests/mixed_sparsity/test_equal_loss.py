"""FLOPs at equal loss against closed forms, and against a search along the line between dense runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from effi import mixed_sparsity as ms
from effi.errors import ParameterError
from effi.mixed_sparsity.equal_loss import Equal, equal_loss_ratio, flops_at_equal_loss

# A loss that halving the FLOPs raises by 0.4.
LADDER = {2.0**-power: 3.0 + 0.4 * power for power in range(4)}


@pytest.mark.parametrize("flops", [0.125, 0.2, 0.25, 0.3, 0.5, 0.9, 1.0])
def test_a_loss_linear_in_the_logarithm_is_read_off_exactly(flops: float) -> None:
    found = flops_at_equal_loss(LADDER, 3.0 - 0.4 * math.log2(flops))
    assert found == (pytest.approx(flops), True)


def test_half_way_between_two_losses_lies_the_geometric_mean_of_their_flops() -> None:
    assert flops_at_equal_loss({1.0: 2.0, 0.25: 4.0}, 3.0) == (pytest.approx(0.5), True)
    assert flops_at_equal_loss({1.0: 2.0, 0.25: 4.0}, 3.5) == (pytest.approx(0.25 * math.sqrt(2)), True)


def test_beyond_the_runs_the_nearest_counts_and_is_told() -> None:
    assert flops_at_equal_loss(LADDER, 2.9) == Equal(1.0, False)
    assert flops_at_equal_loss(LADDER, 9.0) == Equal(0.125, False)
    assert flops_at_equal_loss(LADDER, LADDER[0.125]) == Equal(0.125, True)
    assert flops_at_equal_loss(LADDER, LADDER[1.0]) == (pytest.approx(1.0), True)


def test_of_a_loss_that_rises_again_the_fewest_flops_count() -> None:
    risen = {0.25: 4.0, 0.5: 3.0, 1.0: 3.5}
    assert flops_at_equal_loss(risen, 3.5) == (pytest.approx(0.25 * math.sqrt(2)), True)
    assert flops_at_equal_loss(risen, 3.0) == (pytest.approx(0.5), True)
    assert flops_at_equal_loss(risen, 2.9) == Equal(0.5, False)
    assert flops_at_equal_loss({0.25: 3.0, 0.5: 3.5, 1.0: 3.2}, 3.1) == Equal(0.25, False)
    assert flops_at_equal_loss({0.25: 3.0, 0.5: 3.0, 1.0: 2.0}, 3.0) == Equal(0.25, True)
    assert flops_at_equal_loss({0.25: 3.5, 0.5: 3.0, 1.0: 3.0}, 3.0) == (pytest.approx(0.5), True)


def test_the_first_place_on_the_line_between_runs_is_found() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        flops, losses = np.sort(draw.uniform(0.1, 1, 5)), draw.uniform(3, 5, 5)
        loss = draw.uniform(min(losses), losses[0])
        grid = np.linspace(math.log(flops[0]), math.log(flops[-1]), 200_001)
        first = math.exp(grid[np.flatnonzero(np.interp(grid, np.log(flops), losses) <= loss)[0]])
        found = flops_at_equal_loss(dict(zip(flops.tolist(), losses.tolist(), strict=True)), loss)
        assert found == (pytest.approx(first, rel=1e-4), True)


def record(flops: float, loss: float) -> dict[str, float]:
    return {"flops_ratio/causal": flops, "flops_ratio/square": 2 * flops, "test_loss": loss, "validation_loss": 9.0}


def test_the_ratio_is_of_the_arm_over_dense_training_of_its_loss() -> None:
    dense = [record(flops, loss) for flops, loss in LADDER.items()]
    assert equal_loss_ratio(record(0.25, 3.4), dense) == (pytest.approx(0.5), True)
    assert equal_loss_ratio(record(0.25, 4.0), dense) == (pytest.approx(0.25 * math.sqrt(32)), True)
    assert equal_loss_ratio(record(0.25, 2.0), dense) == Equal(0.25, False)
    own = record(0.25, 3.4) | {"flops_ratio/square": 0.75}
    assert equal_loss_ratio(own, dense, convention="square") == (pytest.approx(0.75), True)
    assert equal_loss_ratio(record(0.25, 3.4), dense, metric="validation_loss") == Equal(2.0, True)


def test_what_tells_nothing_is_refused() -> None:
    for losses in ({}, {1.0: 3.0}, {0.0: 4.0, 1.0: 3.0}, {0.5: math.nan, 1.0: 3.0}):
        with pytest.raises(ParameterError, match="two runs or more"):
            flops_at_equal_loss(losses, 3.0)
    with pytest.raises(ParameterError, match="two runs or more"):
        flops_at_equal_loss(LADDER, math.inf)
    with pytest.raises(ParameterError, match="without flops_ratio/causal"):
        equal_loss_ratio(record(0.25, 3.4), [{"test_loss": 3.0}])


def test_ratios_of_a_seed_are_told_by_both_ways_of_counting() -> None:
    dense = dict(zip(ms.LADDER, sorted(LADDER.items()), strict=True))
    metrics = {name: record(flops, loss) for name, (flops, loss) in dense.items()}
    metrics |= {"mst": record(0.25, 3.4) | {"flops_ratio/square": 0.25}, "static": record(0.25, 9.0)}
    rows = [{"dataset": "d", "variant": name, "arm": f"d/gpt/{name}", "metrics": own} for name, own in metrics.items()]
    found = ms.at_equal_loss(rows)
    near, far = {"causal": 0.5, "square": 0.25}, {"causal": 2.0, "square": 2.0}
    expected = {f"flops_at_equal_loss/{each}/d": value for each, value in near.items()}
    expected |= {f"flops_at_equal_loss/{each}/d/static": value for each, value in far.items()}
    assert found == pytest.approx(expected | {"inside/d": 1.0, "inside/d/static": 0.0})
