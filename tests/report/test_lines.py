"""The printed lines at the top of a notebook."""

from __future__ import annotations

from effi import report


def test_a_check_says_ok_or_by_how_much_it_differs():
    assert report.check("P", 101_470, 101_470) == "P | ours 101,470 | expected 101,470 | ok"
    assert report.check("P", 190_750, 198_100) == "P | ours 190,750 | expected 198,100 | differs by 7,350"
    assert report.check("d", 1.4e-15, 0.0, tolerance=1e-10) == "d | ours 1.4e-15 | expected 0 | ok within 1e-10"
    assert report.check("d", 2e-10, 0.0, tolerance=1e-10).endswith("differs by 2e-10")


def test_not_a_number_is_never_ok():
    assert "ok" not in report.check("d", float("nan"), 0.0, tolerance=1.0)
