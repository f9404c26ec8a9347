"""Lines over the number in an arm's name, and stacked costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from effi import report
from effi.claims import Results, papers
from effi.errors import ParameterError, RecordError
from effi.report.canvas import PALETTE
from tests.report.synthetic import trained

RATIOS = (0.1, 0.5, 0.9)
ARMS = {name: {ratio: f"d/vit/{name}-{ratio}" for ratio in RATIOS} for name in ("eb", "random")}


def runs() -> list[dict[str, Any]]:
    """Three seeds a point or more apart; the random ticket of 0.9 did not run."""
    return [
        trained(f"d/vit/{name}", seed, accuracy + 0.01 * seed)
        for name, accuracy in (
            *((f"eb-{ratio}", 0.8 - 0.1 * ratio) for ratio in RATIOS),
            ("random-0.1", 0.7),
            ("random-0.5", 0.6),
            ("dense", 0.81),
        )
        for seed in range(3)
    ]


def draw(series: dict[str, dict[float, str]] = ARMS, **options: Any) -> Axes:
    return report.lines(Results(runs()), series, "test_accuracy", xlabel="ratio", title="Which?", **options).axes[0]


def test_lines_are_means_with_every_seed_and_named_at_their_end() -> None:
    axes = draw()
    eb, random = (line for line in axes.lines if line.get_linestyle() == "-")
    assert list(eb.get_xdata()) == list(RATIOS)
    assert eb.get_ydata() == pytest.approx([80, 76, 72])
    assert random.get_ydata() == pytest.approx([71, 61])
    assert sum(len(line.get_ydata()) for line in axes.lines if line.get_marker() == "o") == 15
    assert [text.get_text() for text in axes.texts] == ["eb", "random"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.1", "0.5", "0.9"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("ratio", "test accuracy (%)")


def test_intervals_are_those_of_the_mean() -> None:
    corners = draw({"eb": ARMS["eb"]}).collections[0].get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], 0.5), 1]
    assert (heights.min(), heights.max()) == pytest.approx((76 - 2.484, 76 + 2.484), abs=0.001)


def test_the_level_is_dashed_across_with_its_interval() -> None:
    axes = draw(level="d/vit/dense")
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert dashed.get_ydata() == pytest.approx([82, 82])
    low, high = axes.patches[0].get_y(), axes.patches[0].get_y() + axes.patches[0].get_height()
    assert (low, high) == pytest.approx((82 - 2.484, 82 + 2.484), abs=0.001)
    assert axes.texts[-1].get_text() == "dense"


def test_series_have_the_arms_colour_where_it_tells_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers, "colours", lambda: {"eb": "#112233", "random": "#445566"})
    assert {line.get_color() for line in draw().lines} == {"#112233", "#445566"}
    swapped = {f"p = {ratio}": {0: f"d/vit/eb-{ratio}"} for ratio in RATIOS}
    axes = draw(swapped, xscale="symlog")
    assert [line.get_color() for line in axes.lines[::2]] == list(PALETTE[:3])
    assert axes.get_xscale() == "symlog"
    assert {text.get_text() for text in axes.texts} == set(swapped)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(RecordError, match="No finished arm holds test_accuracy"):
        draw({"late": {0.1: "d/vit/late-0.1"}})
    with pytest.raises(ParameterError, match="Unknown arm 'd/vit/long'"):
        draw(level="d/vit/long")


def test_costs_are_stacked_in_percent_of_the_baseline() -> None:
    records = [
        trained(f"d/vit/{name}", seed, 0.8, flops=flops, search=search)
        for name, flops, search in (("eb-0.1", 100.0, 30.0), ("dense", 100.0, 0.0))
        for seed in range(3)
    ]
    for record in records:
        record["cost"]["phases"]["evaluate"] = {"flops": 5.0, "seconds": 1.0}
        record["cost"]["flops"] += 5.0
    axes = report.cost_bars(Results(records), ["d/vit/dense", "d/vit/eb-0.1"], title="What?", baseline="dense").axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([0, 100 / 1.05, 5 / 1.05, 30 / 1.05, 100 / 1.05, 5 / 1.05])
    assert [text.get_text() for text in axes.texts] == ["100.0 %", "128.6 %"]
    assert axes.patches[4].get_x() == pytest.approx(30 / 1.05)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dense", "eb-0.1"]
    assert axes.get_xlabel() == "training FLOPs, % of dense"
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["search", "train", "evaluate"]


def test_what_was_lost_is_drawn_apart() -> None:
    records = [trained("d/dense", 0, 0.8), trained("d/eb", 0, 0.8, search=30.0)]
    records[1]["cost"]["phases"]["lost"] = {"flops": 0, "seconds": 2.0, "joules": None}
    records[1]["cost"]["seconds"] += 2.0
    drawn = report.cost_bars(Results(records), ["d/eb"], title="?", baseline="dense", key="seconds").axes[0]
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["search", "train", "evaluate", "lost"]
    assert [bar.get_width() for bar in drawn.patches] == pytest.approx([30, 100, 0, 20])
    assert drawn.patches[3].get_x() == pytest.approx(130)


def test_costs_without_a_pair_or_a_measurement_are_refused() -> None:
    records = [trained("d/dense", 0, 0.8), trained("d/eb", 1, 0.8)]
    with pytest.raises(ParameterError, match="d/eb shares no finished seed with dense"):
        report.cost_bars(Results(records), ["d/eb"], title="?", baseline="dense")
    records[1] |= {"seed": 0}
    records[1]["cost"]["flops"] = None
    with pytest.raises(RecordError, match=r"d/eb holds no 'cost.flops'"):
        report.cost_bars(Results(records), ["d/eb"], title="?", baseline="dense")
