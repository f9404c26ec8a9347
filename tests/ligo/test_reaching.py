"""Savings read off curves: exact where lines are straight, none where a target is not reached."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from effi.errors import ParameterError
from effi.ligo.reaching import CLOCK, OWN_RIVALS, RIVALS, TARGETS, place, reached, saved
from tests.claims.synthetic import record

PRICES = {"large": 2.0, "growth": 3.0, "source": 0.5}


def test_a_line_is_read_off_exactly() -> None:
    assert reached([10, 20, 40], [3.0, 2.0, 1.0], 2.5) == 15
    assert reached([10, 20, 40], [3.0, 2.0, 1.0], 1.25) == 35
    assert reached([10, 20, 40], [3.0, 2.0, 1.0], 1.0) == 40
    assert reached([10, 20, 40], [3.0, 2.0, 1.0], 2.0) == 20


def test_below_the_curve_nothing_is_reached_and_at_its_start_the_first_cost_counts() -> None:
    assert reached([10, 20], [3.0, 2.0], 1.999) is None
    assert reached([10, 20], [3.0, 2.0], 3.0) == reached([10, 20], [3.0, 2.0], 9.0) == 10


def test_of_a_curve_that_rises_again_the_first_place_counts() -> None:
    assert reached([0, 10, 20, 30], [4.0, 2.0, 3.0, 1.0], 2.5) == 7.5
    assert reached([0, 10, 20, 30], [4.0, 2.0, 3.0, 1.0], 1.5) == 27.5
    assert reached([0, 10, 20], [4.0, 4.0, 2.0], 3.0) == 15


def test_the_first_place_on_the_line_is_found() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        scores = draw.uniform(1, 2, 6)
        target = draw.uniform(scores.min(), scores[0])
        grid = np.linspace(0, 5, 100_001)
        first = grid[np.flatnonzero(np.interp(grid, np.arange(6), scores) <= target)[0]]
        assert place(scores.tolist(), target) == pytest.approx(first, abs=1e-4)


def test_curves_that_tell_nothing_are_refused() -> None:
    for scores, target in (([], 1.0), ([math.nan], 1.0), ([1.0], math.inf)):
        with pytest.raises(ParameterError, match="a curve of finite scores"):
            place(scores, target)
    with pytest.raises(ParameterError, match="2 costs are given for 1 scores"):
        reached([1, 2], [1.0], 1.0)


# --- records -------------------------------------------------------------------------------------------------


def curve(arm: str, losses: list[float], *, growth: int = 0, source: int = 0, **more: list[float]) -> dict[str, Any]:
    """An arm that is evaluated every 100 steps; a step of the large model is 10 FLOPs, 7 by the paper's count."""
    made = record(arm)
    steps = [100 * (k + 1) for k in range(len(losses))]
    history: dict[str, Any] = {"step": steps, "validation_loss": losses, "steps/large": steps} | more
    history["spent_flops"] = [10 * each + 12 * growth for each in steps]
    history["spent_paper_flops"] = [7 * each + 8 * growth for each in steps]
    made["metrics"] = {}
    if growth:
        history["steps/growth"] = [growth] * len(steps)
    if source:
        made["metrics"] = {"source_flops": 4 * source, "source_paper_flops": 3 * source, "source_steps/source": source}
    return made | {"history": history}


def clock(group: str = "d/gpt", **prices: float) -> dict[str, Any]:
    return record(CLOCK, **{f"step_seconds/{group}/{kind}": each for kind, each in (prices or PRICES).items()})


SCRATCH = curve("d/gpt/scratch", [5.0, 4.0, 3.0, 2.0])


def test_savings_are_told_of_every_account_gross_and_net() -> None:
    grown = curve("d/gpt/ligo", [4.0, 2.0, 1.0], growth=10, source=50)
    found = saved([SCRATCH, grown, clock()])
    assert found["reached/final/d/gpt/ligo"] == 1 and found["main_steps/final/d/gpt/ligo"] == 200
    assert found["evaluations/final/d/gpt/ligo"] == 2
    assert found["saving_flops/final/d/gpt/ligo"] == pytest.approx(1 - (2000 + 120) / 4000)
    assert found["saving_paper_flops/final/d/gpt/ligo"] == pytest.approx(1 - (1400 + 80) / 2800)
    assert found["saving_seconds/final/d/gpt/ligo"] == pytest.approx(1 - (400 + 30) / 800)
    assert found["net_saving_flops/final/d/gpt/ligo"] == pytest.approx(1 - (2120 + 200) / 4000)
    assert found["net_saving_paper_flops/final/d/gpt/ligo"] == pytest.approx(1 - (1480 + 150) / 2800)
    assert found["net_saving_seconds/final/d/gpt/ligo"] == pytest.approx(1 - (430 + 25) / 800)


def test_targets_are_what_scratch_had_after_a_share_of_its_steps() -> None:
    grown = curve("d/gpt/ligo", [4.5, 3.5, 1.0])
    found = saved([SCRATCH, grown])
    # Scratch had 4.0 after 200 steps and 3.0 after 300; the other is there after 150 and 220.
    assert found["main_steps/half/d/gpt/ligo"] == pytest.approx(150)
    assert found["saving_flops/half/d/gpt/ligo"] == pytest.approx(0.25)
    assert found["main_steps/late/d/gpt/ligo"] == pytest.approx(220)
    assert found["saving_flops/late/d/gpt/ligo"] == pytest.approx(1 - 220 / 300)
    assert {name.split("/")[1] for name in found if name.startswith("reached/")} == {"half", "late", "final"}


def test_scratch_saves_nothing_beside_itself() -> None:
    found = saved([SCRATCH, clock()])
    savings = {name: value for name, value in found.items() if "saving_" in name}
    assert len(savings) == 3 * 3 * 2 and set(savings.values()) == {0.0}


def test_an_accuracy_is_a_target_that_is_reached_from_below() -> None:
    scratch = curve("d/vit/scratch", [2.0, 1.0], validation_accuracy=[0.5, 0.7])
    grown = curve("d/vit/ligo", [2.0, 1.9], validation_accuracy=[0.6, 0.8])
    found = saved([scratch, grown])
    assert found["main_steps/accuracy/d/vit/ligo"] == pytest.approx(150)
    assert found["saving_flops/accuracy/d/vit/ligo"] == pytest.approx(0.25)
    assert found["reached/final/d/vit/ligo"] == 0


def test_what_is_not_reached_is_no_saving() -> None:
    found = saved([SCRATCH, curve("d/gpt/ligo", [4.0, 3.0, 2.5, 2.2, 2.1, 2.01], source=50), clock()])
    assert found["reached/final/d/gpt/ligo"] == 0 and found["reached/late/d/gpt/ligo"] == 1
    assert not [name for name in found if "/final/" in name and name.endswith("/ligo") and not name.startswith("reach")]


def test_an_arm_that_reaches_a_target_later_than_scratch_has_a_saving_below_nothing() -> None:
    found = saved([SCRATCH, curve("d/gpt/copy", [5.0, 4.5, 4.0, 3.5, 3.0, 2.0])])
    assert found["saving_flops/final/d/gpt/copy"] == pytest.approx(-0.5)


def test_seconds_want_every_kind_of_step_timed_alone() -> None:
    grown = curve("d/gpt/ligo", [4.0, 2.0], growth=10, source=50)
    grown["history"] |= {"seconds": [1.0, 2.0]}
    for known in ({"large": 2.0}, {"large": 2.0, "growth": 3.0}, {"large": 2.0, "source": 0.5}):
        found = saved([SCRATCH, grown, clock(**known)])
        assert "saving_seconds/final/d/gpt/scratch" in found and "saving_flops/final/d/gpt/ligo" in found
        assert "saving_seconds/final/d/gpt/ligo" not in found
    assert not [name for name in saved([SCRATCH, grown, clock("d/vit")]) if "seconds" in name]


def test_whole_trainings_are_told_in_seconds_of_scratch() -> None:
    grown, longer = curve("d/gpt/ligo", [4.0, 2.0], growth=10, source=50), curve("d/gpt/copy", [5.0] * 6)
    found = saved([SCRATCH, grown, longer, clock()])
    told = {name: value for name, value in found.items() if name.startswith("time_ratio/")}
    ratios = {"scratch": 1.0, "ligo": 430 / 800, "copy": 1.5}
    assert told == pytest.approx({f"time_ratio/d/gpt/{name}": ratio for name, ratio in ratios.items()})
    assert not [name for name in saved([SCRATCH, longer]) if name.startswith("time_ratio/")]


def test_the_lead_is_over_the_best_rival_that_reached() -> None:
    own = curve("d/gpt/ligo", [4.0, 2.0], growth=10, source=50)
    arms = [SCRATCH, own, curve("d/gpt/mslt", [5.0, 3.0, 2.0]), curve("d/gpt/aki", [5.0, 4.0, 4.0], source=50)]
    found = saved([*arms, curve("d/gpt/stack", [3.0, 2.0], source=50)])
    assert found["lead_flops/final/d/gpt"] == pytest.approx((3000 - 2120) / 4000)
    assert found["net_lead_flops/final/d/gpt"] == pytest.approx((2000 - 2120) / 4000)
    assert (found["own_rivals/d/gpt"], found["rivals/d/gpt"]) == (2, 3)
    # Nobody but the method reaches it: nothing to be ahead of.
    assert "lead_flops/final/d/gpt" not in saved([SCRATCH, own, curve("d/gpt/aki", [5.0, 4.0])])
    assert "lead_flops/final/d/gpt" not in saved([SCRATCH, curve("d/gpt/ligo", [5.0]), arms[2]])


def test_groups_are_apart_and_want_scratch() -> None:
    other = [curve("e/gpt/scratch", [5.0, 4.0]), curve("e/gpt/ligo", [4.0]), curve("e/vit/ligo", [4.0])]
    found = saved([SCRATCH, *other, record("d/unigram"), record("d/gpt/static")])
    assert found["saving_flops/final/e/gpt/ligo"] == pytest.approx(0.5)
    assert not [name for name in found if "/vit" in name or "static" in name or "unigram" in name]
    assert saved([curve("d/gpt/ligo", [1.0])]) == {}


def test_scratch_that_never_learned_sets_no_target() -> None:
    scratch = curve("d/gpt/scratch", [1.0, 2.0, 3.0])
    scratch["history"]["step"] = [0, 100, 200]
    assert not [name for name in saved([scratch, curve("d/gpt/ligo", [1.0])]) if "final" in name]


def test_a_curve_may_begin_right_after_growth() -> None:
    grown = curve("d/gpt/ligo", [4.0, 2.0])
    grown["history"]["step"] = [0, 100]
    found = saved([SCRATCH, grown])
    assert (found["main_steps/final/d/gpt/ligo"], found["evaluations/final/d/gpt/ligo"]) == (100, 1)
    assert (found["main_steps/half/d/gpt/ligo"], found["saving_flops/half/d/gpt/ligo"]) == (0, 0.5)


def test_names_of_rivals_and_targets_are_apart() -> None:
    assert set(OWN_RIVALS) < set(RIVALS) and len(set(RIVALS)) == 11
    assert [share for _, share in TARGETS.values()] == [0.5, 0.75, 1.0, 1.0]
