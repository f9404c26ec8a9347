"""What an arm saves and loses, and the advice drawn from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from effi.claims import Results
from effi.claims.stats import Interval
from effi.errors import ParameterError
from effi.report import advice, trades
from tests.claims.synthetic import REPORT, paper
from tests.report.synthetic import trained

SCORED = REPORT | {"baseline": "dense", "score": "test_accuracy", "margin": "accuracy"}
PAPER = paper(report=SCORED, margins={"accuracy": {"e": 0.3, "other": 1.0}, "loss": {"other": 1.0}})


def said(records: Sequence[dict[str, Any]], metric: str = "test_accuracy", **options: Any) -> str:
    return advice(Results(records), PAPER, baseline="dense", price=3.6, metric=metric, **options)


def runs(dataset: str = "d") -> list[dict[str, Any]]:
    """Three seeds: near loses 0.4 points for 60 % of the FLOPs, nearer none for 80 %, far ten for 10 %."""
    return [
        trained(f"{dataset}/{name}", seed, accuracy, flops=flops)
        for seed in range(3)
        for name, accuracy, flops in (
            ("dense", 0.8, 100.0),
            ("near", 0.795 + 0.001 * seed, 60.0),
            ("nearer", 0.8, 80.0),
            ("far", 0.7, 10.0),
        )
    ]


def test_the_cheapest_arm_that_surely_keeps_the_score_is_taken() -> None:
    assert said(runs()) == (
        "d: take near instead of dense, for 60.0 % of its FLOPs; test accuracy changes by -0.4 points [-0.6, -0.2], "
        "n=3, and the loss is surely below 1 points."
    )


def test_the_margin_is_that_of_the_data_set() -> None:
    assert said(runs("e")).startswith("e: take nearer instead of dense, for 80.0 %")


def test_a_group_each_and_only_what_is_on_offer() -> None:
    first, second = said([*runs("d"), *runs("e")], arms=["d/nearer", "e/near"]).split("\n")
    assert first.startswith("d: take nearer")
    assert second == "e: stay with dense; no arm on offer surely saves FLOPs and surely loses less than 0.3 points."


def timed(seconds: Sequence[float], accuracies: Sequence[float | None]) -> list[dict[str, Any]]:
    """A dense model of 100 s and 80 % beside one ticket."""
    dense = [trained("d/dense", seed, 0.8, seconds=100.0) for seed in range(3)]
    tickets = [
        trained("d/ticket", seed, accuracy or 0.0, seconds=s)
        for seed, (s, accuracy) in enumerate(zip(seconds, accuracies, strict=True))
    ]
    for record, accuracy in zip(tickets, accuracies, strict=True):
        record["metrics"] = {} if accuracy is None else record["metrics"]
    return dense + tickets


def test_by_seconds_it_tells_what_is_saved() -> None:
    words = said(timed([60, 61, 59], [0.80, 0.801, 0.799]), by="seconds")
    assert words == (
        "d: take ticket instead of dense, for 60.0 % [57.5, 62.5] of its seconds (40.0 s saved a training, 40.00 "
        "of money in a thousand); test accuracy changes by 0.0 points [-0.2, 0.2], n=3, and the loss is surely below 1 "
        "points."
    )


@pytest.mark.parametrize(
    ("seconds", "accuracies"),
    [
        ([60, 100, 140], [0.8, 0.8, 0.8]),  # the saving is noise
        ([60, 61, 59], [0.75, 0.8, 0.85]),  # the accuracy is noise
        ([60, 61, 59], [0.78, 0.781, 0.779]),  # two points are lost
        ([101, 102, 103], [0.8, 0.8, 0.8]),  # dearer
        ([60, 61, 59], [None, None, None]),  # never drawn
    ],
)
def test_nothing_else_is_advised(seconds: Sequence[float], accuracies: Sequence[float | None]) -> None:
    found = said(timed(seconds, accuracies), by="seconds")
    assert found == "d: stay with dense; no arm on offer surely saves seconds and surely loses less than 1 points."


def test_one_seed_is_never_sure() -> None:
    assert said([each for each in runs() if each["seed"] == 0]).startswith("d: stay with dense")


def test_one_may_choose_on_one_split_and_tell_of_another() -> None:
    records = runs()
    for record in records:
        record["metrics"]["validation_accuracy"] = 0.9
    found = said(records, "validation_accuracy", told="test_accuracy")
    assert found.startswith("d: take far instead") and "test accuracy changes by -10.0 points" in found


def test_of_a_loss_more_is_worse() -> None:
    records = runs()
    for record in records:
        record["metrics"]["test_loss"] = {"d/dense": 3.0, "d/near": 2.0}.get(record["arm"], 9.0)
    assert said(records, "test_loss").startswith("d: take near instead")


def test_a_trade_is_paired_by_seed_and_says_what_it_costs() -> None:
    records = [
        trained(f"d/{name}", seed, accuracy + 0.1 * seed, flops=flops)
        for seed in range(3)
        for name, accuracy, flops in (("dense", 0.6, 100.0), ("thin", 0.55, 10.0))
    ]
    (thin,) = trades(Results(records), PAPER, baseline="dense", metric="test_accuracy")
    assert thin.change == pytest.approx(Interval(-5.0, -5.0, -5.0))
    assert thin.cost == pytest.approx(Interval(10.0, 10.0, 10.0))
    assert (thin.kept, thin.pays, thin.margin) == ("not reproduced", False, 1.0)


def test_without_a_baseline_there_is_no_trade() -> None:
    with pytest.raises(ParameterError, match="No arm is called 'sparse'"):
        trades(Results(runs()), PAPER, baseline="sparse", metric="test_accuracy")
