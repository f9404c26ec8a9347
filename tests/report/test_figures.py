"""Figures by their data: values, intervals, colours, and labels that cover nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from effi import report
from effi.claims import Results, Tally, measures, papers
from effi.claims.stats import Interval
from effi.errors import ParameterError, RecordError
from effi.report import canvas
from effi.report.canvas import PALETTE, ink, spread
from effi.report.figures import _frontier
from tests.report.synthetic import runs, trained


def crowd() -> list[dict[str, object]]:
    """Nine arms, three of them nearly on top of each other."""
    spots = [
        (100, 0.80),
        (101, 0.801),
        (102, 0.799),
        (300, 0.9),
        (310, 0.89),
        (50, 0.5),
        (55, 0.52),
        (900, 0.6),
        (20, 0.55),
    ]
    return [
        trained(f"d/variant-{i}", seed, accuracy + 0.002 * seed, flops=flops)
        for i, (flops, accuracy) in enumerate(spots)
        for seed in range(2)
    ]


def boxes(axes: Axes, texts: list[Text]) -> list[Bbox]:
    """Pixel boxes of texts without their connecting lines."""
    axes.get_figure().draw_without_rendering()
    renderer = axes.get_figure().canvas.get_renderer()
    return [Text.get_window_extent(text, renderer) for text in texts]


def apart(found: list[Bbox]) -> bool:
    """Whether no box covers another by more than a pixel."""
    return not any(
        min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        for a, b in itertools.combinations(found, 2)
    )


def test_same_variant_same_colour_everywhere() -> None:
    assert report.colour_of("minimum") == "#D55E00"
    assert report.colour_of("never-heard-of") in PALETTE
    bars = report.bars_with_intervals(Results(runs()), ["test_accuracy"], title="?").axes[0].patches
    assert [bar.get_facecolor()[:3] for bar in bars[:2]] == [bar.get_facecolor()[:3] for bar in bars[2:]]


def test_variants_that_differ_in_numbers_share_a_listed_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers, "colours", lambda: {"drawn": "#112233", "drawn-5-0.9": "#445566"})
    assert report.colour_of("drawn-20-0.1") == report.colour_of("drawn-3") == "#112233"
    assert report.colour_of("drawn-5-0.9") == "#445566"


@pytest.mark.parametrize("colour", [*PALETTE, "#FFFF00"])
def test_text_is_readable_on_white(colour: str) -> None:
    red, green, blue = (channel**2.2 for channel in to_rgb(ink(colour)))
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.49


def test_bars_show_means_intervals_seeds_and_start_at_zero() -> None:
    axes = report.bars_with_intervals(
        Results(runs()), ["test_accuracy"], arms=["d/dense", "d/half"], title="Who?"
    ).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([81.0, 79.0])
    assert axes.get_xlim()[0] == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dense", "half"]
    assert [text.get_text() for text in axes.texts] == ["81.0", "79.0"]
    low, high = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((81 - 2.484, 81 + 2.484), abs=0.001)
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("Who?", "test accuracy (%)")


def test_bars_of_one_seed_have_no_interval_and_names_tell_metrics_apart() -> None:
    records = [trained("d/dense", 0, 0.8)]
    axes = report.bars_with_intervals(Results(records), ["test_loss", "test_accuracy"], title="Who?").axes[0]
    assert np.ptp(axes.containers[1].lines[2][0].get_segments()[0][:, 0]) == 0
    assert [text.get_text() for text in axes.texts] == ["test loss 0.200", "test accuracy 80.0"]


def test_bars_take_other_words_and_another_label() -> None:
    records = [trained("d/dense", 0, 0.8)]
    words = {"test_loss": "loss", "test_accuracy": "score"}
    axes = report.bars_with_intervals(Results(records), words, title="Who?", xlabel="of one").axes[0]
    assert [text.get_text() for text in axes.texts] == ["loss 0.200", "score 80.0"]
    assert axes.get_xlabel() == "of one"


def test_arms_that_failed_are_left_out_of_a_figure() -> None:
    failed = {**trained("d/late", 0, 0.8), "status": "failed", "error": "the loss is nan"}
    found = Results([trained("d/dense", 0, 0.8), failed])
    axes = report.bars_with_intervals(found, ["test_accuracy"], arms=["d/late", "d/dense"], title="?").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dense"]
    with pytest.raises(RecordError, match=r"No finished arm holds test_accuracy: d/late failed \(the loss is nan\)"):
        report.bars_with_intervals(found, ["test_accuracy"], arms=["d/late"], title="?")


def test_names_keep_the_data_set_where_there_are_two() -> None:
    axes = report.scatter(Results(runs()), "parameters", "test_accuracy", title="?").axes[0]
    assert {text.get_text() for text in axes.texts} == {"d/dense", "d/half", "e/dense", "e/half"}


def test_unknown_arms_are_named() -> None:
    with pytest.raises(ParameterError, match="Unknown arm 'd/dens'"):
        report.pareto(Results(runs()), "parameters", "test_accuracy", arms=["d/dens"], title="?")


def test_frontier_keeps_what_nothing_beats() -> None:
    points = [(1, 5), (2, 4), (2, 7), (3, 6), (4, 9)]
    assert _frontier(points, lower=False) == [(1, 5), (2, 7), (4, 9)]
    assert _frontier(points, lower=True) == [(1, 5), (2, 4)]


def test_pareto_labels_cover_neither_points_nor_each_other() -> None:
    references = {"other work": (305.0, 91.0)}
    axes = report.pareto(Results(crowd()), "parameters", "test_accuracy", title="?", references=references).axes[0]
    assert axes.get_xscale() == "log"
    texts = boxes(axes, axes.texts)
    assert len(texts) == 10 and apart(texts)
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in texts)
    spots = axes.transData.transform([text.xy for text in axes.texts])
    assert not any(box.contains(x, y) for box in texts for x, y in spots)


def test_scatter_draws_every_seed() -> None:
    axes = report.scatter(Results(crowd()), "cost.flops", "test_accuracy", title="?").axes[0]
    assert sum(len(line.get_xdata()) for line in axes.lines) == 18
    assert apart(boxes(axes, axes.texts))
    assert axes.get_xlabel() == "training FLOPs"


def test_spread_moves_as_little_as_needed() -> None:
    assert spread([0, 100, 50], 10, 0, 100) == pytest.approx([0, 100, 50])
    assert spread([50, 50], 10, 0, 100) == pytest.approx([45, 55])
    assert spread([99, 98], 10, 0, 100) == pytest.approx([100, 90])
    crowded = spread(list(range(30)), 10, 0, 100)
    assert np.diff(crowded) == pytest.approx([10] * 29) and crowded[0] == 0


def test_curves_are_means_with_bands_and_labels_apart() -> None:
    axes = report.curves(Results(crowd()), ["validation_accuracy"], title="?").axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([50.1, 60.1, 70.1, 80.1])
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert len(axes.collections) == 9
    assert len(axes.texts) == 9 and apart(boxes(axes, axes.texts))


def test_bands_of_two_seeds_stay_within_what_a_share_can_be() -> None:
    records = [trained("d/dense", seed, 0.6 + 0.3 * seed) for seed in range(2)]
    axes = report.curves(Results(records), ["validation_accuracy"], title="?").axes[0]
    corners = axes.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0.0, 100.0)


def test_whiskers_of_two_seeds_stay_within_what_a_share_can_be() -> None:
    records = [trained("d/dense", seed, 0.6 + 0.3 * seed) for seed in range(2)]
    bars = report.bars_with_intervals(Results(records), ["test_accuracy"], title="?").axes[0]
    assert bars.containers[1].lines[2][0].get_segments()[0][:, 0].tolist() == [0.0, 100.0]
    points = report.pareto(Results(records), "parameters", "test_accuracy", title="?").axes[0]
    assert points.containers[0].lines[2][0].get_segments()[0][:, 1].tolist() == [0.0, 100.0]


def test_curves_without_history_are_refused() -> None:
    with pytest.raises(RecordError, match="history of train_loss"):
        report.curves(Results(runs()), ["train_loss"], title="?")


@pytest.mark.parametrize("draw", [report.pareto, report.scatter])
def test_nothing_to_draw_is_refused(draw: Callable[..., Figure]) -> None:
    with pytest.raises(RecordError, match=r"No finished arm holds cost.joules and test_accuracy"):
        draw(Results(runs()), "cost.joules", "test_accuracy", title="?")


@pytest.mark.parametrize("draw", [report.bars_with_intervals, report.curves])
@pytest.mark.parametrize("metrics", [[], ["a", "b", "c", "d"]])
def test_more_metrics_than_a_figure_can_tell_apart_are_refused(draw: Callable[..., Figure], metrics: list[str]) -> None:
    with pytest.raises(ParameterError, match=f"not {len(metrics)}"):
        draw(Results(runs()), metrics, title="?")


def test_verdict_bars_are_solid_where_the_protocol_is_reached_and_hatched_elsewhere() -> None:
    counts = {
        Tally("arithmetic", "for", True): 3,
        Tally("timing", "for", False): 1,
        Tally("trained", "for", False): 1,
        Tally("trained", "against", False): 2,
        Tally("trained", "open", True): 4,
        Tally("trained", "not run", False): 5,
    }
    axes = report.verdict_bars({"minimal": counts}, title="Which claims hold?").axes[0]
    bars = [(bar.get_x(), bar.get_width(), bool(bar.get_hatch())) for bar in axes.patches]
    assert bars == [(0, 3, False), (3, 2, True), (5, 2, True), (7, 4, False), (11, 5, True)]
    assert [text.get_text() for text in axes.texts] == [
        *("3", "2", "2", "4", "5"),
        "✓ 5 for   ✗ 2 against   ○ 4 open   – 5 not run",
    ]


def test_saved_figures_have_a_fixed_size(tmp_path: Path) -> None:
    path = report.save_figure(plt.subplots()[0], tmp_path / "figures", "plain")
    assert path == tmp_path / "figures" / "plain.png"
    with Image.open(path) as image:
        assert image.size == (792, 462)
    assert not plt.get_fignums()


def test_large_figures_get_fewer_colours(tmp_path: Path) -> None:
    figure, axes = plt.subplots()
    for i, height in enumerate(np.random.default_rng(0).random((60, 40))):
        axes.plot(height, color=(i / 60, 0.5, 1 - i / 60), alpha=0.5)
    figure.savefig(tmp_path / "direct.png", dpi=110)
    assert (tmp_path / "direct.png").stat().st_size > 120_000
    assert report.save_figure(figure, tmp_path, "small").stat().st_size <= 120_000


def test_figures_too_large_for_a_notebook_are_refused(tmp_path: Path) -> None:
    figure, axes = plt.subplots()
    axes.imshow(np.random.default_rng(0).random((400, 700, 3)))
    with pytest.raises(ParameterError, match="draw fewer points"):
        report.save_figure(figure, tmp_path, "noise")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metric", ["test_accuracy", "test_loss", "test_mcc", "test_loss - train_loss"])
def test_no_whisker_leaves_what_a_value_can_be(metric: str) -> None:
    low, high = measures.bounds(metric)
    assert canvas.whiskers(Interval(0.5, -200.0, 201.0), (low, high)) == (max(-200.0, low), min(201.0, high))


def test_changes_are_paired_by_seed_and_leave_the_reference_out() -> None:
    """Half loses one, two and three points to dense: their mean and the line of no change are drawn."""
    records = [record for record in runs() if record["arm"].startswith("d/")]
    axes = report.changes(Results(records), "test_accuracy", "d/dense", title="?", arms=["d/dense", "d/half"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["half"]
    seeds = next(line for line in axes.lines if line.get_markersize() == 2.5)
    assert seeds.get_xdata() == pytest.approx([-1, -2, -3])
    assert axes.texts[0].get_text() == "-2.0 (n=3)"
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    with pytest.raises(RecordError, match="No arm shares a seed with d/dense"):
        report.changes(Results(records), "test_loss_at_night", "d/dense", title="?", arms=["d/half"])


def test_seconds_of_a_shared_machine_are_not_drawn() -> None:
    records = [trained("d/dense", 0, 0.8, side_by_side=2)]
    with pytest.raises(RecordError, match="shared the machine"):
        report.pareto(Results(records), "cost.seconds", "test_accuracy", title="?")
