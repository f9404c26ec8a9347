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


def test_one_seed_of_each_comes_first_and_more_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = split({MINIMAL: 100.0, TICKET: 50.0}, (2 * OVERHEAD_S + 150) / PLANNED)
    assert (dict(found.seconds), found.left_out) == ({MINIMAL: 100.0, TICKET: 50.0}, ())
    assert found.total == 2 * OVERHEAD_S + 150 and "One of each comes first: about 4 min" in found.told(300)
    assert "Then 3 and 5 seeds, the quickest first" in found.told(300) and budget.stages() == (1, 3, 5)
    needed = (OVERHEAD_S + 2 * 50) / PLANNED
    assert budget.fits(2, 50.0, needed + 0.1) and not budget.fits(2, 50.0, needed - 0.1)
    monkeypatch.setattr(budget, "MOST_SEEDS", 1)
    assert budget.stages() == (1,)


def test_the_dearest_is_left_out_where_not_one_seed_of_each_fits() -> None:
    found = split({MINIMAL: 100.0, TICKET: 50.0, GROWTH: 900.0}, (2 * OVERHEAD_S + 160) / PLANNED)
    assert found.left_out == (GROWTH,) and list(found.seconds) == [MINIMAL, TICKET]
    assert "Left out, as one seed does not fit: growth." in found.told(250)
    assert not split({GROWTH: 900.0}, 60).seconds


def test_a_time_too_short_is_refused_with_what_would_do() -> None:
    said = budget.refusal({GROWTH: 900.0, MINIMAL: 75.0}, -10.0)
    assert said.startswith(
        "--budget leaves 0 s to train in, and one seed of smaller or without MLP, the quickest method"
    )
    assert "wants 2 min 30 s: give more." in said and split({MINIMAL: 75.0}, 151).seconds
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
