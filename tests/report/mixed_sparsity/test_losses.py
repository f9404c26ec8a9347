"""Losses over what was spent, and FLOPs at equal loss, by what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from effi.claims import Results, papers
from effi.errors import ParameterError, RecordError
from effi.report import mixed_sparsity
from effi.report.mixed_sparsity.losses import near_ends
from tests.claims import synthetic
from tests.report.mixed_sparsity.synthetic import LADDER, arm, ladder, run

DENSE = [arm(name) for name in LADDER]
MST = arm("mst")
COLOURS = {"dense": "#333333", "mst": "#0072B2", "dense-half": "#5F5F5F"}


@pytest.fixture(autouse=True)
def _coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers, "colours", lambda: COLOURS)


def curves(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


# --- losses over FLOPs and tokens ----------------------------------------------------------------------------


def test_losses_stand_over_the_share_of_dense_flops_and_end_in_a_mark() -> None:
    records = [run("mst", seed, 0.2 + 0.01 * seed, 3.0 + 0.1 * seed) for seed in range(3)]
    axes = mixed_sparsity.loss_curves(Results([*ladder(), *records]), [arm("dense"), MST], title="Who?").axes[0]
    dense, mst = curves(axes)
    assert list(dense.get_xdata()) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert list(mst.get_xdata()) == pytest.approx([0.0525, 0.105, 0.1575, 0.21])
    assert mst.get_ydata() == pytest.approx([5.85, 2.85, 2.35, 2.1])
    assert mst.get_color() == "#0072B2" and axes.get_xscale() == "log"
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert marks == [(pytest.approx(1.0), pytest.approx(2.0)), (pytest.approx(0.21), pytest.approx(2.1))]
    assert [text.get_text() for text in axes.texts] == ["dense", "mst"]
    assert axes.get_title(loc="left") == "Who?" and "causal attention as half of T²" in axes.get_xlabel()


def test_the_band_is_the_interval_of_the_mean() -> None:
    records = [run("mst", seed, 0.2, 3.0 + 0.1 * seed) for seed in range(3)]
    axes = mixed_sparsity.loss_curves(Results(records), [MST], title="?").axes[0]
    corners = axes.collections[0].get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], 0.2), 1]
    assert (heights.min(), heights.max()) == pytest.approx((2.1 - 0.2484, 2.1 + 0.2484), abs=1e-3)


def test_losses_over_tokens_with_a_level_across() -> None:
    results = Results([*ladder(), run("mst", 0, 0.25, 3.5)])
    axes = mixed_sparsity.loss_curves(results, [MST], by="tokens", level=arm("dense"), title="?").axes[0]
    assert list(curves(axes)[0].get_xdata()) == [1000, 2000, 3000, 4000]
    level = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert level.get_ydata() == pytest.approx([2.0, 2.0]) and level.get_color() == "#333333"
    assert [text.get_text() for text in axes.texts] == ["dense at its end: 2.000", "mst"]
    assert axes.get_ylim()[0] < 2.0 and axes.get_xlabel() == "tokens read so far, logarithmic"
    assert axes.xaxis.get_major_formatter()(2000, 0) == "2k"


def test_an_axis_shows_what_ends_are_apart_and_starts_where_curves_come_into_sight() -> None:
    low, top = near_ends([[(1, 10.0), (2, 2.0)], [(1, 9.0), (2, 1.0)]])
    assert low < 1.0 and top == pytest.approx(4.0, abs=0.15)
    low, top = near_ends([[(1, 11.0), (2, 1.0)]])
    assert top == pytest.approx(4.0, abs=0.15)
    assert near_ends([[(1, 2.0)]]) == (pytest.approx(1.94), pytest.approx(2.04))
    axes = mixed_sparsity.loss_curves(Results(ladder()), [arm("dense")], title="?").axes[0]
    # Of 5.75, 2.75, 2.25 and 2.0 the last three lie within 30 % of the way down.
    assert axes.get_xlim()[0] == pytest.approx(0.85 * 0.5) and 2.75 < axes.get_ylim()[1] < 5.75


def test_arms_without_losses_are_named() -> None:
    record = run("mst", 0, 0.25, 3.5)
    del record["history"]["flops_ratio/causal"]
    with pytest.raises(RecordError, match="history of validation_loss and flops_ratio/causal"):
        mixed_sparsity.loss_curves(Results([record]), [MST], title="?")
    with pytest.raises(ParameterError, match="Unknown arm 'd/gpt/mts'"):
        mixed_sparsity.loss_curves(Results([record]), [arm("mts")], title="?")


# --- equal losses --------------------------------------------------------------------------------------------


def test_ratios_are_read_off_seed_by_seed() -> None:
    """Seeds of the ladder lie 0.1 apart, and so do those of the arm: at each it reaches half of the FLOPs."""
    records = [*ladder(spread=0.1), *(run("mst", seed, 0.2 + 0.1 * seed, 3.3 + 0.1 * seed) for seed in range(4))]
    found = mixed_sparsity.equal_loss_ratios(Results(records), MST, DENSE)
    assert found == {seed: (pytest.approx(0.4 + 0.2 * seed), True) for seed in range(3)}
    square = mixed_sparsity.equal_loss_ratios(Results(records), MST, DENSE, convention="square")
    assert [each.ratio for each in square.values()] == pytest.approx([0.4, 0.6, 0.8])
    validation = mixed_sparsity.equal_loss_ratios(Results(records), MST, DENSE, metric="validation_loss")
    assert [each.ratio for each in validation.values()] == pytest.approx([0.4, 0.6, 0.8])


def test_the_arrow_leads_to_dense_training_of_equal_loss() -> None:
    records = [run("mst", seed, 0.3, loss) for seed, loss in enumerate((3.2, 3.4, 3.6))]
    axes = mixed_sparsity.equal_loss(Results([*ladder(), *records]), MST, DENSE, title="How much?").axes[0]
    line = curves(axes)[0]
    assert list(line.get_xdata()) == pytest.approx([0.125, 0.25, 0.5, 1.0])
    assert line.get_ydata() == pytest.approx([4.2, 3.8, 3.4, 3.0])
    arrow = next(text for text in axes.texts if not text.get_text())
    assert arrow.xy == pytest.approx((0.5, 3.4)) and arrow.get_position() == pytest.approx((0.3, 3.4))
    mean = np.mean([0.3 / 2**-0.5, 0.6, 0.3 / 2**-1.5])
    texts = [text.get_text() for text in axes.texts if text.get_text()]
    assert texts[0].startswith(f"mst takes {mean:.2f} [0.") and texts[0].endswith("equal test loss")
    assert texts[1:] == ["dense-eighth", "dense-quarter", "dense-half", "dense", "mst"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.125", "0.25", "0.3", "0.5", "1"]
    low, high = axes.containers[0].lines[2][1].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((3.4 - 0.4968, 3.4 + 0.4968), abs=1e-3)


def test_seeds_beyond_the_dense_runs_are_counted() -> None:
    records = [run("mst", seed, 0.25, loss) for seed, loss in enumerate((2.9, 3.4, 9.0))]
    axes = mixed_sparsity.equal_loss(Results([*ladder(), *records]), MST, DENSE, title="?").axes[0]
    text = next(text.get_text() for text in axes.texts if "takes" in text.get_text())
    assert f"takes {np.mean([0.25, 0.5, 2.0]):.2f}" in text and text.endswith(
        "(2 of 3 seeds beyond all dense runs: the nearest counts)"
    )
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.125", "0.25", "0.5", "1"]


def test_one_seed_has_a_ratio_without_an_interval() -> None:
    records = [record for record in ladder() if record["seed"] == 0]
    axes = mixed_sparsity.equal_loss(Results([*records, run("mst", 0, 0.25, 3.4)]), MST, DENSE, title="?").axes[0]
    assert any(text.get_text().startswith("mst takes 0.50 of the FLOPs") for text in axes.texts)


def test_arms_that_share_no_seed_are_named() -> None:
    with pytest.raises(RecordError, match=r"d/gpt/mst and d/gpt/dense-eighth, .* share no finished seed"):
        mixed_sparsity.equal_loss_ratios(Results([*ladder(), run("mst", 7, 0.25, 3.4)]), MST, DENSE)
    lost = {**run("mst", 0, 0.25, 3.4), "status": "failed", "error": "the loss is nan"}
    with pytest.raises(RecordError, match="d/gpt/mst failed"):
        mixed_sparsity.equal_loss(Results([*ladder(), lost]), MST, DENSE, title="?")
    with pytest.raises(ParameterError, match="without test_mcc"):
        mixed_sparsity.equal_loss_ratios(Results([*ladder(), run("mst", 0, 0.25, 3.4)]), MST, DENSE, metric="test_mcc")


# --- the cold start of moments -------------------------------------------------------------------------------


def test_moves_are_read_from_records() -> None:
    records = [run("mst", seed, 0.25, 3.0) for seed in range(2)]
    for seed, record in enumerate(records):
        told = {
            (2, "grown"): 0.6,
            (1, "grown"): 0.4,
            (1, "old"): 0.3,
            (2, "old"): 0.2,
            (0, "loss"): 3.0,
            (1, "loss"): 3.1,
        }
        record["metrics"] |= {f"cold_start/{step}/{name}": value + seed for (step, name), value in told.items()}
    found = mixed_sparsity.moves(Results(records), MST)
    assert found == {"grown": {1: [0.4, 1.4], 2: [0.6, 1.6]}, "old": {1: [0.3, 1.3], 2: [0.2, 1.2]}}
    with pytest.raises(RecordError, match="d/gpt/dense tells of no moves"):
        mixed_sparsity.moves(Results(ladder()), arm("dense"))


def test_updates_of_grown_and_old_weights_stand_beside_the_closed_form() -> None:
    steps, closed = (1, 2, 4), {0.95: [0.447, 0.608, 0.718, 0.798], 0.999: [3.162, 4.250, 4.950, 5.442]}
    series = {
        beta2: {
            "grown": {step: [0.5 * step, 0.7 * step] for step in steps},
            "old": {step: [0.1, 0.1] for step in reversed(steps)},
        }
        for beta2 in (0.95, 0.999)
    }
    figure = mixed_sparsity.cold_start(series, title="How far?")
    for axes, beta2 in zip(figure.axes, series, strict=True):
        expected, grown, old = axes.lines
        assert expected.get_ydata() == pytest.approx(closed[beta2], abs=5e-4)
        assert expected.get_linestyle() == "--" and list(expected.get_xdata()) == [1, 2, 3, 4]
        assert grown.get_ydata() == pytest.approx([0.6, 1.2, 2.4])
        assert list(old.get_xdata()) == [1, 2, 4] and old.get_ydata() == pytest.approx([0.1] * 3)
        assert axes.get_title(loc="left") == f"β2 = {beta2}" and axes.get_yscale() == "log"
        words = ["grown, constant gradient", "grown weights", "old weights"]
        assert [text.get_text() for text in axes.texts] == words
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]
    assert figure.get_suptitle() == "How far?"


# --- tables and parts exchanged ------------------------------------------------------------------------------


def test_the_table_of_equal_losses_tells_means_lowest_first_and_how_many_seeds_lie_inside() -> None:
    ratios = {"d": (1.4, 1.5, 1.6), "d/small": (0.5, 0.5, 0.5)}
    records = []
    for seed in range(3):
        metrics = {f"flops_at_equal_loss/causal/{name}": values[seed] for name, values in ratios.items()}
        metrics |= {f"flops_at_equal_loss/square/{name}": 2 * values[seed] for name, values in ratios.items()}
        metrics |= {"inside/d": float(seed > 0), "inside/d/small": 1.0}
        records.append(synthetic.record("check/C7", seed, **metrics))
    table = mixed_sparsity.equal_loss_table(Results(records))
    half = 4.303 * 0.1 / 3**0.5
    told, twice = f"1.50 [{1.5 - half:.2f}, {1.5 + half:.2f}]", f"3.00 [{3 - 2 * half:.2f}, {3 + 2 * half:.2f}]"
    small, mst = ("d/small", "3", "0.50", "1.00", "3 of 3"), ("d/mst", "3", told, twice, "2 of 3")
    assert table.rows == (small, mst)


def test_parts_exchanged_change_the_loss_in_percent_of_the_same_seed() -> None:
    records = [run("mst", seed, 0.25, 2.0 + seed) for seed in range(3)]
    records += [run("mst-random", seed, 0.25, (2.0 + seed) * (1.02 + 0.01 * seed)) for seed in range(3)]
    axes = mixed_sparsity.exchanged(Results(records), [arm("mst-random")], "mst", title="Which?").axes[0]
    drawn = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert drawn.get_xdata() == pytest.approx([2.0, 3.0, 4.0])
    assert [text.get_text() for text in axes.texts] == ["+3.0"]
    with pytest.raises(RecordError, match="No arm shares a finished seed with mst"):
        mixed_sparsity.exchanged(Results(records[:3]), [arm("mst-random")], "mst", title="Which?")
