"""Figures of a ticket search, by what they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from effi.claims import Results
from effi.errors import ParameterError, RecordError
from effi.report import early_bird
from tests.report.synthetic import searched, trained

ARM = "d/vit/dense"


def searches(*arms: str, **options: Any) -> list[dict[str, Any]]:
    """Three seeds of each arm: R1 draws after 1, 2 and 3 epochs, R2 always after 4, R3 never."""
    return [searched(arm, seed, **options) for arm in arms or (ARM,) for seed in range(3)]


def runs(*arms: str, **options: Any) -> Results:
    return Results(searches(*arms, **options))


def test_heat_maps_show_mean_distances_on_both_scales() -> None:
    figure = early_bird.heat_maps(runs(), (0.1, 0.3), arm=ARM, title="When?")
    meshes = [axes.collections[0] for axes in figure.axes[:4]]
    assert [mesh.get_clim() for mesh in meshes] == [pytest.approx((0, most)) for most in (1, 0.18, 1, 0.42)]
    grid = meshes[2].get_array()
    assert grid.shape == (5, 5)
    assert np.diagonal(grid).tolist() == [0] * 5
    assert grid[1, 3] == grid[3, 1] == pytest.approx(0.42 * (1 / 2 - 1 / 8))
    assert figure.get_suptitle() == "When?"
    assert figure.axes[0].get_ylabel() == "p = 0.1\nsnapshot after epoch"


def test_warm_is_close() -> None:
    colours = early_bird.heat_maps(runs(), (0.1,), arm=ARM, title="?").axes[0].collections[0].get_cmap()
    close, far = (sum(colours(share)[:3]) for share in (0.0, 1.0))
    assert close > 2 > 0.1 > far


def test_heat_maps_mark_where_each_rule_draws() -> None:
    axes = early_bird.heat_maps(runs(), (0.1,), arm=ARM, title="?").axes[0]
    assert [text.get_text() for text in axes.texts] == ["R1: 2", "R2: 4", "R3: never"]
    assert [line.get_xdata()[0] for line in axes.lines] == [2, 4]


def test_rules_that_agree_share_a_mark_and_seeds_that_never_drew_are_counted() -> None:
    records = searches()
    for record in records:
        record["metrics"]["found_code_0.1"] = record["metrics"]["found_queue_0.1"]
    records[0]["metrics"]["found_consecutive_0.1"] = -1
    axes = early_bird.heat_maps(Results(records), (0.1,), arm=ARM, title="?").axes[0]
    assert [text.get_text() for text in axes.texts] == ["R1: 2.5 (2 of 3)", "R2 R3: 4"]


def test_snapshots_within_an_epoch_are_placed_in_epochs() -> None:
    records = searches()
    for record in records:
        record["history"]["snapshot"] = [0, 0.5, 1, 1.5, 2]
    axes = early_bird.heat_maps(Results(records), (0.1,), arm=ARM, title="?").axes[0]
    assert [line.get_xdata()[0] for line in axes.lines] == [1, 2]
    assert axes.get_xlim() == pytest.approx((-0.25, 2.25))


def test_distance_curves_overlay_arms_threshold_and_learning_rate() -> None:
    arms = [ARM, "d/vit/constant"]
    figure = early_bird.distance_curves(runs(*arms), (0.1, 0.3), arms=arms, threshold=0.1, title="Settled?")
    panels, twins = figure.axes[:2], figure.axes[2:]
    for axes, chance in zip(panels, (0.18, 0.42), strict=True):
        dense, constant, eps, independent = axes.lines
        assert dense.get_ydata() == pytest.approx([chance / 2, chance / 4, chance / 8, chance / 16])
        assert list(dense.get_xdata()) == list(constant.get_xdata()) == [1, 2, 3, 4]
        assert (eps.get_ydata()[0], independent.get_ydata()[0]) == pytest.approx((0.1, chance))
        words = [text.get_text() for text in axes.texts]
        assert words == ["ε = 0.1", f"independent: {chance}", "dense", "constant"]
    for twin in twins:
        assert list(twin.lines[0].get_ydata()) == [0.1, 0.05, 0.025, 0.0125]
        assert list(twin.lines[0].get_xdata()) == [0, 1, 2, 3]
        assert twin.get_ylabel() == "learning rate"


def test_equal_masks_do_not_upset_the_logarithmic_axis() -> None:
    records = searches()
    for record in records:
        record["history"]["distance_0.1"] = [0.1, 0.0, 0.0, 0.0]
    axes = early_bird.distance_curves(Results(records), (0.1,), arms=[ARM], threshold=0.01, title="?").axes[0]
    assert axes.get_ylim() == pytest.approx((0.005, 0.36))
    assert list(axes.lines[0].get_xdata()) == [1]
    assert [text.get_text() for text in axes.texts] == ["ε = 0.01", "independent: 0.18", "dense"]


def test_a_band_of_scattered_distances_stays_above_the_floor_of_its_axis() -> None:
    records = searches()
    for record, distance in zip(records, (0.001, 0.01, 0.1), strict=True):
        record["history"]["distance_0.1"] = [distance] * 4
    axes = early_bird.distance_curves(Results(records), (0.1,), arms=[ARM], threshold=0.1, title="?").axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([0.01] * 4)
    # Log-distances -3, -2, -1: mean -2, standard error 1/sqrt(3), t = 4.303.
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((10**-4.484, 10**0.484), rel=1e-2)


def test_stability_is_one_at_the_end_and_nought_for_independent_masks() -> None:
    records = searches()
    for record in records:
        record["history"]["final_distance_0.1"] = [0.18, 0.1, 0.0, 0.0, 0.0]
    distance, jaccard, stable = early_bird.stability_curves(Results(records), (0.1, 0.3), arm=ARM, title="?").axes
    assert distance.lines[0].get_ydata() == pytest.approx([0.18, 0.1, 0, 0, 0])
    # At p = 0.1 a distance of 0.1 shares half of the pruned set: Jaccard 1/3.
    assert jaccard.lines[0].get_ydata()[1:] == pytest.approx([1 / 3, 1, 1, 1])
    assert stable.lines[0].get_ydata() == pytest.approx([0, 1 - 0.1 / 0.18, 1, 1, 1])
    assert stable.lines[1].get_ydata() == pytest.approx([1 / 16, 9 / 16, 13 / 16, 15 / 16, 1])
    assert [text.get_text() for text in stable.texts] == ["p = 0.1", "p = 0.3"]


def test_layer_bars_are_means_with_seeds_and_the_kind_as_colour() -> None:
    names = ["blocks.0.attention.qkv.weight", "blocks.0.mlp.0.weight", "merging.weight"]
    axes = early_bird.layer_bars(runs(), 0.1, names, arm=ARM, title="Which?").axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([6, 10, 14])
    assert axes.lines[0].get_ydata() == pytest.approx([5, 10, 15])
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    assert [text.get_text() for text in axes.texts] == ["attention", "feed-forward", "merging", "-- p = 0.1"]
    assert axes.get_xticklabels()[0].get_text() == "blocks.0.attention.qkv"
    alike = [f"model.layers.{name}" for name in ("0.attn.weight", "1.attn.weight", "1.mlp.weight")]
    axes = early_bird.layer_bars(runs(), 0.1, alike, arm=ARM, title="Which?").axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.attn", "1.attn", "1.mlp"]
    with pytest.raises(ParameterError, match="3 tensors, not 2"):
        early_bird.layer_bars(runs(), 0.1, names[:2], arm=ARM, title="?")


def test_survival_counts_seeds_per_head_also_where_layers_differ() -> None:
    records = [trained("d/structured-0.3", seed, 0.8) for seed in range(2)]
    for record, kept in zip(records, ([1, 0, 1, 1, 0], [1, 0, 0, 1, 1]), strict=True):
        record["history"]["heads_kept"] = kept
    axes = early_bird.survival(Results(records), [2, 3], arm="d/structured-0.3", title="Who?").axes[0]
    grid = axes.images[0].get_array()
    assert grid[0, :2].tolist() == [1, 0] and grid[1].tolist() == [0.5, 1, 0.5]
    assert np.ma.getmaskarray(grid)[0, 2] or np.isnan(grid[0, 2])
    assert [text.get_text() for text in axes.texts] == ["2", "0", "1", "2", "1"]
    with pytest.raises(ParameterError, match="5 heads, not 4"):
        early_bird.survival(Results(records), [2, 2], arm="d/structured-0.3", title="?")


def test_what_was_not_recorded_is_named() -> None:
    records = [trained(ARM, 0, 0.8)]
    with pytest.raises(RecordError, match=r"d/vit/dense holds no history of snapshot"):
        early_bird.heat_maps(Results(records), (0.1,), arm=ARM, title="?")
    with pytest.raises(ParameterError, match="Unknown arm 'd/vit/dens'"):
        early_bird.stability_curves(runs(), (0.1,), arm="d/vit/dens", title="?")
    lost = {**trained(ARM, 0, 0.8), "status": "failed", "error": "the loss is nan"}
    with pytest.raises(RecordError, match=r"history of distance_0.1: d/vit/dense failed \(the loss is nan\)"):
        early_bird.distance_curves(Results([lost]), (0.1,), arms=[ARM], threshold=0.1, title="?")


def test_what_a_threshold_asks_for_is_the_share_of_the_pruned_weights() -> None:
    axes = early_bird.strictness((0.1, 0.01), title="How strict?").axes[0]
    asked, tight, chance = ({round(p, 2): share for p, share in line.get_xydata()} for line in axes.lines)
    # At p = 0.1 two masks settle at 0.1 with half of the pruned weights in common, at 0.3 with five sixths.
    assert [asked[0.1], asked[0.3], tight[0.1]] == pytest.approx([50, 100 * 5 / 6, 95])
    assert asked[0.02] == 0 and chance[0.3] == pytest.approx(30)
    assert [text.get_text() for text in axes.texts] == ["ε = 0.1", "ε = 0.01", "shared by chance"]


def drawn(shares: dict[str, list[float]]) -> Results:
    """Searches of four epochs, one a seed, by the share at which each rule draws; 2 is never."""
    records = searches()[: len(shares["consecutive"])]
    for seed, record in enumerate(records):
        record["metrics"] |= {f"share_{rule}_0.3": own[seed] for rule, own in shares.items()}
    return Results(records)


def test_bars_of_the_draw_are_of_the_seeds_that_draw() -> None:
    results = drawn({"consecutive": [0.25, 0.25, 0.25], "queue": [0.5, 2.0, 1.0], "code": [2.0, 2.0, 2.0]})
    axes = early_bird.draw_bars(results, 0.3, title="How long?").axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.25, 0.75])
    assert [text.get_text() for text in axes.texts] == ["R1 0.25", "R2 0.75 (2 of 3)", "R3 never"]
    assert axes.get_yticklabels()[0].get_text() == "d/vit" and axes.get_title(loc="left") == "How long?"
    # An interval of two seeds ends where a training does.
    assert max(segment[:, 0].max() for line in axes.collections for segment in line.get_segments()) <= 1
