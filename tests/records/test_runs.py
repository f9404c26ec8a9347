"""Arms in one process: what is recorded when they end, well or not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from effi.errors import ParameterError, RecordError, TrainingError
from effi.records import Arm, Run, records, store


def make(tmp_path: Path, **options: object) -> Run:
    return Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.claims.stats"], **options)


def lesson(arm: Arm) -> None:
    with arm.ledger.phase("train"):
        arm.ledger.add_flops(10 * len(arm.seeds))
    arm.record([{"value": seed} for seed in arm.seeds], [{"loss": [2.0, 1.0]} for _ in arm.seeds])


def test_a_record_holds_what_was_asked_and_found(tmp_path: Path) -> None:
    run = make(tmp_path, parameters={"width": 8}, inputs={"mnist": "sha256:1"}, notices=["a notice"])
    with run.arm("a", 3, {"lr": 0.1}) as arm:
        assert (arm.name, arm.seed, arm.seeds, arm.settings, arm.done) == ("a", 3, (3,), {"lr": 0.1}, False)
        lesson(arm)
    (record,) = run.records()
    assert records(run.path) == [record] and run.failed() == []
    wanted = {"paper": "minimal", "scale": "smoke", "arm": "a", "seed": 3, "status": "done", "error": None}
    wanted |= {"metrics": {"value": 3.0}, "history": {"loss": [2.0, 1.0]}, "settings": {"lr": 0.1}}
    wanted |= {"parameters": {"width": 8}, "inputs": {"mnist": "sha256:1"}, "notices": ["a notice"]}
    assert {key: record[key] for key in wanted} == wanted
    assert set(record) == {*wanted, "identity", "cost", "provenance", "written"}
    assert record["identity"] == arm.identities[0]
    assert record["cost"]["flops"] == 10 and record["cost"]["side_by_side"] == 1
    assert record["provenance"]["threads"] == torch.get_num_threads()


def test_a_second_call_skips_what_is_done(tmp_path: Path) -> None:
    trained = []
    for seeds in ([0, 1], [0, 1, 2]):
        run = make(tmp_path)
        for seed in seeds:
            with run.arm("a", seed) as arm:
                if arm.done:
                    continue
                trained.append(seed)
                lesson(arm)
    assert trained == [0, 1, 2]
    assert [record["seed"] for record in run.records()] == [0, 1, 2]


def test_records_are_those_asked_for_in_the_order_asked(tmp_path: Path) -> None:
    for names in ("abc", "cb"):
        run = make(tmp_path)
        for name in names:
            with run.arm(name, 0) as arm:
                if not arm.done:
                    lesson(arm)
    assert [record["arm"] for record in run.records()] == ["c", "b"]


# --- failures ------------------------------------------------------------------------------------------------

TRAINING_FAILURES = [
    (TrainingError("loss is nan; lower lr"), "loss is nan; lower lr"),
    (MemoryError(), "out of memory (MemoryError); use smaller batches or fewer jobs"),
    (torch.OutOfMemoryError("CUDA"), "out of memory (OutOfMemoryError: CUDA); use smaller batches or fewer jobs"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory (RuntimeError: Default"),
]


@pytest.mark.parametrize(("error", "text"), TRAINING_FAILURES)
def test_a_training_failure_is_recorded_and_the_run_goes_on(tmp_path: Path, error: Exception, text: str) -> None:
    run = make(tmp_path)
    with run.arm("a", 0) as arm, arm.ledger.phase("train"):
        arm.ledger.add_flops(7)
        raise error
    (record,) = run.failed()
    assert record["error"].startswith(text) and record["metrics"] == {} and run.records() == []
    assert record["cost"]["flops"] == 7 and record["cost"]["seconds"] > 0


OTHER_FAILURES = [
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (SystemExit(1), "SystemExit: 1"),
    (ZeroDivisionError("bug"), "ZeroDivisionError: bug"),
    (RecordError("bad"), "bad"),
]


@pytest.mark.parametrize(("error", "text"), OTHER_FAILURES)
def test_any_other_failure_is_recorded_and_raised(tmp_path: Path, error: BaseException, text: str) -> None:
    run = make(tmp_path)
    with pytest.raises(type(error)), run.arm("a", 0):
        raise error
    assert [record["error"] for record in run.failed()] == [text]


def test_a_failed_arm_is_tried_again(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.arm("a", 0):
        raise TrainingError("diverged")
    with run.arm("a", 0) as arm:
        assert not arm.done
        lesson(arm)
    assert run.failed() == [] and len(run.records()) == 1
    assert [record["status"] for record in records(run.path)] == ["failed", "done"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_a_metric_that_is_not_finite_fails_the_arm(tmp_path: Path, value: object) -> None:
    run = make(tmp_path)
    with run.arm("a", 0) as arm:
        arm.record({"train_loss": value})
    with run.arm("b", 0) as arm:
        arm.record({"train_loss": 1}, {"test_loss": [1.0, value]})
    told = [record["error"] for record in run.failed()]
    assert told[0].startswith(f"metric train_loss is {float(value)}") and told[1].startswith("history test_loss is ")


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="metric accuracy is a str"), make(tmp_path).arm("a", 0) as arm:
        arm.record({"accuracy": "high"})


def test_forgetting_to_record_is_an_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(RecordError, match='arm "a" ended without'), run.arm("a", 0):
        pass
    assert len(run.failed()) == 1


def test_recording_twice_or_what_is_done_is_an_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    for _ in range(2):
        with pytest.raises(RecordError, match=r"if arm\.done: continue"), run.arm("a", 0) as arm:
            arm.record({"value": 1})
            arm.record({"value": 2})
    assert [record["metrics"]["value"] for record in records(run.path)] == [1.0]


def test_an_error_after_the_record_keeps_the_record(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(TrainingError), run.arm("a", 0) as arm:
        lesson(arm)
        raise TrainingError("late")
    assert [record["status"] for record in records(run.path)] == ["done"]


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "smoke").write_text("a file")
    with pytest.raises(RecordError, match="results_dir"), make(tmp_path).arm("a", 0):
        pytest.fail("trained for nothing")


def test_a_disk_that_refuses_the_record_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(RecordError, match="free space"), make(tmp_path).arm("a", 0) as arm:
        lesson(arm)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r'settings of arm "a"\.lr is nan'):
        make(tmp_path).arm("a", 0, {"lr": float("nan")})
    for option in ("jobs", "together"):
        with pytest.raises(ParameterError, match=f"{option} is 0"):
            make(tmp_path).each(lesson, {"a": None}, [0], **{option: 0})


# --- each, in this process -----------------------------------------------------------------------------------


def test_each_trains_every_arm_for_every_seed_in_order(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.each(lesson, {"b": {"lr": 1}, "a": None}, [2, 1, 2], jobs=1)
    written = [(record["arm"], record["seed"]) for record in records(run.path)]
    assert written == [("b", 2), ("b", 1), ("a", 2), ("a", 1)]


def test_seeds_trained_together_share_the_cost(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.each(lesson, {"a": None}, [0, 1, 2, 3, 4], together=3, jobs=1)
    assert [record["cost"]["side_by_side"] for record in run.records()] == [3, 3, 3, 2, 2]
    assert all(record["cost"]["phases"]["train"]["flops"] == 10 for record in run.records())
    seconds = {record["cost"]["seconds"] for record in run.records()[:3]}
    assert len(seconds) == 1


def test_a_group_takes_only_seeds_without_a_record(tmp_path: Path) -> None:
    make(tmp_path).each(lesson, {"a": None}, [1, 3], jobs=1)
    run = make(tmp_path)
    run.each(lesson, {"a": None}, [0, 1, 2, 3], together=4, jobs=1)
    assert [record["cost"]["side_by_side"] for record in run.records()] == [2, 1, 2, 1]


def test_a_group_wants_metrics_for_every_seed(tmp_path: Path) -> None:
    def single(arm: Arm) -> None:
        arm.record({"value": 1})

    with pytest.raises(RecordError, match="2 seeds but 1 sets"):
        make(tmp_path).each(single, {"a": None}, [0, 1], together=2, jobs=1)


def test_a_changed_function_trains_again(tmp_path: Path) -> None:
    def rate(value: int) -> Callable[[Arm], None]:
        def train(arm: Arm) -> None:
            arm.record({"value": value})

        return train

    for value in (1, 2, 2):
        make(tmp_path).each(rate(value), {"a": None}, [0], jobs=1)
    assert [record["metrics"]["value"] for record in records(make(tmp_path).path)] == [1.0, 2.0]


def test_each_goes_on_after_a_training_failure(tmp_path: Path) -> None:
    def fragile(arm: Arm) -> None:
        if arm.name == "bad":
            raise TrainingError("diverged")
        lesson(arm)

    run = make(tmp_path)
    run.each(fragile, {"bad": None, "good": None}, [0], jobs=1)
    assert [record["arm"] for record in run.records()] == ["good"] and len(run.failed()) == 1


def test_a_second_run_waits_for_the_first_and_skips(tmp_path: Path) -> None:
    entered, seen = threading.Event(), []

    def second() -> None:
        entered.wait()
        with make(tmp_path).arm("a", 0) as arm:
            seen.append(arm.done)

    waiting = threading.Thread(target=second)
    waiting.start()
    with make(tmp_path).arm("a", 0) as arm:
        entered.set()
        time.sleep(0.3)
        assert seen == []
        lesson(arm)
    waiting.join()
    assert seen == [True]


# --- dry run and progress ------------------------------------------------------------------------------------


def planned(arm: Arm) -> None:
    assert arm.dry_run
    with arm.ledger.phase("train"):
        arm.ledger.add_flops(100)
        time.sleep(0.01)
    arm.ledger.steps, arm.ledger.planned_steps = 2, 20
    arm.record({"value": float("nan")})


def check_plan(rows: list[dict[str, object]]) -> None:
    assert [row["arm"] for row in rows] == ["a", "b"]
    for row in rows:
        assert set(row) == {"arm", "steps", "flops", "peak_bytes", "seconds_per_step", "hours"}
        assert (row["steps"], row["flops"]) == (20, 1000) and row["seconds_per_step"] >= 0.005
        assert row["hours"] == pytest.approx(row["seconds_per_step"] * 20 * 2 / 3600)


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, dry_run=True)
    run.each(planned, {"a": None, "b": None}, [0, 1, 2], together=2, jobs=2)
    check_plan(run.plan())
    assert list(tmp_path.iterdir()) == []


def test_a_dry_loop_enters_each_arm_once(tmp_path: Path) -> None:
    run = make(tmp_path, dry_run=True)
    for name in ("a", "b"):
        for seed in (0, 1):
            with run.arm(name, seed) as arm:
                if arm.done:
                    continue
                assert seed == 0
                planned(arm)
    check_plan(run.plan())
    assert list(tmp_path.iterdir()) == []


def test_progress_is_silent_unless_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EFFI_PROGRESS", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    make(tmp_path).each(lesson, {"a": None}, [0], jobs=1)
    monkeypatch.setenv("EFFI_PROGRESS", "1")
    make(tmp_path, quiet=True).each(lesson, {"b": None}, [0], jobs=1)
    assert capsys.readouterr() == ("", "")
    make(tmp_path).each(lesson, {"a": None, "c": None}, [0, 1], together=2, jobs=1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 2
    assert lines[0].startswith("minimal smoke a seed 1 done | 2/4 | ")
    assert lines[1] == "minimal smoke c seed 0, 1 done | 4/4 | 0 s left"


def test_the_progress_file_counts_pairs(tmp_path: Path) -> None:
    def fragile(arm: Arm) -> None:
        if arm.name == "bad":
            raise TrainingError("diverged\nsecond line")
        lesson(arm)

    make(tmp_path).each(lesson, {"bad": None}, [9], jobs=1)
    run = make(tmp_path)
    run.each(fragile, {"good": None, "bad": None}, [0, 1], jobs=1)
    found = json.loads((run.path.parent / "progress.json").read_text())
    assert found.pop("started") and found == {"done": 2, "failed": 2, "total": 4, "arm": "bad"}


def test_tables_speak_of_what_the_newest_run_asked_for(tmp_path: Path) -> None:
    for rate, names in ((0.1, "ab"), (0.2, "a"), (0.1, "ab")):
        run = make(tmp_path)
        run.each(lesson, {name: {"lr": rate} for name in names}, [0], jobs=1)
        shown = store.current(run.path)
        assert [(each["arm"], each["settings"]["lr"]) for each in shown] == [(name, rate) for name in names]
    assert len(records(run.path)) == 3


def test_without_a_note_all_records_are_current(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    store.append(path, [{"identity": "x", "status": "done"}])
    assert store.current(path) == records(path)
