"""Times in words, and how seeds and methods are fitted into them."""

from __future__ import annotations

import pytest

from effi.advice import budget
from effi.advice.budget import OVERHEAD_S, PLANNED, seconds_of, split
from effi.advice.methods import METHODS, data_of
from effi.errors import ParameterError

MINIMAL, TICKET, GROWTH, _ = METHODS["folder"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2m ", 120)])
def test_times_in_words(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "-5m", "m", "half an hour"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"give it like 90s, 30m or 1\.5h"):
        seconds_of(text)


def test_all_methods_get_as_many_seeds_as_fit() -> None:
    found = split({MINIMAL: 100.0, TICKET: 50.0}, (4 * OVERHEAD_S + 3 * 150) / PLANNED)
    assert (found.seeds, found.left_out) == (3, ()) and found.total == 4 * OVERHEAD_S + 450
    assert split({MINIMAL: 1.0}, 3600).seeds == budget.MOST_SEEDS


def test_the_dearest_is_left_out_where_not_one_seed_of_each_fits() -> None:
    found = split({MINIMAL: 100.0, TICKET: 50.0, GROWTH: 900.0}, (2 * OVERHEAD_S + 160) / PLANNED)
    assert found.left_out == (GROWTH,) and found.seeds == 1 and GROWTH not in found.seconds
    assert "Left out, as one seed does not fit: growth." in found.told(250)
    assert split({GROWTH: 900.0}, 60).seeds == 0


def test_a_time_too_short_is_refused_with_what_would_do() -> None:
    said = budget.refusal({GROWTH: 900.0, MINIMAL: 75.0}, -10.0)
    assert said.startswith(
        "--budget leaves 0 s to train in, and one seed of smaller or without MLP, the quickest method"
    )
    assert "wants 2 min 30 s: give more." in said and split({MINIMAL: 75.0}, 151).seeds == 1
    assert "why is said above" in budget.refusal({}, 100.0)


def test_cores_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, share in ((1, 1), (2, 1.5), (None, 1)):
        monkeypatch.setattr(budget.os, "cpu_count", lambda count=cores: count)
        assert budget.side_by_side(1) == 3600 / share


def test_own_data_is_told_by_kind_and_path() -> None:
    assert data_of("csv:a:b.csv") == ("csv", "a:b.csv")
    for wrong, mend in (
        ("/data/images", "put folder:, csv: or text:"),
        ("cvs:x", "did you mean 'csv'"),
        ("csv:", "names no data of yours"),
    ):
        with pytest.raises(ParameterError, match=mend):
            data_of(wrong)
