"""The three phases of a sparsity: values, means in closed form, stairs, and what overlaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from effi.errors import ParameterError
from effi.mixed_sparsity.schedule import Phases

MIRROR = Phases(0.8, 0.25, 0.5)
FAST = replace(MIRROR, shape="fast")
SPDF = Phases(0.75, 0, 0.2, stairs=1)  # static sparse, then dense at once


def at(phases: Phases, count: int) -> list[float]:
    """The sparsity at the middles of so many equal shares."""
    return [phases.sparsity((index + 0.5) / count) for index in range(count)]


# --- values --------------------------------------------------------------------------------------------------


def test_both_ramps_are_cubic():
    for x in np.linspace(0, 0.999, 37):
        assert MIRROR.sparsity(0.25 * x) == pytest.approx(0.8 * (1 - (1 - x) ** 3))
        assert MIRROR.sparsity(0.5 + 0.5 * x) == pytest.approx(0.8 * (1 - x**3))
        assert FAST.sparsity(0.5 + 0.5 * x) == pytest.approx(0.8 * (1 - x) ** 3)
        assert MIRROR.sparsity(0.25 + 0.25 * x) == FAST.sparsity(0.25 + 0.25 * x) == 0.8


def test_values_to_the_digit():
    assert MIRROR.sparsity(0.125) == pytest.approx(0.7)
    assert MIRROR.sparsity(0.75) == pytest.approx(0.7)
    assert FAST.sparsity(0.75) == pytest.approx(0.1)
    assert replace(MIRROR, end=0.5).sparsity(0.75) == pytest.approx(0.8 - 0.3 / 8)
    assert replace(MIRROR, start=0.4).sparsity(0.125) == pytest.approx(0.8 - 0.4 / 8)


@pytest.mark.parametrize("end", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", ["mirror", "fast"])
@pytest.mark.parametrize("stairs", [None, 1, 3, 10])
def test_a_training_ends_exactly_at_its_last_sparsity(end, shape, stairs):
    assert Phases(0.8, 0.1, 0.3, shape, end=end, stairs=stairs).sparsity(1) == end


def test_a_smooth_training_starts_dense():
    assert Phases(0.8).sparsity(0) == 0
    assert Phases(0.8, start=0.3).sparsity(0) == pytest.approx(0.3)


def test_mirrored_in_time():
    even = Phases(0.9, 0.3, 0.3)
    for share in np.linspace(0, 1, 101):
        assert even.sparsity(share) == pytest.approx(even.sparsity(1 - share))


@pytest.mark.parametrize("phases", [MIRROR, FAST, replace(MIRROR, start=0.2, end=0.5, stairs=4)])
def test_the_warm_up_only_prunes_and_the_restoration_only_revives(phases):
    sparsities = np.array([phases.sparsity(step / 1000) for step in range(1001)])
    assert (np.diff(sparsities[:251]) >= 0).all() and (np.diff(sparsities[500:]) <= 0).all()
    assert (sparsities[250:500] == 0.8).all()


# --- stairs --------------------------------------------------------------------------------------------------


def test_stairs_hold_the_value_of_their_end():
    stepped = replace(MIRROR, stairs=5)
    for stair in range(5):
        for within in (0, 0.3, 0.99):
            done = (stair + within) / 5
            assert stepped.sparsity(0.25 * done) == pytest.approx(0.8 * (1 - (1 - (stair + 1) / 5) ** 3))
            assert stepped.sparsity(0.5 + 0.5 * done) == pytest.approx(0.8 * (1 - ((stair + 1) / 5) ** 3))
    assert len({stepped.sparsity(step / 1000) for step in range(250)}) == 5
    assert len({stepped.sparsity(step / 1000) for step in range(500, 1000)}) == 5


@pytest.mark.parametrize(("warmup", "stairs", "steps"), [(0.1, 10, 600), (0.3, 7, 700), (0.07, 3, 30_000)])
def test_a_stair_begins_at_its_first_step(warmup, stairs, steps):
    """Rounding of a share moves no stair and no phase by a step."""
    stepped = Phases(0.8, warmup, 0.3, stairs=stairs)
    sparsities = [stepped.sparsity(step / steps) for step in range(steps + 1)]
    changes = [step for step in range(1, steps + 1) if sparsities[step] != sparsities[step - 1]]
    length, back = round(warmup * steps), round(0.7 * steps)
    rising = [-(-length * stair // stairs) for stair in range(1, stairs)]
    falling = [back - (-round(0.3 * steps) * stair // stairs) for stair in range(stairs)]
    assert changes == rising + falling
    assert [stepped.phase(step / steps) for step in (0, length - 1, length)] == ["warm-up", "warm-up", "ultra"]
    assert [stepped.phase(step / steps) for step in (back - 1, back, steps)] == ["ultra", "restoration", "restoration"]


def test_a_restoration_begins_at_its_first_step():
    assert (10 - 7) / 10 < 1 - 0.7  # as floats
    assert Phases(0.8, 0.1, 0.7).phase((10 - 7) / 10) == "restoration"


def test_many_stairs_are_smooth():
    smooth, fine = np.array(at(FAST, 400)), np.array(at(replace(FAST, stairs=10_000), 400))
    assert fine == pytest.approx(smooth, abs=5e-4)


# --- settled -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["mirror", "fast"])
@pytest.mark.parametrize("end", [0.0, 0.5])
@pytest.mark.parametrize("stairs", [None, 4])
def test_a_restoration_may_settle_before_the_end(shape, end, stairs):
    """The ramp is the same, in less time; three fifths of the last half are 0.3."""
    whole = Phases(0.8, 0.25, 0.5, shape, end=end, stairs=stairs)
    settling = replace(whole, settle=0.4)
    for done in np.linspace(0.001, 0.999, 38):
        assert settling.sparsity(0.5 + 0.3 * done) == pytest.approx(whole.sparsity(0.5 + 0.5 * done), abs=1e-9)
        assert settling.sparsity(0.5 * done) == whole.sparsity(0.5 * done)
        assert settling.sparsity(0.8 + 1e-9 + (0.2 - 1e-9) * done) == end
    assert settling.means()["restoration"] == pytest.approx(0.6 * whole.means()["restoration"] + 0.4 * end)
    assert np.mean(at(settling, 10_000)) == pytest.approx(settling.mean(), abs=1e-4)


@pytest.mark.parametrize("phases", [MIRROR, replace(FAST, settle=0.5), replace(MIRROR, stairs=5, settle=0.2), SPDF])
def test_the_last_sparsity_holds_from_where_it_is_settled(phases):
    settled = phases.settled()
    assert phases.sparsity(settled) < 1e-9 < phases.sparsity(settled - 0.01)
    assert Phases(0.8, 0.4, 0).settled() == 0.4 and Phases(0.8, 0.4, 0, stairs=2).settled() == 0.2
    assert Phases(0.8, 0, 0).settled() == 0


def test_a_settle_outside_its_range_is_named():
    for settle in (-0.1, 1.0, float("nan")):
        with pytest.raises(ParameterError, match=f"settle={settle:g} of a restoration"):
            Phases(0.8, settle=settle)


# --- means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ultra", [0.5, 0.8, 0.95])
def test_means_of_the_ramps(ultra):
    assert Phases(ultra, 0.1, 0.2).means() == pytest.approx(
        {"warm-up": 0.75 * ultra, "ultra": ultra, "restoration": 0.75 * ultra}
    )
    assert Phases(ultra, 0.1, 0.2, "fast").means()["restoration"] == pytest.approx(0.25 * ultra)


@pytest.mark.parametrize(
    ("ultra", "warmup", "restoration", "shape", "mean"),
    [
        (0.80, 0.10, 0.10, "mirror", 0.760),
        (0.80, 0.05, 0.20, "mirror", 0.750),
        (0.85, 0.20, 0.10, "fast", 0.744),
        (0.90, 0.05, 0.20, "fast", 0.754),
        (0.95, 0.20, 0.20, "fast", 0.760),
        (0.90, 0.10, 0.10, "mirror", 0.855),
    ],
)
def test_means_of_the_schedules_near_a_quarter(ultra, warmup, restoration, shape, mean):
    found = Phases(ultra, warmup, restoration, shape).mean()
    assert found == pytest.approx(mean, abs=5.1e-4)
    factor = 0.75 if shape == "mirror" else 0.25
    assert found == pytest.approx(ultra * ((1 - warmup - restoration) + 0.75 * warmup + factor * restoration))


@pytest.mark.parametrize("stairs", [None, 1, 2, 5, 16])
@pytest.mark.parametrize("shape", ["mirror", "fast"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (0.3, 0.5), (0.8, 0.8)])
def test_the_mean_in_closed_form_is_that_of_all_steps(stairs, shape, start, end):
    phases = Phases(0.8, 0.25, 0.5, shape, start, end, stairs)
    steps = np.array(at(phases, 32_000))
    names = np.array([phases.phase((index + 0.5) / 32_000) for index in range(32_000)])
    assert phases.mean() == pytest.approx(steps.mean(), abs=1e-7)
    for name, mean in phases.means().items():
        assert mean == pytest.approx(steps[names == name].mean(), abs=1e-7)


# --- phases --------------------------------------------------------------------------------------------------


def test_phases_and_their_starts():
    assert [MIRROR.phase(share) for share in (0, 0.2499)] == ["warm-up"] * 2
    assert [MIRROR.phase(share) for share in (0.25, 0.4999)] == ["ultra"] * 2
    assert [MIRROR.phase(share) for share in (0.5, 1)] == ["restoration"] * 2
    assert MIRROR.starts() == (0, 0.25, 0.5)
    assert MIRROR.lengths() == {"warm-up": 0.25, "ultra": 0.25, "restoration": 0.5}


@pytest.mark.parametrize(
    ("warmup", "restoration", "starts", "names"),
    [
        (0, 0, [0], ["ultra"]),
        (0, 0.2, [0, 0.8], ["ultra", "restoration"]),
        (0.3, 0, [0, 0.3], ["warm-up", "ultra"]),
        (0.2, 0.8, [0, 0.2], ["warm-up", "restoration"]),
        (0.9, 0.1, [0, 0.9], ["warm-up", "restoration"]),
        (1, 0, [0], ["warm-up"]),
        (0, 1, [0], ["restoration"]),
    ],
)
def test_a_phase_without_a_length_does_not_start(warmup, restoration, starts, names):
    phases = Phases(0.8, warmup, restoration)
    assert phases.starts() == pytest.approx(starts)
    assert [phases.phase(start) for start in phases.starts()] == names
    assert sum(phases.lengths().values()) == pytest.approx(1)
    assert phases.mean() == pytest.approx(np.mean(at(phases, 4000)), abs=1e-6)


def test_constant():
    for phases in (Phases(0.865, 0, 0), Phases(0.865, 0.1, 0.1, start=0.865, end=0.865)):
        assert {phases.sparsity(share) for share in np.linspace(0, 1, 101)} == {0.865}
        assert phases.mean() == pytest.approx(0.865)
    assert Phases(0, 0, 0).mean() == 0  # dense


def test_static_and_then_dense_at_once():
    assert {SPDF.sparsity(share) for share in np.linspace(0, 0.799, 50)} == {0.75}
    assert {SPDF.sparsity(share) for share in np.linspace(0.8, 1, 50)} == {0}
    assert SPDF.mean() == pytest.approx(0.6)
    assert replace(SPDF, shape="fast").mean() == pytest.approx(0.6)


def test_gradual_pruning_without_a_restoration():
    gradual = Phases(0.9, 0.5, 0)
    assert gradual.sparsity(1) == 0.9 and gradual.mean() == pytest.approx(0.9 * 0.875)


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("warmup", "restoration"),
    [(0.6, 0.5), (0.5, 0.500001), (-0.1, 0.5), (0.5, -0.1), (1.1, 0), (0, 2), (float("nan"), 0), (0, float("nan"))],
)
def test_phases_that_overlap_are_named(warmup, restoration):
    with pytest.raises(ParameterError, match=rf"warmup={warmup:g} and restoration={restoration:g} .* sum to 1 at most"):
        Phases(0.8, warmup, restoration)


@pytest.mark.parametrize("ultra", [-0.1, 1, 1.2, float("nan")])
def test_an_ultra_sparsity_outside_its_range_is_named(ultra):
    with pytest.raises(ParameterError, match=f"ultra={ultra:g} is no sparsity"):
        Phases(ultra)


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("value", [-0.1, 0.81, 1, float("nan")])
def test_a_ramp_in_the_wrong_direction_is_named(name, value):
    with pytest.raises(ParameterError, match=rf"{name}={value:g} is no sparsity up to the ultra phase's 0\.8"):
        Phases(0.8, **{name: value})


def test_other_options_are_named():
    with pytest.raises(ParameterError, match="shape 'slow' is unknown; give one of mirror, fast"):
        Phases(0.8, shape="slow")
    for stairs in (0, -3, 2.5):
        with pytest.raises(ParameterError, match=f"stairs={stairs} of a ramp"):
            Phases(0.8, stairs=stairs)
    for share in (-0.01, 1.01, float("nan")):
        for ask in (MIRROR.sparsity, MIRROR.phase):
            with pytest.raises(ParameterError, match=rf"a share of {share:g} of the training is outside \[0, 1\]"):
                ask(share)
