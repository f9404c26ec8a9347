"""What pruning buys: gains of each record, and the figure of all methods."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import Results, papers
from effi.errors import RecordError
from effi.report import early_bird
from tests.claims import synthetic
from tests.report.synthetic import trained

PRUNED = {"ticket": {"ratio": 0.5}}
SMALLER = {"removal": {"search": 1.0}}


def arm(name: str, seed: int, *, flops: float = 100.0, settings: dict[str, Any] | None = None, **metrics: float) -> Any:
    """1,000 parameters of which 800 are prunable, trained for 4 epochs."""
    found = trained(f"d/vit/{name}", seed, 0.8 - 0.1 * seed, flops=flops)
    found["metrics"] |= {"parameters": 1000, "prunable": 800, "alive": 1.0, "epochs": 4, **metrics}
    return {**found, "settings": settings or {}}


def check(seed: int) -> Any:
    steps = {"dense": 2.0, "masked": 2.5, "removed": 1.0, "small-0.5": 0.5 + 0.5 * seed}
    ratios = {"dense": 1.0, "eb-0.5": 1.5, "structured": 0.7 + 0.1 * seed}
    metrics = {f"step_seconds/d/vit/{kind}": own for kind, own in steps.items()}
    return synthetic.record("check/C9", seed, **metrics, **{f"time_ratio/d/vit/{n}": own for n, own in ratios.items()})


def runs(*, timed: bool = True) -> Results:
    records = []
    for seed in range(2):
        records += [
            arm("dense", seed),
            arm("double", seed, flops=200.0, epochs=8),
            arm("eb-0.5", seed, settings=PRUNED, alive=0.5),
            arm("structured", seed, flops=40.0, settings=SMALLER, parameters=500, prunable=320, alive=0.4),
            arm("small-0.5", seed, flops=50.0, parameters=600, prunable=400),
            # Never drawn: neither alive nor accuracy.
            synthetic.record("d/vit/eb-0.9", seed, found=-1),
            *([check(seed)] if timed else []),
        ]
    return Results(records)


def test_gains_are_those_of_live_parameters_work_and_steps() -> None:
    gained = early_bird.with_gains(runs(), {"d/vit": 0.8})
    assert set(gained.arms) == {f"d/vit/{name}" for name in ("dense", "double", "eb-0.5", "structured", "small-0.5")}

    def of(name: str, metric: str) -> float:
        return gained.values(f"d/vit/{name}", metric)[0]

    # A mask leaves 600 parameters and, of the 80 % that its matrices do, half of the work; a step is no faster.
    assert of("eb-0.5", "compression") == pytest.approx(1000 / 600)
    assert of("eb-0.5", "speedup_theory") == pytest.approx(1 / 0.6)
    assert of("eb-0.5", "speedup_step") == pytest.approx(2 / 2.5)
    assert of("eb-0.5", "relative_time") == 1.5
    # What is removed is gone from parameters and FLOPs already.
    assert [of("structured", gain) for gain in early_bird.PANELS] == pytest.approx([2, 2.5, 2])
    assert [of("small-0.5", gain) for gain in early_bird.PANELS] == pytest.approx([1000 / 600, 2, 4])
    assert [of("double", gain) for gain in early_bird.PANELS] == pytest.approx([1, 1, 1])
    # Each seed beside the check of its own.
    assert gained.values("d/vit/small-0.5", "speedup_step") == pytest.approx([4, 2])
    assert gained.values("d/vit/structured", "relative_time") == pytest.approx([0.7, 0.8])


def test_without_the_check_nothing_is_said_of_seconds() -> None:
    gained = early_bird.with_gains(runs(timed=False), {"d/vit": 0.8})
    assert not gained.holds("d/vit/eb-0.5", "speedup_step") and not gained.holds("d/vit/dense", "relative_time")
    figure = early_bird.tradeoff(gained, {"eb": ["d/vit/eb-0.5"]}, level="d/vit/dense", title="?")
    assert len(figure.axes) == 2


def test_the_figure_has_a_panel_for_every_gain_and_all_methods_in_each() -> None:
    gained = early_bird.with_gains(runs(), {"d/vit": 0.8})
    series = {"eb": ["d/vit/eb-0.5", "d/vit/eb-0.9"], "small": ["d/vit/small-0.5"], "late": ["d/vit/late-0.5"]}
    figure = early_bird.tradeoff(gained, series, level="d/vit/dense", title="What does it buy?")
    assert figure.get_suptitle() == "What does it buy?" and len(figure.axes) == 3
    for axes, gain in zip(figure.axes, early_bird.PANELS, strict=True):
        shown = [container.lines[0].get_xydata().tolist() for container in axes.containers]
        means = [sum(gained.values(f"d/vit/{name}-0.5", gain)) / 2 for name in ("eb", "small")]
        assert shown == [[[pytest.approx(mean), pytest.approx(75)]] for mean in means]
        assert axes.lines[-1].get_ydata()[0] == pytest.approx(75) and axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["eb", "small"]
    with pytest.raises(RecordError):
        early_bird.tradeoff(gained, {"late": ["d/vit/late-0.5"]}, level="d/vit/dense", title="?")


def test_points_of_a_method_are_joined_by_what_they_gain() -> None:
    records = [arm(f"eb-{p:g}", seed, settings=PRUNED, alive=1 - p) for p in (0.9, 0.1, 0.5) for seed in range(2)]
    gained = early_bird.with_gains(Results([*(arm("dense", seed) for seed in range(2)), *records]), {"d/vit": 0.8})
    arms = [f"d/vit/eb-{p:g}" for p in (0.9, 0.1, 0.5)]
    figure = early_bird.tradeoff(gained, {"eb": arms}, level="d/vit/dense", title="?")
    x = figure.axes[0].containers[0].lines[0].get_xdata()
    assert list(x) == pytest.approx([1000 / (1000 - 800 * p) for p in (0.1, 0.5, 0.9)])


def test_times_are_those_of_arms_that_every_repeat_has() -> None:
    first, second = check(0), check(1)
    del second["metrics"]["time_ratio/d/vit/eb-0.5"]
    table = early_bird.time_table(Results([first, second]))
    assert table.columns == ("arm", "times dense, n=2")
    assert [row[0] for row in table.rows] == ["d/vit/dense", "d/vit/structured"]
    # The geometric mean of 0.7 and 0.8; t of one degree of freedom is 12.7 standard errors.
    assert table.rows[0][1] == "1.00" and table.rows[1][1] == "0.75 [0.32, 1.75]"


def test_figures_and_advice_read_the_times_of_one_check() -> None:
    assert papers.load("early_bird").report["timing"] == early_bird.TIMED
