"""Rounds, ratios, their intervals and what makes them worthless, on a clock and a load that only the steps move."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain, cycle, repeat
from statistics import median

import numpy as np
import psutil
import pytest

from effi.bench import load, rounds
from effi.bench.rounds import Case, Competitor, Row, interval, timed
from tests.bench.conftest import Machine, absent

CORES = os.cpu_count() or 1


def pair(machine: Machine, seconds: list[float]) -> Row:
    """The row of a competitor whose rounds take these seconds beside a reference of 1 s."""
    warm = [seconds[0]] * 3  # the pass that touches memory, the first reading, and the pass before the rounds
    competitors = {"a": machine.takes(repeat(1.0)), "b": machine.takes([*warm, *seconds])}
    return timed(Case("case", "a", competitors, clock=machine.clock), budget_s=0.0)[1]


def test_ratios_are_to_the_reference_and_a_missing_competitor_says_why(machine: Machine) -> None:
    competitors = {"short": machine.takes(repeat(0.002)), "long": machine.takes(repeat(0.008)), "gone": absent}
    short, long, gone = timed(Case("naps", "short", competitors, clock=machine.clock), budget_s=0.1)
    assert (short.ratio, short.low, short.high) == (1.0, None, None)
    assert [long.ratio, long.low, long.high] == pytest.approx([4.0, 4.0, 4.0])
    assert long.beside == short.seconds == pytest.approx([0.002] * len(long.seconds))
    assert (long.reference, long.parameters, long.flops) == ("short", 1234, 5 * 10**9)
    assert (gone.seconds, gone.ratio, gone.note) == ([], None, "not installed: uv pip install absent")


def failing() -> Competitor:
    """What should take part, and cannot."""
    raise ValueError("no such tile. Pages of advice\nfollow")


def test_one_that_fails_is_named_and_the_others_are_timed(machine: Machine) -> None:
    takes = {"a": machine.takes(repeat(1.0)), "b": failing, "c": machine.takes(repeat(2.0))}
    a, b, c = timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0)
    assert (a.note, b.note, c.note, c.ratio) == (None, "failed: ValueError: no such tile", None, 2.0)


def test_without_a_reference_nothing_is_timed(machine: Machine) -> None:
    takes = {"a": failing, "b": machine.takes(repeat(1.0))}
    a, b = timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0)
    assert (a.note, b.note) == ("failed: ValueError: no such tile", "not timed: there is no a beside it")


def test_nothing_is_kept_of_repeated_steps() -> None:
    count = iter(range(100))
    assert rounds.repeated(lambda: next(count), 4)() is None and next(count) == 4


def test_a_quick_competitor_has_rounds_of_its_own(machine: Machine) -> None:
    takes = {"reference": 1.0, "quick": 0.5, "slow": 100.0}
    competitors = {name: machine.takes(repeat(seconds)) for name, seconds in takes.items()}
    reference, quick, slow = timed(Case("case", "reference", competitors, clock=machine.clock), budget_s=60.0)
    assert len(slow.seconds) == rounds.FEWEST
    assert len(quick.seconds) == 60 / (1.0 + 2 * 0.5)
    assert len(reference.seconds) == len(quick.seconds) + len(slow.seconds)


@pytest.mark.parametrize(("seconds", "calls"), [(0.5, 2), (0.11, 9), (0.001, rounds.CALLS), (1.4, 1)])
def test_the_quicker_of_a_pair_is_called_as_long_as_the_other(machine: Machine, seconds: float, calls: int) -> None:
    left = repeat(seconds, 1000)
    takes = {"a": machine.takes(repeat(1.0)), "b": machine.takes(left)}
    _, row = timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0)
    assert 1000 - len(list(left)) == 2 + calls * (1 + rounds.FEWEST)
    assert row.seconds == pytest.approx([seconds] * rounds.FEWEST)


def test_a_long_call_is_not_repeated(machine: Machine) -> None:
    left = repeat(0.6 * rounds.LONG_S, 100)
    takes = {"a": machine.takes(left), "b": machine.takes(repeat(5 * rounds.LONG_S))}
    timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0)
    assert 100 - len(list(left)) == 2 + 1 + rounds.FEWEST


def test_rounds_end_at_the_most(machine: Machine) -> None:
    takes = {name: machine.takes(repeat(0.001)) for name in "ab"}
    assert [len(row.seconds) for row in timed(Case("case", "a", takes, clock=machine.clock), 1e9)] == [rounds.MOST] * 2


def test_a_reference_alone_is_timed(machine: Machine) -> None:
    case = Case("case", "a", {"a": machine.takes(repeat(1.0)), "gone": absent}, clock=machine.clock)
    alone, gone = timed(case, budget_s=0.0)
    assert (alone.ratio, alone.seconds, gone.note) == (
        1.0,
        [1.0] * rounds.FEWEST,
        "not installed: uv pip install absent",
    )


def test_memory_is_touched_by_all_before_a_reading_counts(machine: Machine) -> None:
    """First touches cost a hundredfold here; they neither stand in a row nor cut rounds short."""
    takes = {name: machine.takes(chain([100.0], repeat(1.0))) for name in "abc"}
    found = timed(Case("case", "a", takes, clock=machine.clock), budget_s=40.0)
    assert [set(row.seconds) for row in found] == [{1.0}] * 3
    assert [len(row.seconds) for row in found] == [40, 20, 20]


def test_all_are_touched_before_the_first_is_read(machine: Machine) -> None:
    called: list[str] = []

    def logged(name: str) -> rounds.Competitor:
        return rounds.Competitor(lambda: called.append(name))

    names = {name: lambda name=name: logged(name) for name in "abc"}
    timed(Case("case", "a", names, clock=machine.a_second), budget_s=0.0)
    assert "".join(called).startswith("abc" + "abc" + "ab")


def test_several_calls_in_one_clocked_call_count_as_one_each(machine: Machine) -> None:
    case = Case("clock", "a", {"a": machine.takes(repeat(0.5))}, calls=10, clock=machine.clock)
    assert set(timed(case, budget_s=0.0)[0].seconds) == {0.05}


def test_a_ratio_is_the_median_within_rounds_between_order_statistics(machine: Machine) -> None:
    seconds = [2.0, 2.1, 1.9, 2.05, 1.95, 2.2, 1.8, 2.01, 1.99]
    row = pair(machine, seconds)
    assert (row.ratio, row.low, row.high) == pytest.approx((median(seconds), sorted(seconds)[1], sorted(seconds)[-2]))


def test_what_slows_a_whole_round_leaves_the_ratio_alone(machine: Machine) -> None:
    """The machine's speed drifts by a third: seconds scatter, ratios within rounds do not."""
    drift = [1.0, 1.0, *np.linspace(1.0, 1.33, 1 + rounds.FEWEST).tolist()]
    takes = {"a": machine.takes(drift), "b": machine.takes([1.2 * each for each in drift])}
    _, row = timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0)
    assert max(row.seconds) / min(row.seconds) > 1.25
    assert (row.ratio, row.low, row.high) == pytest.approx((1.2, 1.2, 1.2))


@pytest.mark.parametrize("rounds_made", [rounds.FEWEST, 20, rounds.MOST])
def test_the_interval_covers_the_median_of_skewed_ratios(rounds_made: int) -> None:
    draw = np.random.default_rng(rounds_made)
    intervals = [interval(draw.lognormal(np.log(1.3), 0.2, rounds_made).tolist()) for _ in range(1000)]
    covered = np.mean([low <= 1.3 <= high for low, high in intervals])
    assert 0.935 < covered < 0.99


def test_fewer_than_six_rounds_have_no_interval() -> None:
    assert np.isnan(interval([1.0, 1.1, 1.2, 1.3, 1.4])).all()
    assert interval([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]) == (1.0, 1.5)


def test_load_of_others_makes_all_rows_worthless(machine: Machine) -> None:
    machine.busy = 0.5 * CORES
    takes = {name: machine.takes(repeat(1.0)) for name in "ab"}
    for row in timed(Case("case", "a", takes, clock=machine.clock), budget_s=0.0):
        assert row.note == f"noisy: repeat: others kept {machine.busy:.2f} of {CORES} cores busy"
        assert (row.ratio, row.low, row.high) == (None, None, None)
        assert row.others == pytest.approx(machine.busy)
        assert row.seconds == [1.0] * rounds.FEWEST


def test_a_little_load_of_others_is_told_and_passes(machine: Machine) -> None:
    machine.busy = 0.9 * rounds.OTHERS * CORES
    row = pair(machine, [1.0] * rounds.FEWEST)
    assert row.ratio == 1.0
    assert row.others == pytest.approx(machine.busy)


def test_a_median_far_above_the_fastest_makes_a_row_worthless(machine: Machine) -> None:
    """A neighbour slows eight rounds in nine alike: the interval is narrow, and wrong."""
    row = pair(machine, [1.0, *[1.6] * 8])
    assert (row.ratio, row.note) == (None, "noisy: repeat: the median is 1.60 times the fastest")


def test_a_wide_interval_makes_a_row_worthless(machine: Machine) -> None:
    row = pair(machine, [0.85, 0.85, 0.9, 1.0, 1.0, 1.0, 1.1, 1.2, 1.2])
    assert (row.ratio, row.note) == (None, "noisy: repeat: the interval is wide: 0.85 to 1.2")


def test_noise_beside_one_competitor_leaves_the_others_their_numbers(machine: Machine) -> None:
    takes = {"a": repeat(1.0), "b": cycle([1.0, 3.0]), "c": repeat(1.0)}
    case = Case("case", "a", {name: machine.takes(each) for name, each in takes.items()}, clock=machine.clock)
    a, b, c = timed(case, budget_s=100.0)
    assert (a.ratio, b.ratio, c.ratio) == (1.0, None, 1.0)


def test_others_are_what_the_system_spent_less_what_this_process_did(monkeypatch: pytest.MonkeyPatch) -> None:
    class Times:
        user, nice, system, idle, iowait, steal = 10.0, 1.0, 4.0, 1000.0, 500.0, 2.0

    own = os.times_result((3.0, 1.0, 0.5, 0.5, 0.0))
    # Earlier tests may have left children of this process that still work.
    monkeypatch.setattr(load, "_living", lambda: 0.0)
    monkeypatch.setattr(load.psutil, "cpu_times", Times)
    monkeypatch.setattr(load.os, "times", lambda: own)
    monkeypatch.setattr(load.time, "perf_counter", lambda: 104.0)
    assert load.spent() == (12.0, 104.0)
    assert load.others((2.0, 100.0)) == 2.5
    assert load.others((13.0, 100.0)) == 0.0


def test_others_keep_no_more_cores_than_there_are() -> None:
    start = load.spent()
    load.time.sleep(0.3)
    assert 0.0 <= load.others(start) <= 1.1 * CORES


def test_the_load_average_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.os, "getloadavg", lambda: (1.5, 9.0, 9.0))
    assert load.average() == 1.5
    monkeypatch.delattr(load.os, "getloadavg")
    assert load.average() is None


def test_a_living_child_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has worked so far is taken off what everyone has."""
    code = "import time\nwhile time.process_time() < 1.0: pass\nprint(flush=True)\ninput()"
    everyone = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: everyone)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        before = load.spent()[0]
        assert child.stdout is not None
        child.stdout.readline()
        after = load.spent()[0]
        child.communicate(b"\n")
    assert 0.8 < before - after < 1.5
