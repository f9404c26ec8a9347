"""Arms in one process: what is recorded when they end, well or not."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from effi.claims import measures
from effi.cost import Ledger
from effi.errors import ParameterError, RecordError, TrainingError
from effi.kernels import takes, using
from effi.records import Arm, Name, Record, Run, records, source, store


def make(tmp_path: Path, **options: object) -> Run:
    return Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"], **options)


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
    wanted |= {"dataset": None, "model": None, "variant": None, "ratio": None, "parents": None, "device": "cpu"}
    wanted |= {"marks": {}}
    assert {key: record[key] for key in wanted} == wanted
    keys = {"identity", "question", "source", "checksum", "cost", "provenance", "written"}
    assert set(record) == {*wanted, *keys}
    assert record["identity"] == arm.identities[0]
    assert record["cost"]["flops"] == 10 and record["cost"]["side_by_side"] == 1
    assert record["provenance"]["threads"] == torch.get_num_threads()


def test_a_record_says_which_kernels_computed(tmp_path: Path) -> None:
    run = make(tmp_path)
    for name, asked in (("by torch", ()), ("by a kernel", ("cross_entropy", "attention")), ("by torch again", ())):
        with run.arm(name, 0) as arm, using(*asked):
            takes("cross_entropy", torch.device("cpu"), 1), takes("attention", torch.device("cpu"), 1)
            arm.record({"value": 1.0})
    assert [each["provenance"].get("kernels") for each in run.records()] == [None, ["cross_entropy"], None]


@pytest.mark.parametrize("count", [1, 8, 13])
def test_a_record_keeps_which_examples_are_hits_as_bits(tmp_path: Path, count: int) -> None:
    run, hits = make(tmp_path), torch.arange(count) % 3 == 0
    with run.arm("a", 0) as arm:
        arm.record({"test_accuracy": hits.float().mean().item()}, marks={"test_accuracy": hits})
    (record,) = run.records()
    read = measures.marks(record, "test_accuracy")
    assert read is not None and read.tolist() == hits.tolist()
    assert len(record["marks"]["test_accuracy"][1]) <= 4 * (count // 24 + 1)
    assert measures.marks(record, "best_test_accuracy") is None


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


def test_an_edited_record_stops_a_run_and_the_one_after(tmp_path: Path) -> None:
    make(tmp_path).each(lesson, {"a": None, "b": None}, [0], jobs=1)
    path = make(tmp_path).path
    path.write_text(path.read_text().replace('"loss": [2.0', '"loss": [3.0', 1))
    for _ in range(2):
        with pytest.raises(RecordError, match=r"line 1 of .* \(arm a, seed 0\) was changed after it was written"):
            make(tmp_path).each(lesson, {"b": None}, [0], jobs=1)


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


# --- names ---------------------------------------------------------------------------------------------------


NAMES = {
    Name("cifar10", "vit", "dense"): {"lr": 1},
    Name("cifar10", "vit", "eb", 0.3): {"lr": 2},
    Name("cifar10", "vit", "drawn-5", 0.3): {"lr": 3},
    Name("folder:/a/b", None, "eb", 0.1): {"lr": 4},
}


def test_a_name_is_its_fields_in_the_record_and_a_text_to_read(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.each(lesson, NAMES, [0], jobs=1)
    keys = ("arm", "dataset", "model", "variant", "ratio")
    found = [tuple(record[key] for key in keys) for record in run.records()]
    assert found == [
        ("cifar10/vit/dense", "cifar10", "vit", "dense", None),
        ("cifar10/vit/eb-0.3", "cifar10", "vit", "eb", 0.3),
        ("cifar10/vit/drawn-5-0.3", "cifar10", "vit", "drawn-5", 0.3),
        ("folder:/a/b/eb-0.1", "folder:/a/b", None, "eb", 0.1),
    ]


def test_an_arm_says_its_name_in_words_and_fields(tmp_path: Path) -> None:
    arm = make(tmp_path).arm(Name("d", "m", "eb", 0.3), 0)
    assert (arm.name, arm.variant, arm.label) == ("d/m/eb-0.3", "eb", Name("d", "m", "eb", 0.3))
    plain = make(tmp_path).arm("d/m/eb-0.3", 0)
    assert (plain.name, plain.variant, plain.label) == ("d/m/eb-0.3", None, None)
    assert plain.identities != arm.identities  # its record would lack the fields


def test_only_what_is_named_and_the_baseline_are_kept() -> None:
    def short(*only: str, **options: object) -> list[str]:
        return [name.short for name in Run.keep_only(NAMES, only, **options)]

    assert short() == ["dense", "eb-0.3", "drawn-5-0.3", "eb-0.1"]
    assert short("eb-0.3") == ["dense", "eb-0.3"]
    assert short("eb-0.1", "dense") == ["dense", "eb-0.1"]
    assert short("eb-0.1", always=()) == ["eb-0.1"]
    assert Run.keep_only({"check/C1": 1, "check/C2": 2}, ["check/C2"]) == {"check/C2": 2}
    with pytest.raises(ParameterError, match=r"no arm 'ebb-0.3'; did you mean 'eb-0.3'\?"):
        short("eb-0.3", "ebb-0.3")


# --- facts derived from records ------------------------------------------------------------------------------


def mean(found: list[Record]) -> dict[str, float]:
    return {"mean": sum(record["metrics"]["value"] for record in found) / len(found)}


def derive(run: Run, function: Callable[[list[Record]], dict[str, float]] = mean) -> Record:
    """The fact that the run has after deriving it."""
    run.derived("check/C4", function, of=[r for r in run.records() if r["arm"] == "a"], seed=1)
    return [record for record in run.records() if record["arm"] == "check/C4"][-1]


def test_a_derived_fact_is_computed_once_from_its_parents(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.each(lesson, {"a": None}, [0, 1, 5], jobs=1)
    first = derive(run)
    assert first["metrics"] == {"mean": 2.0} and first["seed"] == 1
    assert first["parents"] == [record["checksum"] for record in run.records()[:3]]
    again = make(tmp_path)
    again.each(lesson, {"a": None}, [0, 1, 5], jobs=1)
    assert derive(again) == first and len(records(run.path)) == 4


def test_a_derived_fact_goes_stale_with_its_parents_and_its_function_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def double(found: list[Record]) -> dict[str, float]:
        return {"mean": 2 * mean(found)["mean"]}

    run = make(tmp_path)
    run.each(lesson, {"a": None}, [0, 1], jobs=1)
    first = derive(run)
    # An edit of any module, such as training, evaluation or cost, changes the hashes of sources.
    for module in ("run", "source"):
        monkeypatch.setattr(f"effi.records.{module}.source_hash", lambda *modules: "edited")
    edited = make(tmp_path)
    edited._asked = dict.fromkeys(record["identity"] for record in run.records())
    assert derive(edited) == first and first["source"]["uses"] == []
    assert derive(edited, double)["metrics"] == {"mean": 1.0}
    edited.derived("check/C4", mean, of=run.records()[:2], seed=1, settings={"full": 1})
    assert edited.records()[-1]["settings"] == {"full": 1} and edited.records()[-1] != first
    retrained = make(tmp_path)
    retrained.each(lesson, {"a": None}, [0, 1], jobs=1)
    assert derive(retrained)["parents"] != first["parents"]


def test_a_measured_check_goes_stale_with_what_it_uses_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**uses: object) -> str:
        return make(tmp_path).arm("check/C11", 0, **uses).identities[0]

    def edited(modules: object, root: Path | None = None) -> str:
        return f"{sorted(modules)} now"

    before, narrow = key(), key(uses=["effi.errors"])
    assert before != narrow
    real = source.source_hash
    monkeypatch.setattr(source, "source_hash", lambda m, *r: real(m) if m == ("effi.errors",) else edited(m))
    assert key(uses=["effi.errors"]) == narrow and key() != before


# --- checkpoints ---------------------------------------------------------------------------------------------


def begun(arm: Arm) -> list[Path]:
    """Files that a training keeps for going on."""
    arm.checkpoint.parent.mkdir(exist_ok=True, parents=True)
    for suffix in (".safetensors", ".json"):
        arm.checkpoint.with_suffix(suffix).write_text("x")
    return list(arm.checkpoint.parent.glob(f"{arm.checkpoint.name}*"))


ENDS = [(None, 0), (TrainingError("nan"), 0), (ZeroDivisionError(), 0), (KeyboardInterrupt(), 2), (SystemExit(143), 2)]


@pytest.mark.parametrize(("error", "kept"), ENDS)
def test_a_checkpoint_goes_with_its_record_but_not_with_an_interruption(
    tmp_path: Path, error: BaseException | None, kept: int
) -> None:
    other = make(tmp_path).arm("b", 0)
    begun(other)
    with suppress(type(error) if error else ()), make(tmp_path).arm("a", 0) as arm:
        assert len(begun(arm)) == 2
        lesson(arm)
        if error:
            arm._recorded = False
            begun(arm)
            raise error
    assert len(list(arm.checkpoint.parent.glob(f"{arm.checkpoint.name}*"))) == kept
    assert arm.checkpoint.parent == arm.path.parent / "checkpoints"
    assert len(list(other.checkpoint.parent.glob(f"{other.checkpoint.name}*"))) == 2


def test_seeds_trained_together_have_a_checkpoint_of_their_own(tmp_path: Path) -> None:
    seen: list[Path] = []

    def train(arm: Arm) -> None:
        seen.append(arm.checkpoint)
        lesson(arm)

    make(tmp_path).each(train, {"a": None}, [0, 1, 2], together=2, jobs=1)
    make(tmp_path).each(train, {"b": None}, [0, 1, 2], together=3, jobs=1)
    assert len(set(seen)) == 3


def test_an_arm_records_the_cost_of_a_ledger_that_went_on(tmp_path: Path) -> None:
    before = Ledger("cpu")
    before.charge("train", 7, 2.0)
    run = make(tmp_path)
    with run.arm("a", 0) as arm:
        arm.ledger.restore(before.state())
        lesson(arm)
    cost = run.records()[0]["cost"]
    assert cost["flops"] == 17 and cost["seconds"] > 2.0


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


def test_runs_at_once_share_the_machine_as_trainings_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFI_RUNS_AT_ONCE", "2")
    run = make(tmp_path)
    run.each(lesson, {"a": None}, [0, 1, 2], together=3, jobs=1)
    assert [record["cost"]["side_by_side"] for record in run.records()] == [6, 6, 6]


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


def test_a_second_run_waits_for_the_first_and_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE_S", 0.05)
    entered, seen = threading.Event(), []

    def told() -> Any:
        return json.loads((make(tmp_path).path.parent / "progress.json").read_text())["waiting"]

    def second() -> None:
        entered.wait()
        with make(tmp_path).arm("a", 0) as arm:
            seen.append(arm.done)

    waiting = threading.Thread(target=second)
    waiting.start()
    with make(tmp_path).arm("a", 0) as arm:
        entered.set()
        time.sleep(0.3)
        assert seen == [] and told() == {"arm": "a", "pid": os.getpid()}
        lesson(arm)
    waiting.join()
    assert seen == [True] and told() is None


@pytest.mark.slow
def test_a_worker_that_waits_is_heard_of(tmp_path: Path) -> None:
    progress = make(tmp_path).path.parent / "progress.json"
    second = threading.Thread(target=lambda: make(tmp_path).each(lesson, {"a": None}, [0], jobs=2))
    with make(tmp_path).arm("b", 0) as other:
        lesson(other)
    held = make(tmp_path)._groups(lesson, {"a": None}, [0], 1)[0][0]
    with held:
        second.start()
        end = time.monotonic() + 60
        while json.loads(progress.read_text())["waiting"] != {"arm": "a", "pid": os.getpid()}:
            assert time.monotonic() < end, "nothing is said"
            time.sleep(0.1)
        lesson(held)
    second.join()
    assert json.loads(progress.read_text())["waiting"] is None and len(records(held.path)) == 2


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
        assert set(row) == {"arm", "trainings", "steps", "flops", "peak_bytes", "seconds_per_step", "hours"}
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
    failures = [{"arm": "bad", "seeds": [seed], "error": "diverged", "record": str(run.path)} for seed in (0, 1)]
    counts = {"done": 2, "trained": 2, "kept": 0, "failed": 2, "stale": 0, "total": 4, "aside": 0, "waiting": None}
    assert found.pop("started") and found == counts | {"arm": "bad", "failures": failures}
    make(tmp_path).each(lesson, {"good": None}, [0, 1, 2], jobs=1)
    found = json.loads((run.path.parent / "progress.json").read_text())
    assert (found["trained"], found["kept"], found["done"], found["failures"]) == (3, 0, 3, [])
    make(tmp_path).each(lesson, {"good": None}, [0, 1, 2], jobs=1)
    found = json.loads((run.path.parent / "progress.json").read_text())
    assert (found["trained"], found["kept"], found["done"]) == (0, 3, 3)


def test_stale_records_are_counted_and_trained_anew(tmp_path: Path) -> None:
    def lesson_changed(arm: Arm) -> None:
        lesson(arm)

    make(tmp_path).each(lesson, {"a": None, "b": None}, [0, 1], jobs=1)
    run = make(tmp_path)
    run.each(lesson_changed, {"a": None, "c": None}, [0, 1], jobs=1)
    found = json.loads((run.path.parent / "progress.json").read_text())
    assert (found["trained"], found["kept"], found["stale"]) == (4, 0, 2)


def test_tables_speak_of_what_the_newest_run_asked_for(tmp_path: Path) -> None:
    for rate, names in ((0.1, "ab"), (0.2, "a"), (0.1, "ab")):
        run = make(tmp_path)
        run.each(lesson, {name: {"lr": rate} for name in names}, [0], jobs=1)
        shown = store.current(run.path)
        assert [(each["arm"], each["settings"]["lr"]) for each in shown] == [(name, rate) for name in names]
    assert len(records(run.path)) == 3


def test_without_a_note_all_records_are_current(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    store.append(path, [{"identity": "x", "arm": "a", "seed": 0, "status": "done"}])
    assert store.current(path) == records(path)


def test_an_interruption_leaves_one_row(tmp_path: Path) -> None:
    run = make(tmp_path)
    arm = run.arm("a", 0)
    arm.fail("an older failure")
    before = {record["checksum"] for record in records(run.path)}
    arm.fail("what its own process said")
    arm.fail_unless_told("what the main process saw", before)
    assert [record["error"] for record in records(run.path)] == ["an older failure", "what its own process said"]
    assert arm.error == "what the main process saw"
    arm.fail_unless_told("killed", {record["checksum"] for record in records(run.path)})
    assert [record["error"] for record in records(run.path)][2:] == ["killed"]


def test_what_an_arm_leaves_in_cycles_is_gone_before_the_next(tmp_path: Path) -> None:
    """Else the models of earlier arms would count in the peak memory of later ones."""
    left: list[weakref.ref[Any]] = []

    class Loop:
        def __init__(self) -> None:
            self.own = self.step

        def step(self) -> None: ...

    def train(arm: Arm) -> None:
        arm.record({"left": float(sum(ref() is not None for ref in left))})
        left.append(weakref.ref(Loop()))

    run = Run("minimal", "smoke", results_dir=tmp_path, uses=["effi.seeds"])
    gc.disable()
    try:
        run.each(train, {"a": None, "b": None}, [0, 1], jobs=1)
    finally:
        gc.enable()
    assert left[0]() is None
    assert [record["metrics"]["left"] for record in run.records()] == [0, 0, 0, 0]
