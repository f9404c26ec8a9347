"""When rounds end and what they prune: the closed forms of Table 1, and what cannot be reached."""

from __future__ import annotations

import math
import re

import pytest

from effi.errors import ParameterError
from effi.instant_soup import Rounds, bill

# Examples: (sparsity in %, rounds, mask-stage epochs, look-ahead epochs, total, LTH epochs, LTH / ISP); Table 1.
CLIP = {
    8144: [  # Cars
        (30, 3, 0.6, 11.7, 33.7, 88, 2.6),
        (40, 4, 1.0, 15.6, 37.6, 110, 2.9),
        (50, 5, 1.5, 19.5, 41.5, 132, 3.2),
    ],
    26640: [  # GTSRB
        (50, 5, 1.5, 6.0, 28.0, 132, 4.7),
        (60, 6, 2.1, 7.2, 29.2, 154, 5.3),
        (70, 8, 3.6, 9.6, 31.6, 176, 5.6),
    ],
    50000: [  # CIFAR
        (60, 6, 2.1, 3.8, 25.8, 154, 6.0),
        (70, 8, 3.6, 5.1, 27.1, 176, 6.5),
        (80, 10, 5.5, 6.4, 28.4, 198, 7.0),
    ],
}


@pytest.mark.parametrize(("examples", "row"), [(key, row) for key, rows in CLIP.items() for row in rows])
def test_the_published_settings_cost_what_arithmetic_says(examples, row):
    percent, rounds, stage, look_ahead, total, lottery, ratio = row
    found = bill(Rounds(percent / 100), epochs=22, examples=examples, batch_size=128, nets=5, steps=50)
    assert found.rounds == rounds and found.lottery == lottery
    assert found.stage == pytest.approx(stage)
    assert (found.look_ahead, found.total, found.ratio) == pytest.approx((look_ahead, total, ratio), abs=0.051)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.45, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.15, 0.3])
def test_rounds_whose_masks_agree_are_counted_by_logarithms(target, rate):
    relative, absolute = Rounds(target, rate), Rounds(target, rate, relative=False)
    assert len(relative.ladder()) == math.ceil(math.log(1 - target) / math.log(1 - rate) - 1e-9)
    assert len(absolute.ladder()) == math.ceil(target / rate - 1e-9)
    for rounds in (relative, absolute):
        sparsities = rounds.ladder()
        assert sparsities[-1] == target and sorted(set(sparsities)) == sparsities
    assert relative.ladder()[:-1] == pytest.approx([1 - (1 - rate) ** i for i in range(1, len(relative.ladder()))])
    assert absolute.ladder()[:-1] == pytest.approx([rate * i for i in range(1, len(absolute.ladder()))])


def test_the_rest_below_five_points_is_one_cut():
    assert Rounds(0.9, 0.1).ladder(0.05)[-2:] == [pytest.approx(1 - 0.9**19), 0.9]
    assert len(Rounds(0.9, 0.1).ladder(0.05)) == 20 and len(Rounds(0.9, 0.1).ladder()) == 22
    assert Rounds(0.9, 0.1).asked(0.05) == 19 and Rounds(0.9, 0.1).asked() == 22, "the last cut asks no weak nets"


def test_segments_grow_by_a_tenth_of_the_data():
    rounds = Rounds(0.8, stage=1.0)
    assert rounds.ends(391, 22 * 391)[:4] == [39, 39 * 3, 39 * 6, 39 * 10]
    assert [rounds.segment(i, 391) for i in (0, 5)] == [
        39,
        6 * 39,
    ]  # 10 % before the first prune, 60 % before the sixth
    ends = rounds.ends(391, 22 * 391)
    assert ends[-1] <= 22 * 391 < ends[-1] + rounds.segment(len(ends), 391)


def test_other_schedules_of_segments():
    dynamic = Rounds(0.8, first=0.075, cap=0.2)
    assert [dynamic.segment(i, 200) for i in range(4)] == [15, 30, 40, 40]
    fixed = Rounds(0.8, first=0.5, growth="constant", stage=0.75)
    assert fixed.ends(10, 40) == [5, 10, 15, 20, 25, 30]
    assert Rounds(0.8, first=0.001).segment(0, 10) == 1


@pytest.mark.parametrize("steps", [100, 279])
def test_what_cannot_be_reached_names_the_smallest_budget_that_can(steps):
    rounds = Rounds(0.8, stage=0.75)
    needed = sum(2 * (i + 1) for i in range(10))  # ten rounds of 20 steps an epoch: 110
    assert needed == 110
    rounds.check(20, 147)
    message = r"10 rounds to a sparsity of 0\.8 take 110 steps, .* train for 147 steps"
    with pytest.raises(ParameterError, match=message) as found:
        rounds.check(20, 146)
    assert int(re.search(r"train for (\d+) steps", str(found.value))[1]) == math.ceil(needed / 0.75)
    with pytest.raises(ParameterError, match=r"\(7.35 epochs\)"):
        rounds.check(20, 100)


def test_bert_at_relative_rates_does_not_fit_its_ten_epochs():
    """22 rounds to 90 %, a stage of 25.3 epochs; absolute points take 9 and 4.5."""
    relative = bill(Rounds(0.9, 0.1), epochs=10, examples=392702, batch_size=32, nets=4, steps=30)
    absolute = bill(Rounds(0.9, 0.1, relative=False), epochs=10, examples=392702, batch_size=32, nets=4, steps=30)
    assert (relative.rounds, absolute.rounds) == (22, 9)
    assert (relative.stage, absolute.stage) == pytest.approx((25.3, 4.5))
    with pytest.raises(ParameterError, match="22 rounds"):
        Rounds(0.9, 0.1).check(12272, 10 * 12272)
    Rounds(0.9, 0.1, relative=False).check(12272, 10 * 12272)


# GLUE at batches of 32: steps an epoch, and look-ahead epochs at Chen's sparsities with 4 nets of 30 steps.
GLUE = {"mnli": (392702, 12272), "qqp": (363846, 11371), "stsb": (5749, 180), "wnli": (635, 20), "qnli": (104743, 3274)}
GLUE |= {"mrpc": (3668, 115), "rte": (2490, 78), "sst2": (67349, 2105), "cola": (8551, 268)}


@pytest.mark.parametrize("task", GLUE)
def test_look_ahead_is_no_single_pass_on_small_sets(task):
    examples, steps = GLUE[task]
    assert math.ceil(examples / 32) == steps
    options = {"epochs": 10, "examples": examples, "batch_size": 32, "nets": 4, "steps": 30}
    costs = {target: bill(Rounds(target, 0.1, relative=False), **options) for target in (0.6, 0.7, 0.9)}
    assert costs[0.9].look_ahead == pytest.approx(9 * 120 / steps)
    many = bill(Rounds(0.9, 0.1), **options | {"epochs": 30}).look_ahead  # of the weights alive: 22 rounds to 90 %
    assert many == pytest.approx(22 * 120 / steps)
    if task == "wnli":
        assert (costs[0.9].look_ahead, many) == (pytest.approx(54), pytest.approx(132))
    if task == "rte":
        assert costs[0.6].look_ahead == pytest.approx(9.2, abs=0.05)
        assert costs[0.9].look_ahead == pytest.approx(14, abs=0.2)
    if task in ("mnli", "qqp"):
        assert 0.06 < costs[0.7].look_ahead < costs[0.9].look_ahead < 0.11 < many < 0.24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, "target=1"),
        ({"target": 0.5, "rate": 0.0}, "rate=0"),
        ({"target": 0.5, "stage": 1.5}, "stage=1.5"),
        ({"target": 0.5, "first": 0.0}, "first=0"),
        ({"target": 0.5, "growth": "slow"}, "growth 'slow' is unknown"),
    ],
)
def test_bad_rounds_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Rounds(**options)
