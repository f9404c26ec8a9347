"""Results: which record counts, and how arms are found by what their records say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effi.claims import Results
from effi.errors import ParameterError, RecordError
from tests.claims.synthetic import arm, record


def failed(name: str, error: str = "the loss is nan.") -> dict[str, Any]:
    return {**record(name), "status": "failed", "error": error, "metrics": {}}


MIXED = [
    *arm("d/vit/eb-0.3", [0.5, 0.6]),
    *arm("d/vit/dense", [0.7, 0.8]),
    *arm("d/swin/dense", [0.1, 0.2]),
    *arm("e/vit/eb-0.3", [0.3]),
    record("check/C1", slope=1.0),
]


def test_the_newest_record_of_a_seed_counts_in_the_order_of_seeds() -> None:
    found = Results([record("d/x", 1, loss=1.0), record("d/x", 0, loss=2.0), record("d/x", 1, loss=3.0)])
    assert found.values("d/x", "loss") == [2.0, 3.0]
    assert [each["seed"] for each in found.records] == [0, 1]


def test_seeds_of_other_settings_than_the_newest_do_not_count() -> None:
    found = Results([*arm("d/x", [1.0, 2.0], settings={"training": {"epochs": 8}}), record("d/x", 1, loss=3.0)])
    assert found.values("d/x", "loss") == [3.0]


def test_seeds_recorded_before_and_after_a_new_option_count_together() -> None:
    before, after = {"training": {"lr": 1}}, {"training": {"lr": 1, "momentum": 0.0}}
    records = [record("d/x", seed, settings=before, loss=1.0) for seed in range(3)]
    records += [record("d/x", seed, settings=after, loss=1.0) for seed in (3, 4)]
    assert list(Results(records).seeds("d/x")) == [0, 1, 2, 3, 4]
    changed = record("d/x", 5, settings={"training": {"lr": 2, "momentum": 0.0}}, loss=1.0)
    assert list(Results([*records, changed]).seeds("d/x")) == [5]


def test_accuracies_are_in_percent() -> None:
    assert Results(arm("d/x", [0.5], "test_accuracy")).values("d/x", "test_accuracy") == [50.0]


def test_groups_and_labels_come_from_the_fields_not_from_the_name() -> None:
    said = {"dataset": "d", "model": "vit", "variant": "drawn-5", "ratio": 0.9}
    odd = {**record("d/x", loss=1.0), "arm": "any text", **said}
    found = Results([odd, record("check/C1", slope=1.0)])
    assert (found.dataset("any text"), found.group("any text"), found.label("any text")) == (
        "d",
        "d/vit",
        "drawn-5-0.9",
    )
    assert (found.dataset("check/C1"), found.group("check/C1"), found.label("check/C1")) == ("", "", "check/C1")


def test_labels_keep_the_group_where_there_are_two() -> None:
    found = Results(MIXED)
    assert found.where(dataset="d", model="vit").labels() == {"d/vit/eb-0.3": "eb-0.3", "d/vit/dense": "dense"}
    assert found.where(dataset="d").labels()["d/swin/dense"] == "d/swin/dense"


@pytest.mark.parametrize(
    ("asked", "arms"),
    [
        ({"dataset": "e"}, ("e/vit/eb-0.3",)),
        ({"variant": "dense"}, ("d/vit/dense", "d/swin/dense")),
        ({"ratio": 0.3, "dataset": "d"}, ("d/vit/eb-0.3",)),
        ({"arms": ["d/swin/dense", "check/C1"]}, ("d/swin/dense", "check/C1")),
        ({"arms": ["d/swin/dense", "check/C1"], "model": "swin"}, ("d/swin/dense",)),
        ({"model": "none"}, ()),
    ],
)
def test_where_selects_by_field_or_in_the_order_listed(asked: dict[str, Any], arms: tuple[str, ...]) -> None:
    assert Results(MIXED).where(**asked).arms == arms


def test_unknown_arms_are_guessed_and_failed_ones_left_out() -> None:
    found = Results([*MIXED, failed("d/vit/late-0.3")])
    with pytest.raises(ParameterError, match="Unknown arm 'd/vit/dens'; did you mean 'd/vit/dense'"):
        found.where(arms=["d/vit/dens"])
    some = found.where(arms=["d/vit/late-0.3", "d/vit/dense"])
    assert some.arms == ("d/vit/dense",) and set(some.failures) == {"d/vit/late-0.3"}
    with pytest.raises(RecordError, match=r"d/vit/late-0.3 failed \(the loss is nan.\); mend that and run again"):
        found.seeds("d/vit/late-0.3")


def test_a_failure_counts_only_where_no_seed_finished() -> None:
    found = Results([failed("d/x"), record("d/x", 1, loss=1.0), failed("d/y"), failed("d/y", "out of memory")])
    assert dict(found.failures) == {"d/y": "out of memory"}


def test_holding_wants_the_metric_at_every_seed() -> None:
    found = Results([*MIXED, record("d/vit/new", 0, loss=1.0), record("d/vit/new", 1, size=1.0)])
    assert "d/vit/new" not in found.holding("loss") and "d/vit/dense" in found.holding("loss")
    with pytest.raises(RecordError, match=r"No finished arm holds speed; finished arms are d/vit/eb-0.3, "):
        found.holding("speed")


def test_what_failed_is_named_where_nothing_is_left() -> None:
    found = Results([failed(f"d/{name}") for name in "abcde"] + [failed("d/f", "out of memory")])
    sentence = (
        r"No finished arm holds loss: d/a, d/b, d/c and 2 more failed \(the loss is nan\); "
        r"d/f failed \(out of memory\); mend that and run again\."
    )
    with pytest.raises(RecordError, match=sentence):
        found.holding("loss")
    with pytest.raises(RecordError, match=r"Nothing can be compared with a: d/a, "):
        found.pairs("a")


def test_histories_are_cut_to_the_shortest_seed() -> None:
    records = arm("d/x", [1.0, 1.0])
    records[0]["history"], records[1]["history"] = {"train_loss": [3, 2, 1]}, {"train_loss": [3, 2]}
    found = Results([*records, *arm("d/y", [1.0])])
    assert found.history("d/x", "train_loss") == [[3, 2], [3, 2]]
    assert found.remembering("train_loss").arms == ("d/x",)
    with pytest.raises(RecordError, match="d/y holds no history of train_loss"):
        found.history("d/y", "train_loss")


def test_pairs_share_data_set_model_and_seed() -> None:
    pairs = Results(MIXED).pairs("dense")
    assert list(pairs) == ["d/swin/dense", "d/vit/dense", "d/vit/eb-0.3"]
    values = [(p.arm["metrics"]["loss"], p.baseline["metrics"]["loss"]) for p in pairs["d/vit/eb-0.3"]]
    assert values == [(0.5, 0.7), (0.6, 0.8)]
    assert all(pair.arm is pair.baseline for pair in pairs["d/swin/dense"])
    with pytest.raises(ParameterError, match="No arm is called 'sparse'"):
        Results(MIXED).pairs("sparse")


def test_scales_are_not_mixed_and_records_say_what_they_are() -> None:
    with pytest.raises(ParameterError, match="cpu and gpu mixed"):
        Results([record("d/new"), {**record("d/old"), "scale": "gpu"}])
    bare = {name: value for name, value in record("d/old").items() if name != "variant"}
    with pytest.raises(RecordError, match="d/old was recorded by an older effi"):
        Results([bare])


def test_nothing_recorded_is_no_results(tmp_path: Path) -> None:
    found = Results.read(tmp_path, "cpu", "minimal")
    assert not found and found.arms == () and found.scale == "no"
