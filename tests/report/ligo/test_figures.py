"""What growing saves as a table, a picture and a sentence, courses with the source paid or not, and depth weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from effi.claims import Results
from effi.errors import RecordError
from effi.ligo.reaching import CLOCK
from effi.report import ligo
from tests.claims import synthetic

CHECK = "check/savings"
ARMS = {"scratch": 0.0, "ligo": 0.2, "stack": 0.1}  # arm -> the share of scratch's cost that it saves


def record(arm: str, seed: int) -> dict[str, Any]:
    """Losses that fall from 4 to 2 at a cost of 100, sooner by what the arm saves; a source of 30 for what grows."""
    cost = 100 * (1 - ARMS[arm])
    found = synthetic.record(f"d/gpt/{arm}", seed, test_loss=2.0 + 0.01 * seed, layers_small=2.0)
    found["metrics"]["transfer/rte"] = 50.0 + seed + 10 * (arm == "ligo")
    if arm != "scratch":
        found["metrics"] |= {"source_flops": 30.0, "source_steps/small": 100.0}
    if arm == "ligo":
        found["metrics"] |= {"source_transfer/rte": 40.0 + seed, "grown_transfer/rte": 45.0}
    spent = np.linspace(0, cost, 6).tolist()
    found["history"] = {"spent_flops": spent, "spent_paper_flops": spent, "steps/large": [0, 10, 20, 30, 40, 50]}
    found["history"]["validation_loss"] = [4.0, 3.0, 2.6, 2.3, 2.1, 2.0 + 0.01 * seed]
    if arm == "ligo":
        begun = [0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9]
        learned = [each + 0.1 * seed for each in begun]
        for role in ("mlp.0", "mlp.0.bias"):
            found["history"] |= {f"depth_initial/{role}": begun, f"depth/{role}": learned}
    return found


def check(seed: int) -> dict[str, Any]:
    metrics = {}
    for arm, saved in ARMS.items():
        metrics |= {f"reached/final/d/gpt/{arm}": 1.0, f"saving_flops/final/d/gpt/{arm}": saved + 0.01 * seed}
        metrics[f"net_saving_flops/final/d/gpt/{arm}"] = saved - 0.3 * (arm != "scratch") + 0.01 * seed
    metrics |= {"reached/final/d/gpt/copy": 0.0, "reached/final/d/gpt/mslt": float(seed > 0)}
    if seed:
        metrics["saving_flops/final/d/gpt/mslt"] = 0.25
    return synthetic.record(CHECK, seed, **metrics) | {"dataset": None, "model": None, "variant": None, "ratio": None}


@pytest.fixture(scope="module")
def results() -> Results:
    return Results([record(arm, seed) for arm in ARMS for seed in range(3)] + [check(seed) for seed in range(3)])


def test_savings_are_told_gross_and_net_and_never_where_a_target_was_not_reached(results) -> None:
    table = ligo.savings_table(results, "d/gpt", check=CHECK)
    rows = {row[0]: row[2:] for row in table.rows}
    assert table.columns == ("arm", "n", "final, gross", "final, net of the source")
    assert rows["ligo"][0].startswith("21.0 [") and rows["mslt"][0] == "reached by 2 of 3 seeds"
    assert rows["ligo"][1].startswith("-9.0 [") and rows["copy"] == ("not reached", "not reached")


def test_seeds_that_an_arm_was_not_trained_at_are_none_that_missed_the_target() -> None:
    rows = [check(seed) for seed in range(3)]
    for name in [name for name in rows[2]["metrics"] if name.endswith("/stack")]:
        del rows[2]["metrics"][name]
    rows[0]["metrics"]["saving_seconds/final/d/gpt/ligo"] = 0.1
    told = {row[0]: row[1:3] for row in ligo.savings_table(Results(rows), "d/gpt", check=CHECK).rows}
    assert told["stack"] == ("2", "10.5 [4.1, 16.9]") and told["ligo"][0] == "3"
    timed = ligo.savings_table(Results(rows), "d/gpt", check=CHECK, account="seconds").rows
    assert {row[0]: row[2] for row in timed}["ligo"] == "timed at 1 of 3 seeds"


def test_no_saving_exceeds_all_of_the_cost() -> None:
    wide = [check(seed) for seed in range(2)]
    for record, saved in zip(wide, (0.9, 0.5), strict=True):
        record["metrics"]["saving_flops/final/d/gpt/ligo"] = saved
    (row,) = [row for row in ligo.savings_table(Results(wide), "d/gpt", check=CHECK).rows if row[0] == "ligo"]
    assert row[2].startswith("70.0 [") and row[2].endswith(", 100.0]")


@pytest.mark.parametrize(
    ("shift", "best", "worst"),
    [
        (0.0, "", "d/gpt/ligo: takes 9.0 % [6.5, 11.5] more FLOPs until that loss"),
        (0.3, "d/gpt/ligo: saves 21.0 % [18.5, 23.5] of the FLOPs until scratch's last loss", ""),
    ],
)
def test_what_is_saved_best_and_lost_has_the_source_paid(shift: float, best: str, worst: str) -> None:
    rows = [check(seed) for seed in range(3)]
    for record in rows:
        record["metrics"]["net_saving_flops/final/d/gpt/ligo"] += shift
    paper = SimpleNamespace(report={"savings": CHECK, "offered": ["ligo", "stack", "mslt"], "method": ["ligo"]})
    assert ligo.best_and_worst(Results(rows), "d/gpt", paper) == (best, worst)


def test_a_picture_of_savings_has_a_panel_for_each_account(results) -> None:
    figure = ligo.savings_dots(results, "d/gpt", ["ligo", "copy", "stack"], title="What is saved?", check=CHECK)
    gross, net = figure.axes
    assert [text.get_text() for text in gross.get_yticklabels()] == ["ligo", "copy", "stack"]
    assert any(text.get_text() == " not reached" for text in net.texts)
    means = [line.get_xdata()[0] for line in gross.lines if line.get_marker() == "o" and line.get_markersize() == 6]
    assert means == pytest.approx([21.0, 11.0])
    told = ligo.savings_dots(results, "d/gpt", ["mslt"], title="What is saved?", check=CHECK).axes[0].texts
    assert [text.get_text().strip() for text in told] == ["reached by 2 of 3 seeds"]


def test_no_interval_in_a_picture_exceeds_all_of_the_cost() -> None:
    wide = [check(seed) for seed in range(2)]
    for record, saved in zip(wide, (0.9, 0.5), strict=True):
        record["metrics"]["saving_flops/final/d/gpt/ligo"] = saved
    gross = ligo.savings_dots(Results(wide), "d/gpt", ["ligo"], title="What is saved?", check=CHECK).axes[0]
    (bars,) = (bars for bars in gross.collections if bars.get_segments())
    ((left, _), (right, _)) = bars.get_segments()[0]
    assert left < 0 and right == pytest.approx(100.0)


def test_points_on_other_tasks_stand_side_by_side(results) -> None:
    table = ligo.transfer_table(results, "d/gpt")
    assert table.columns == ("task", "the small model", "right after growth", "grown and trained", "from scratch")
    ((task, small, at_once, grown, scratch),) = table.rows
    assert (task, at_once) == ("rte", "45.0") and small.startswith("41.0 [")
    assert grown.startswith("61.0 [") and scratch.startswith("51.0 [")
    with pytest.raises(RecordError, match="d/bert: no other task was tried; name some"):
        ligo.transfer_table(results, "d/bert")


def test_the_advice_hangs_on_who_pays_for_the_source(results) -> None:
    said = ligo.recommendation(results, "d/gpt", ["ligo", "stack", "copy"], check=CHECK, sunk=True)
    assert said.startswith("d/gpt: grow. Of 2 ways") and "ligo saves 21.0 % [" in said
    paid = ligo.recommendation(results, "d/gpt", ["ligo", "stack", "copy"], check=CHECK)
    assert "no way of growing surely pays: the best, ligo saves -9.0 %" in paid
    assert "train the large model from scratch" in ligo.recommendation(results, "d/gpt", ["copy"], check=CHECK)


def test_courses_begin_behind_the_source_where_it_is_paid(results) -> None:
    arms = [f"d/gpt/{arm}" for arm in ARMS]
    figure = ligo.cost_curves(results, arms, title="What does a FLOP buy?", levels=["d/gpt/scratch"])
    free, paid = figure.axes
    starts = [[line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 6] for axes in (free, paid)]
    assert starts == [[0, 0, 0], [0, 30, 30]]
    low, high = free.get_ylim()
    assert 1.8 < low < 2.0 and 3.0 < high < 3.2, "the first loss is cut off"
    assert any(text.get_text() == "scratch at its end" for text in free.texts)


def test_courses_in_seconds_are_steps_of_each_kind_by_the_clock_of_the_seed(results) -> None:
    arms = [f"d/gpt/{arm}" for arm in ARMS]
    with pytest.raises(RecordError, match=r"No steps of d/gpt/scratch, .* were timed at every seed: run check/seconds"):
        ligo.cost_curves(results, arms, title="What does a second buy?", by="seconds")
    prices = {"step_seconds/d/gpt/large": 2.0, "step_seconds/d/gpt/small": 0.5, "step_seconds/d/bert/large": 9.0}
    rows = [record(arm, seed) for arm in ARMS for seed in range(3)]
    rows[-1]["history"]["steps/growth"] = [5] * 6  # a kind of step that nobody timed
    clocks = [synthetic.record(CLOCK, seed, **prices) | {"dataset": None, "variant": None} for seed in range(3)]
    free, paid = ligo.cost_curves(Results(rows + clocks), arms, title="What does a second buy?", by="seconds").axes
    spans = [
        [(line.get_xdata()[0], line.get_xdata()[-1]) for line in axes.lines if len(line.get_xdata()) == 6]
        for axes in (free, paid)
    ]
    assert spans == [[(0, 100), (0, 100)], [(0, 100), (50, 150)]], "scratch and ligo; stack has a step without a price"
    assert paid.get_xlabel() == "seconds of steps timed alone, the source paid"


def test_depth_weights_are_shown_as_begun_learned_and_changed(results) -> None:
    figure = ligo.depth_maps(results, "d/gpt/ligo", title="Which layers?")
    begun, learned, change = (axes.images[0].get_array() for axes in figure.axes)
    assert begun.shape == (4, 2) and np.allclose(begun[0], [0.9, 0.1])
    assert np.allclose(learned - begun, 0.1) and np.allclose(change, 0.1)
    assert [text.get_text() for text in figure.axes[0].texts[:2]] == ["0.90", "0.10"]
    assert figure.axes[0].get_title() == "mlp.0", "biases have weights of their own, which are left out"
    with pytest.raises(RecordError, match="d/gpt/stack keeps no depth weights"):
        ligo.depth_maps(results, "d/gpt/stack", title="Which layers?")


def test_what_was_not_run_is_named(results) -> None:
    with pytest.raises(RecordError, match="check/else has no finished record: run scratch"):
        ligo.savings_table(results, "d/gpt", check="check/else")
    with pytest.raises(RecordError, match="tells nothing of aki on d/gpt"):
        ligo.savings_dots(results, "d/gpt", ["aki"], title="What is saved?", check=CHECK)


def test_sweeps_draw_the_arms_that_ran_over_their_steps_and_the_released_rate_or_scratch_across() -> None:
    arms = ("scratch", "ligo", "ligo-10", "ligo-released", "copy", "copy-early")
    found = Results(
        [
            synthetic.record(f"d/gpt/{arm}", seed, test_loss=2.0 + place)
            for place, arm in enumerate(arms)
            for seed in (0, 1)
        ]
    )
    grown = ligo.growth_steps(found, "d/gpt", metric="test_loss", steps={"ligo-10": 10, "ligo": 100, "ligo-500": 500})
    (axes,) = grown.axes
    assert [[*map(float, line.get_xdata())] for line in axes.lines if line.get_linestyle() == "-"] == [[10, 100]]
    assert [*axes.lines[-1].get_ydata()] == [5.0, 5.0] and axes.get_xscale() == "symlog"
    how = {"ways": {"ligo": "LiGO", "copy": "direct copy"}, "steps": {"-early": 4, "": 16}}
    (axes,) = ligo.source_steps(found, "d/gpt", metric="test_loss", **how).axes
    drawn = [(*line.get_xdata(), *line.get_ydata()) for line in axes.lines if line.get_linestyle() == "-"]
    assert drawn == [(16, 3.0), (4, 16, 7.0, 6.0)] and [*axes.lines[-1].get_ydata()] == [2.0, 2.0]
    assert {text.get_text() for text in axes.texts} >= {"LiGO", "direct copy"}
