"""Which records are stale, what adoption compares, and what it makes of lines that say that sources are the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from effi.records import Arm, Record, Run, adoption, records, store
from effi.records.source import Source

A, B, C, D = (Source(name, None, ("effi.seeds",)) for name in "abcd")


def adopt(folder: Path, old: Source, new: Source, device: str = "cpu") -> None:
    line = {"sources": [{"old": old.plain(), "new": new.plain()}], "device": device}
    store.append(adoption.file(folder), [line])


def lesson(arm: Arm) -> None:
    arm.record({"value": arm.seed})


def make(folder: Path) -> Run:
    run = Run("minimal", "smoke", results_dir=folder, uses=["effi.seeds"], quiet=True)
    run.each(lesson, {"a": {"lr": 1, "old": 2}}, [0, 1], jobs=1)
    return run


def outdated(run: Run) -> list[Record]:
    return adoption.outdated(adoption.trained(run.path), run.path.parents[2])


def trained(run: Run) -> int:
    return json.loads(run.path.with_name("progress.json").read_text())["trained"]


def test_sources_are_the_same_through_others_and_both_ways(tmp_path: Path) -> None:
    adopt(tmp_path, A, B)
    adopt(tmp_path, B, C)
    adopt(tmp_path, C, D, device="cuda")
    assert set(adoption.same_as(A, tmp_path, "cpu")) == {A, B, C} and adoption.same_as(A, tmp_path, "cpu")[0] == A
    assert set(adoption.same_as(C, tmp_path, "cpu")) == {A, B, C}
    assert set(adoption.same_as(C, tmp_path, "cuda")) == {C, D}


def edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effi.records.source.source_hash", lambda *_: "edited")
    monkeypatch.setattr("effi.records.adoption.source_hash", lambda *_: "edited")


def test_records_of_an_adopted_source_count_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    (old, _), held = run.records(), run.path.read_bytes()
    assert outdated(run) == []
    edited(monkeypatch)
    assert len(outdated(run)) == 2
    before = Source.read(old["source"])
    adopt(tmp_path, before, Source("edited", before.function, before.uses))
    assert outdated(run) == []
    again = make(tmp_path)
    assert trained(again) == 0 and run.path.read_bytes() == held
    assert again.records() == run.records() == store.current(run.path)


def test_records_are_read_once_however_many_arms_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = dict.fromkeys("abc")
    first = Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"], quiet=True)
    first.each(lesson, arms, [0, 1], jobs=1)
    edited(monkeypatch)
    before = Source.read(first.records()[0]["source"])
    adopt(tmp_path, before, Source("edited", before.function, before.uses))
    reads: list[Path] = []
    finished = store.finished
    monkeypatch.setattr(store, "finished", lambda path: reads.append(path) or finished(path))
    again = Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"], quiet=True)
    again.each(lesson, arms, [0, 1], jobs=1)
    assert again.records() == first.records() and reads == [again.path]


def test_without_adoption_they_are_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    edited(monkeypatch)
    assert trained(make(tmp_path)) == 2 and len(records(run.path)) == 4


@pytest.mark.parametrize(("settings", "anew"), [({"lr": 1, "old": 2}, 0), ({"lr": 2, "old": 2}, 2), ({"lr": 1}, 2)])
def test_adoption_is_of_sources_not_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], anew: int
) -> None:
    (old, _) = make(tmp_path).records()
    edited(monkeypatch)
    before = Source.read(old["source"])
    adopt(tmp_path, before, Source("edited", before.function, before.uses))
    run = Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"], quiet=True)
    run.each(lesson, {"a": settings}, [0, 1], jobs=1)
    assert trained(run) == anew


@dataclass(frozen=True)
class Options:
    lr: float = 0.1


@dataclass(frozen=True)
class Grown(Options):
    momentum: float = 0.9


@dataclass(frozen=True)
class Faster(Options):
    lr: float = 0.2


Grown.__name__ = Faster.__name__ = "Options"  # as the class would be called after an edit


@pytest.mark.parametrize(("options", "anew"), [(Options, 0), (Grown, 0), (Faster, 1)])
def test_a_new_option_may_be_adopted_and_a_changed_default_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: type[Options], anew: int
) -> None:
    def run(settings: Options) -> Run:
        run = Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"], quiet=True)
        run.each(lesson, {"a": settings}, [0], jobs=1)
        return run

    (old,) = run(Options()).records()
    edited(monkeypatch)
    before = Source.read(old["source"])
    adopt(tmp_path, before, Source("edited", before.function, before.uses))
    assert trained(run(options())) == anew


def test_what_was_trained_since_comes_before_what_was_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old, _) = make(tmp_path).records()
    edited(monkeypatch)
    anew = make(tmp_path).records()
    before = Source.read(old["source"])
    adopt(tmp_path, before, Source("edited", before.function, before.uses))
    assert make(tmp_path).records() == anew


def record(metrics: dict[str, float], **history: list[float]) -> Record:
    facts: dict[str, Any] = {"arm": "a", "seed": 1, "status": "done", "parents": None}
    return {**facts, "metrics": metrics, "history": history}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (record({"loss": 0.5}, a=[1.0, 2.0]), record({"loss": 0.5}, a=[1.0, 2.0]), []),
        (
            record({"loss": 0.5}),
            record({"loss": 0.5000000000000001}),
            ["metrics loss was 0.5, now is 0.5000000000000001"],
        ),
        (record({}, a=[1.0, 2.0]), record({}, a=[1.0, 3.0]), ["history a[1] was 2.0, now is 3.0"]),
        (record({}, a=[1.0]), record({}, a=[1.0, 3.0]), ["history a[1] was None, now is 3.0"]),
        (record({"loss": 0.5}), record({}), ["metrics loss was 0.5, now is None"]),
        (record({"tracking_share": 1.0, "time_ratio/minimum": 1.0}, seconds=[1.0]), record({}), []),
        (record({"train_seconds": 1.0, "slope": 1.0, "joules": 2.0}), record({"slope": 2.0}), []),
        (record({"share": 1.0, "sharpslope": 1.0}), record({}), ["metrics share was", "metrics sharpslope was"]),
    ],
)
def test_bits_that_differ_are_told_and_what_a_clock_measured_is_not(old: Record, new: Record, told: list[str]) -> None:
    found = list(adoption.differences(old, new))
    assert len(found) == len(told)
    assert all(text.startswith("a seed 1: ") and said in text for text, said in zip(found, told, strict=True))


def test_an_arm_that_fails_on_one_side_only_differs() -> None:
    done, failed = record({"loss": 0.5}), record({}) | {"status": "failed", "error": "nan"}
    assert list(adoption.differences(done, failed)) == ["a seed 1: was done, now is failed (nan)"]
    assert list(adoption.differences(failed, done)) == ["a seed 1: was failed (nan), now is done"]
    assert list(adoption.differences(failed, failed)) == []
