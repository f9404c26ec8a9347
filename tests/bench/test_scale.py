"""What grows with a run, timed: records by their number, arms on a cluster, and what processes time themselves."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from effi.bench import processes, rounds, scale, tokenising
from effi.bench.rounds import Case, Taken
from effi.claims import Results
from effi.records import store


def test_what_processes_time_themselves_is_compared_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds.load, "others", lambda start: 0.0)  # the machine of a test may be busy
    taken = {"one": Taken([1.0, 2.0] * 5, 10), "two": Taken([2.0, 4.0] * 5)}
    one, two = rounds.timed(Case("two processes", "one", elsewhere=lambda: taken), budget_s=0)
    assert (one.competitor, one.ratio, one.extra_bytes, one.seconds) == ("one", 1.0, 10, [1.0, 2.0] * 5)
    assert (two.ratio, two.low, two.high, two.extra_bytes) == (2.0, 2.0, 2.0, None) and two.beside == one.seconds


def test_records_are_timed_by_their_number(tmp_path: Path) -> None:
    cases = scale._of_records(tmp_path, (20, 60))
    assert [case.reference for case in cases] == ["20 records"] * 4
    for case in cases:
        for make in case.competitors.values():
            make().step()
    made = {size: store.records(tmp_path / str(size) / "records.jsonl") for size in (20, 60)}
    assert len(Results(made[60]).arms) > len(Results(made[20]).arms) >= 20 / scale.SEEDS
    # Made anew, an entered arm stands in the file: twice as it is measured, and once as it is called here.
    assert len(made[20]) == 20 + 2 and len({row["identity"] for row in made[20]}) == 22
    line = len(json.dumps(scale.row(3)))
    assert 7_500 < line < 9_000


def test_arms_that_do_nothing_are_recorded_wherever_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "FEWEST", 1)
    # Workers of all kinds have tests of their own, and take half a minute to start.
    monkeypatch.setattr(scale, "JOBS", 1)
    monkeypatch.setattr(scale, "_two_workers", lambda folder: nullcontext(scale.cluster.LOCAL))
    monkeypatch.setattr(tokenising, "measure", lambda text, out: measured)
    monkeypatch.setattr(tokenising, "generate", lambda text, megabytes: None)
    monkeypatch.setattr(processes, "shared_step", lambda: {name: [1.0] * 9 for name in (processes.APART, "together")})
    measured = tokenising.Tokenised(10, 2.0, 1.0, 5, 2, peak_mb=300, peak_rss_mb=400)
    arms, shared, text, *_, most = scale.scale((10, 20), arms=3)
    took = arms.elsewhere()
    assert next(iter(took)) == scale.ONE and len(took) == 3 and all(len(each.seconds) == 1 for each in took.values())
    assert list(most.elsewhere()) == list(scale.STEPS)
    (name, taken), *_ = text.elsewhere().items()
    assert name == "10 MB" and taken == Taken([2.0], 300_000_000)
    assert shared.elsewhere()["together"] == Taken([1.0] * 9)
