"""The end of a sentence about an unknown name, and durations as a person says them."""

from __future__ import annotations

import pytest

from effi.errors import did_you_mean, duration


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("secnod", ["first", "second"], "; did you mean 'second'? Known: first, second."),
        ("zzz", {"first": 1, "second": 2}, "; known: first, second."),
        (7, (1, 2), "; known: 1, 2."),
        ("x", [], "; known: none."),
    ],
)
def test_a_guess_where_one_is_close_and_all_there_are(name: object, known: object, said: str) -> None:
    assert did_you_mean(name, known) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (187, "3 min 07 s"),
        (3599.6, "1 h 00 min"),
        (3780, "1 h 03 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
