"""Costs beside the baseline, and at matched budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from effi.claims import Results, stats, uncertainty
from effi.errors import ParameterError
from effi.records.arms import packed
from effi.report import Table, arms_table, cost_table, costs, matched_table
from effi.report.costs import scaled
from tests.claims import synthetic
from tests.report.synthetic import runs, trained


def cells(table: Table, arm: str) -> dict[str, str]:
    """Cells of one arm by column."""
    row = next(row for row in table.rows if row[0] == arm)
    return dict(zip(table.columns, row, strict=True))


def test_baseline_is_absolute_and_the_rest_relative_within_its_data_set() -> None:
    table = cost_table(Results(runs()), baseline="dense", price=3600.0)
    assert [row[0] for row in table.rows] == ["d/dense", "d/half", "e/dense", "e/half"]
    dense, half = cells(table, "d/dense"), cells(table, "d/half")
    assert dense["training FLOPs"] == "100 FLOP" and half["training FLOPs"] == "50.0 %"
    assert dense["seconds"] == "10 s" and half["seconds"] == "50.0 %"
    assert dense["peak memory"] == "2 MB" and half["peak memory"] == "not available"
    assert half["joules"] == "not available"
    assert dense["money at 3600 per GPU hour"] == "10.0" and half["money at 3600 per GPU hour"] == "5.00"


def test_processes_that_share_a_training_cost_each() -> None:
    dense, shared = trained("d/dense", 0, 0.8), trained("d/shared", 0, 0.8, seconds=10.0)
    shared["provenance"] = {**shared.get("provenance", {}), "processes": 8}
    table = cost_table(Results([dense, shared]), baseline="dense", price=3600.0)
    assert [cells(table, arm)["money at 3600 per GPU hour"] for arm in ("d/dense", "d/shared")] == ["10.0", "80.0"]


def test_accuracy_kept_is_a_paired_difference_in_points() -> None:
    # Differences -1, -2, -3 points: half-width 4.303 / sqrt(3) = 2.5.
    half = cells(cost_table(Results(runs()), baseline="dense", price=1.0), "d/half")
    assert half["test accuracy kept"] == "79.0 %: -2.0 points [-4.5, 0.5]"


def test_search_counts_and_has_a_column_where_an_arm_searches() -> None:
    records = [trained("d/dense", 0, 0.8), trained("d/ticket", 0, 0.8, flops=60.0, search=40.0)]
    table = cost_table(Results(records), baseline="dense", price=1.0)
    assert cells(table, "d/ticket")["training FLOPs"] == "100.0 %"
    assert cells(table, "d/ticket")["search, % of FLOPs"] == "40.0 %"
    assert cells(table, "d/dense")["search, % of FLOPs"] == "0.0 %" and table.notes == ()
    assert "search, % of FLOPs" not in cost_table(Results(records[:1]), baseline="dense", price=1.0).columns


def wild(seconds: Sequence[float]) -> dict[str, str]:
    """Cells of an arm of these seconds beside a baseline of 10 s."""
    dense = [trained("d/dense", seed, 0.8) for seed in range(len(seconds))]
    arms = [trained("d/x", seed, 0.8, seconds=each) for seed, each in enumerate(seconds)]
    return cells(cost_table(Results([*dense, *arms]), baseline="dense", price=3600.0), "d/x")


def test_costs_have_possible_intervals() -> None:
    # One wild value of three: a t interval of the ratios themselves would begin below 0.
    found = wild([4.0, 5.7, 9.2])
    assert stats.interval([40, 57, 92]).low < 0
    ratio, bounds = 10 * uncertainty.positive([4.0, 5.7, 9.2]).mean, uncertainty.positive([40, 57, 92])
    assert found["seconds"] == f"{ratio:.1f} % [{bounds.low:.1f}, {bounds.high:.1f}]" and bounds.low > 20
    assert found["money at 3600 per GPU hour"] == "5.94 [2.10, 16.8]"


def test_little_money_and_much_has_three_digits() -> None:
    records = [trained("d/dense", 0, 0.8)]
    for price, text in ((0.04, "0.000111"), (0.0, "0"), (3.6e6, "10,000")):
        table = cost_table(Results(records), baseline="dense", price=price)
        assert cells(table, "d/dense")[f"money at {price:g} per GPU hour"] == text


def hits(name: str, count: int, of: int = 50) -> list[dict[str, Any]]:
    """Three seeds that hit the same examples."""
    own = torch.arange(of) < count
    records = [trained(name, seed, count / of) for seed in range(3)]
    return [{**each, "marks": {"test_accuracy": packed(own)}} for each in records]


def test_accuracies_hold_the_error_of_the_test_set_and_say_so() -> None:
    table = cost_table(Results([*hits("d/dense", 50), *hits("d/half", 50)]), baseline="dense", price=1.0)
    assert cells(table, "d/dense")["test accuracy kept"] == "100.0 % [94.2, 100.0]"
    assert cells(table, "d/half")["test accuracy kept"] == "100.0 %: 0.0 points [-5.8, 5.8]"
    note = "Intervals of test accuracies hold the error of 50 test examples beside that of seeds."
    assert note in table.notes
    assert arms_table(Results(hits("d/dense", 50)), ["test_accuracy"]).notes == (note,)


def test_a_worst_case_is_called_so() -> None:
    settings = {"data": {"subset": {"test": 50}}}
    found = [{**trained("d/dense", seed, 0.5), "settings": settings} for seed in range(3)]
    (note,) = arms_table(Results(found), ["test_accuracy"]).notes
    assert note.endswith(
        "50 test examples beside that of seeds. At its worst, as hits of single examples are not recorded."
    )


def test_sanity_baselines_stand_last_in_every_table_of_arms() -> None:
    simple = [{**each, "cost": {**each["cost"], "flops": 0}} for each in hits("d/logistic", 40)]
    records = [*simple, *hits("d/vit/dense", 45), *hits("d/vit/half", 45), *hits("e/majority", 20)]
    found = Results(records)
    assert [row[0] for row in arms_table(found, ["parameters", "test_accuracy"], ["d/vit/half"]).rows] == [
        "d/vit/half",
        "d/logistic",
    ]
    table = cost_table(found, baseline="dense", price=1.0)
    assert [row[0] for row in table.rows] == ["d/vit/dense", "d/vit/half", "d/logistic"]
    assert cells(table, "d/logistic")["test accuracy kept"] == "80.0 % [68.5, 91.5]"
    assert (cells(table, "d/logistic")["training FLOPs"], cells(table, "d/logistic")["seconds"]) == (
        "not available",
        "10 s",
    )
    assert [row[0] for row in matched_table(found, baseline="dense").rows] == ["d/vit/half"]


def test_beside_models_without_a_name_they_are_no_arms_either() -> None:
    found = Results([*hits("d/dense", 45), *hits("d/logistic", 40), *hits("d/half", 45)])
    rows = [row[0] for row in cost_table(found, baseline="dense", price=1.0).rows]
    assert rows == ["d/dense", "d/half", "d/logistic"]
    assert [row[0] for row in matched_table(found, baseline="dense").rows] == ["d/half"]


def test_a_shared_machine_has_no_seconds_to_tell() -> None:
    records = [trained("d/dense", 0, 0.8, side_by_side=2)]
    table = cost_table(Results(records), baseline="dense", price=1.0)
    assert "up to 2 trainings shared the machine" in table.notes[0]
    assert not {"seconds", "joules", "money at 1 per GPU hour"} & set(table.columns)


def test_curves_of_a_model_that_was_mixed_afterwards_are_not_its_own() -> None:
    """Of the variants that papers list as mixed: the last epochs of such an arm are those of one ingredient."""
    table = matched_table(Results([trained("d/dense", 0, 0.8), trained("d/soup-greedy", 0, 0.8)]), baseline="dense")
    assert cells(table, "d/soup-greedy")["equal epochs"] == "not available"


def test_arms_without_a_baseline_of_their_data_set_are_left_out() -> None:
    table = cost_table(Results([*runs(), trained("check/C1", 0, 0.5)]), baseline="dense", price=1.0)
    assert not any(row[0].startswith("check") for row in table.rows)
    with pytest.raises(ParameterError, match="No arm is called 'sparse'"):
        cost_table(Results(runs()), baseline="sparse", price=1.0)


def test_arms_without_a_common_seed_or_cost_are_not_available() -> None:
    other_seed, free = trained("d/other", 7, 0.8), trained("d/free", 0, 0.8, flops=0.0)
    table = cost_table(Results([trained("d/dense", 0, 0.8), other_seed]), baseline="dense", price=1.0)
    assert set(cells(table, "d/other").values()) == {"d/other", "not available"}
    table = cost_table(Results([trained("d/dense", 0, 0.8, flops=0.0), free]), baseline="dense", price=1.0)
    assert cells(table, "d/free")["training FLOPs"] == "not available"


def test_matched_budgets_cut_the_dearer_arm() -> None:
    # At equal FLOPs or time the dense arm affords two of its four epochs: 20 points below its end.
    records = [trained("d/dense", 0, 0.8), trained("d/half", 0, 0.78, flops=50.0)]
    table = matched_table(Results(records), baseline="dense")
    assert cells(table, "d/half") == {
        "arm": "d/half",
        "equal epochs": "-2.0 points",
        "equal FLOPs": "18.0 points",
        "equal time": "18.0 points",
    }


def test_a_budget_is_cut_where_the_history_says_it_was_spent() -> None:
    """Epochs of unequal cost: by shares of the whole dense would afford one of its two, and it has paid for both."""
    dense, half = trained("d/dense", 0, 0.8, flops=100.0), trained("d/half", 0, 0.78, flops=99.999)
    for record, spent in ((dense, [50.0, 99.999, 100.0]), (half, [50.0, 75.0, 99.999])):
        record["history"] = {"validation_accuracy": [0.5, 0.6, 0.7], "flops": spent}
    assert cells(matched_table(Results([dense, half]), baseline="dense"), "d/half")["equal FLOPs"] == "10.0 points"


def test_a_cut_that_leaves_much_of_the_budget_is_no_comparison() -> None:
    """Dense pays 75 of the 90 that the other cost, as its next epoch would be one too many."""
    records = [trained("d/dense", 0, 0.8), trained("d/half", 0, 0.78, flops=90.0)]
    assert cells(matched_table(Results(records), baseline="dense"), "d/half")["equal FLOPs"] == "not available"
    records[1] = trained("d/half", 0, 0.78, flops=80.0)
    assert cells(matched_table(Results(records), baseline="dense"), "d/half")["equal FLOPs"] == "8.0 points"


def test_there_is_no_equal_time_where_trainings_shared_a_machine() -> None:
    records = [trained("d/dense", 0, 0.8), trained("d/half", 0, 0.78, flops=50.0, side_by_side=2)]
    assert matched_table(Results(records), baseline="dense").columns == ("arm", "equal epochs", "equal FLOPs")


def timed(seed: int, **ratios: float) -> dict[str, Any]:
    metrics = {f"time_ratio/d/{arm}": ratio for arm, ratio in ratios.items()}
    return synthetic.record("check/C9", seed, **metrics)


def test_steps_timed_alone_stand_in_for_the_seconds_of_a_shared_machine() -> None:
    busy = [trained("d/dense", 0, 0.8, side_by_side=2), trained("d/half", 0, 0.78, flops=50.0, side_by_side=2)]
    clocks = [timed(0, dense=1.0, half=0.7), timed(1, dense=1.0, half=0.8)]
    table = cost_table(Results([*busy, *clocks]), baseline="dense", price=1.0, timing="check/C9")
    assert not {"seconds", "joules", "money at 1 per GPU hour"} & set(table.columns)
    assert cells(table, "d/dense")["time, of steps alone"] == "100.0 %"
    assert cells(table, "d/half")["time, of steps alone"].startswith("74.8 % [")
    assert table.notes == ("Trainings shared the machine: time is that of their steps, timed alone.",)
    quiet = [trained("d/dense", 0, 0.8), trained("d/half", 0, 0.78, flops=50.0)]
    assert "seconds" in cost_table(Results([*quiet, *clocks]), baseline="dense", price=1.0, timing="check/C9").columns


def test_memory_on_a_cpu_is_counted() -> None:
    records = [trained("d/dense", 0, 0.8), trained("d/half", 0, 0.78)]
    for record, held in zip(records, (1000.0, 600.0), strict=True):
        record["device"] = "cpu"
        record["metrics"]["training_bytes"] = held
        record["cost"]["peak_bytes"] = 5_000_000
    table = cost_table(Results(records), baseline="dense", price=1.0)
    assert cells(table, "d/half")["held in training"] == "60.0 %" and "peak memory" not in table.columns
    for record in records:
        record["device"] = "cuda"
    assert cells(cost_table(Results(records), baseline="dense", price=1.0), "d/half")["peak memory"] == "100.0 %"


def test_matched_budgets_charge_the_search_first() -> None:
    # Budget 100; the ticket pays 50 for its search and affords two of four epochs.
    records = [trained("d/dense", 0, 0.8), trained("d/ticket", 0, 0.8, search=50.0)]
    table = matched_table(Results(records), baseline="dense")
    assert cells(table, "d/ticket")["equal FLOPs"] == "-20.0 points"
    dear = [trained("d/dense", 0, 0.8), trained("d/ticket", 0, 0.8, search=90.0)]
    assert cells(matched_table(Results(dear), baseline="dense"), "d/ticket")["equal FLOPs"] == "not available"


def interrupted(record: dict[str, Any], seconds: float) -> dict[str, Any]:
    record["cost"]["phases"]["lost"] = {"flops": 0, "seconds": seconds, "joules": None}
    record["cost"]["seconds"] += seconds
    return record


def test_what_an_interruption_threw_away_is_no_search_and_in_no_budget() -> None:
    calm = [trained("d/dense", 0, 0.8), trained("d/ticket", 0, 0.8, search=50.0)]
    other = [trained("d/dense", 0, 0.8), trained("d/ticket", 0, 0.8, search=50.0)]
    killed = [interrupted(record, seconds) for record, seconds in zip(other, (7.0, 15.0), strict=True)]
    tables = [matched_table(Results(records), baseline="dense") for records in (calm, killed)]
    assert tables[0].rows == tables[1].rows and cells(tables[0], "d/ticket")["equal time"] == "-20.0 points"
    assert costs.before(killed[1], "seconds") == 5.0
    assert cost_table(Results(killed), baseline="dense", price=1.0).notes == (
        "Of its seconds an arm lost by interruptions: d/dense 41.2 %, d/ticket 50.0 %.",
    )


def test_matched_budgets_without_history_are_not_available() -> None:
    records = [trained("d/dense", 0, 0.8), {**trained("d/half", 0, 0.8), "history": {}}]
    assert set(cells(matched_table(Results(records), baseline="dense"), "d/half").values()) == {
        "d/half",
        "not available",
    }


def test_matched_budgets_need_the_phase_of_training() -> None:
    bare = trained("d/half", 0, 0.8)
    bare["cost"]["phases"] = {}
    half = cells(matched_table(Results([trained("d/dense", 0, 0.8), bare]), baseline="dense"), "d/half")
    assert (half["equal epochs"], half["equal FLOPs"]) == ("0.0 points", "not available")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (1.234e12, "1.23 TB"), (5e21, "5e+03 EB")]
)
def test_scaled(value: float, text: str) -> None:
    assert scaled(value, "B") == text


def test_arms_table_shows_intervals_and_gaps() -> None:
    table = arms_table(Results(runs()), ["test_accuracy", "parameters", "q_ratio"], ["d/dense"])
    assert table.columns == ("arm", "n", "test accuracy (%)", "parameters", "constraints per parameter Q")
    assert table.rows == (("d/dense", "3", "81.0 [78.5, 83.5]", "100", "not available"),)
    with pytest.raises(ParameterError, match="Unknown arm 'd/dens'"):
        arms_table(Results(runs()), ["test_accuracy"], ["d/dens"])
