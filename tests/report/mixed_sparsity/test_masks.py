"""Sparsities, turnover and masks, by what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from effi.claims import Results
from effi.errors import ParameterError, RecordError
from effi.mixed_sparsity import Pattern, whole_mask
from effi.report import mixed_sparsity
from effi.report.mixed_sparsity.phases import TINTS, phases, shares
from tests.report.mixed_sparsity.synthetic import arm, run, sparse

MST, STATIC = arm("mst"), arm("static")


def grounds(axes: Axes) -> list[tuple[float, float, str]]:
    """Begin, end and colour of each shaded part."""
    found = [patch for patch in axes.patches if patch.get_zorder() == 0]
    return [(each.get_x(), each.get_x() + each.get_width(), to_hex(each.get_facecolor()).upper()) for each in found]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# --- phases --------------------------------------------------------------------------------------------------


def test_phases_are_those_of_the_settings() -> None:
    results = Results([sparse("mst"), sparse("static", phases={"ultra": 0.8, "warmup": 0, "restoration": 0})])
    assert phases(results, MST) == {"warm-up": (0, 0.25), "ultra": (0.25, 0.75), "restoration": (0.75, 1)}
    assert phases(results, STATIC) == {}
    assert phases(Results([run("dense", 0, 1.0, 3.0)]), arm("dense")) == {}
    short = Results([sparse("mst", phases={"ultra": 0.8, "warmup": 0.0, "restoration": 0.1})])
    assert phases(short, MST) == {"ultra": (0, 0.9), "restoration": (0.9, 1)}
    whole = Results([sparse("mst", phases={"ultra": 0.8, "warmup": 0.7, "restoration": 0.3})])
    assert list(phases(whole, MST)) == ["warm-up", "restoration"]
    assert shares(results, MST) == [0, 0.25, 0.5, 0.75] and shares(results, MST, "step") == [0.25, 0.5, 0.75, 1]


def test_sparsities_are_staircases_of_kinds_with_the_target_dashed() -> None:
    figure = mixed_sparsity.sparsity_course(Results([sparse("mst", seed) for seed in range(2)]), [MST], title="When?")
    above, below = figure.axes
    lines = {to_hex(line.get_color()): line for line in above.lines}
    target = next(line for line in above.lines if line.get_linestyle() == "--")
    assert len(above.lines) == 5 == len(lines)
    assert list(target.get_xdata()) == [0, 0.25, 0.5, 0.75, 1] and target.get_ydata() == pytest.approx(
        [0, 80, 80, 0, 0]
    )
    assert all(line.get_drawstyle() == "steps-post" for line in above.lines)
    assert lines["#0072b2"].get_ydata() == pytest.approx([0, 85, 85, 0, 0])
    assert lines["#d55e00"].get_ydata() == pytest.approx([0, 80, 80, 0, 0])
    kinds = ["queries, keys, values", "attention output", "feed-forward", "head and embedding", "target"]
    assert words(above) == ["warm-up", "ultra", "restoration", *kinds]
    assert (
        grounds(above)
        == grounds(below)
        == [
            (0, 0.25, TINTS["warm-up"]),
            (0.25, 0.75, TINTS["ultra"]),
            (0.75, 1, TINTS["restoration"]),
        ]
    )
    assert list(below.lines[0].get_xdata()) == [0.25, 0.5, 0.75, 1]
    assert below.lines[0].get_ydata() == pytest.approx([5.75, 2.75, 2.25, 2])
    assert below.get_xlabel() == "share of the training\nof mst" and figure.get_suptitle() == "When?"


def test_columns_are_of_arms_and_kinds_named_once() -> None:
    records = [sparse("mst"), sparse("static", phases=None), run("dense", 0, 1.0, 3.0)]
    figure = mixed_sparsity.sparsity_course(Results(records), [MST, STATIC, arm("dense")], title="?")
    assert [axes.get_xlabel() for axes in figure.axes[2:]] == [
        f"share of the training\nof {n}" for n in ("mst", "static")
    ]
    assert len(words(figure.axes[0])) == 8 and words(figure.axes[1]) == [] == grounds(figure.axes[1])
    with pytest.raises(RecordError, match="history of mask/target"):
        mixed_sparsity.sparsity_course(Results(records), [arm("dense")], title="?")


def test_each_half_of_the_feed_forward_layers_counts_and_unknown_kinds_keep_their_names() -> None:
    record = sparse("mst")
    record["history"]["mask/sparsity/mlp.0"] = [0.0, 0.6, 0.6, 0.0]
    record["history"]["mask/sparsity/extra"] = [0.0, 0.5, 0.5, 0.0]
    axes = mixed_sparsity.sparsity_course(Results([record]), [MST], title="?").axes[0]
    heights = {to_hex(line.get_color()): line.get_ydata()[1] for line in axes.lines}
    assert heights["#d55e00"] == pytest.approx(70) and heights["#666666"] == pytest.approx(50)
    assert "extra" in words(axes)


# --- turnover ------------------------------------------------------------------------------------------------


def moving(name: str, **more: Any) -> list[dict[str, Any]]:
    return [sparse(name, seed, shift=0.01 * seed, churn=0.2, **more) for seed in range(3)]


def test_churn_and_ever_active_shares_are_of_updates_and_survivals_of_what_grew() -> None:
    both = moving("mst")
    for seed, record in enumerate(both):
        record["metrics"] |= {"survival/gradient": 0.6 + 0.01 * seed, "survival/random": 0.3}
    alone = moving("mst-random")
    for record in alone:
        record["metrics"]["survival/random"] = 0.4
    figure = mixed_sparsity.turnover_curves(Results([*both, *alone]), [MST, arm("mst-random")], title="Does it last?")
    churn, ever, below = figure.axes
    assert list(churn.lines[0].get_xdata()) == [0.25, 0.5, 0.75]
    assert churn.lines[0].get_ydata() == pytest.approx([11, 21, 31])
    assert ever.lines[1].get_ydata() == pytest.approx([60, 70, 100])
    corners = churn.collections[0].get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], 0.5), 1]
    assert (heights.min(), heights.max()) == pytest.approx((21 - 2.484, 21 + 2.484), abs=1e-3)
    assert len(grounds(churn)) == len(grounds(ever)) == 3
    assert words(churn) == ["warm-up", "ultra", "restoration", "mst", "mst-random"]
    assert words(below) == ["by gradient 61.0", "at random 30.0", "none by gradient", "at random 40.0"]
    assert [bar.get_width() for bar in below.patches] == pytest.approx([61, 30, 40])
    low, high = below.containers[1].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((61 - 2.484, 61 + 2.484), abs=1e-3)
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["mst", "mst-random"]


def test_phases_that_differ_shade_nothing_and_those_of_no_schedule_do_not_count() -> None:
    later = moving("mst-fast", phases={"ultra": 0.8, "warmup": 0.25, "restoration": 0.5})
    records = [*moving("mst"), *later, *moving("rigl", phases=None)]
    drawn = mixed_sparsity.turnover_curves(Results(records), [MST, arm("mst-fast")], title="?")
    assert grounds(drawn.axes[0]) == []
    drawn = mixed_sparsity.turnover_curves(Results(records), [arm("rigl"), MST], title="?")
    assert len(grounds(drawn.axes[0])) == 3


def test_a_mask_that_never_moves_has_no_turnover() -> None:
    with pytest.raises(RecordError, match="No finished arm holds churn"):
        mixed_sparsity.turnover_curves(Results([sparse("static")]), [STATIC], title="?")


# --- pictures of masks ---------------------------------------------------------------------------------------


def test_attention_masks_show_pairs_with_the_occupancy_of_tiles() -> None:
    figure = mixed_sparsity.attention_masks(tokens=16, window=4, title="Which?")
    titles = [axes.get_title(loc="center") for axes in figure.axes]
    # Of 36 causal tiles of 1,024 tokens a local window of 128 occupies 15.
    assert titles == [
        "local: 42 % of tiles",
        "strided: 100 % of tiles",
        "local or strided: 100 % of tiles",
        "fixed: 100 % of tiles",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == [f"{each} % of pairs" for each in ("23", "0.88", "24", "13")]
    for axes, kind in zip(figure.axes, ("local", "strided", "merged", "fixed"), strict=True):
        grid = np.asarray(axes.images[0].get_array())
        assert ((grid == 2) == Pattern(kind, 4).dense(16).numpy()).all()
        assert (grid == 0).sum() == 16 * 15 // 2
    assert figure.get_suptitle() == "Which?"
    with pytest.raises(ParameterError, match="longer than the context of 16"):
        mixed_sparsity.attention_masks(tokens=16, window=32, title="?")


def test_weight_masks_show_the_first_rows_and_columns_and_what_lives_of_all() -> None:
    single = torch.zeros(300, 40, dtype=torch.bool)
    single[:30] = True
    blocks = whole_mask({"w": torch.eye(2, dtype=torch.bool)}, 4)["w"]
    figure = mixed_sparsity.weight_masks({"single": single, "blocks": blocks}, title="What?")
    left, right = figure.axes
    assert left.images[0].get_array().shape == (256, 40)
    assert (np.asarray(right.images[0].get_array()) == blocks.numpy()).all()
    titles = [axes.get_title(loc="center") for axes in figure.axes]
    assert titles == ["single\n10.0 % of the weights live", "blocks\n50.0 % of the weights live"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("40 of 40 inputs", "256 of 300 outputs")
