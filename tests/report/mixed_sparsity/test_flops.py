"""FLOPs by part and phase, and what they took, by numbers."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import Results
from effi.errors import ParameterError, RecordError
from effi.report import Table, mixed_sparsity
from tests.claims import synthetic
from tests.report.mixed_sparsity.synthetic import arm, counted, run

MST = arm("mst")


def test_bars_stack_the_parts_of_all_phases_and_tell_the_whole() -> None:
    records = [counted("mst"), counted("static", gradients=0.0)]
    figure = mixed_sparsity.ledger_bars(Results(records), [MST, arm("static")], title="Where?")
    square, causal = figure.axes
    widths = {axes: [bar.get_width() for bar in axes.patches] for axes in figure.axes}
    assert widths[square] == pytest.approx([0.12, 0.06, 0.2, 0.04, 0.12, 0.06, 0.2, 0.0])
    assert widths[causal] == pytest.approx([0.12, 0.06, 0.1, 0.04, 0.12, 0.06, 0.1, 0.0])
    assert [bar.get_x() for bar in square.patches[:4]] == pytest.approx([0, 0.12, 0.18, 0.38])
    assert [text.get_text() for text in square.texts] == ["0.420", "0.380"]
    assert [text.get_text() for text in causal.texts] == ["0.320", "0.280"]
    assert [line.get_xdata()[0] for line in square.lines if line.get_linestyle() == "--"] == [0.25]
    assert [tick.get_text() for tick in square.get_yticklabels()] == ["mst", "static"]
    parts = ["linears", "head", "attention", "dense gradients"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == parts
    assert "T² rule" in square.get_xlabel() and "half of T²" in causal.get_xlabel()


def test_bars_are_means_with_the_interval_of_the_whole() -> None:
    records = [counted("mst", seed, gradients=0.02 + 0.01 * seed) for seed in range(3)]
    axes = mixed_sparsity.ledger_bars(Results(records), [MST], conventions=["causal"], title="?").axes[0]
    assert axes.patches[3].get_width() == pytest.approx(0.06)
    # The whole rises by 0.02 a seed: half-width 4.303 x 0.02 / sqrt(3).
    low, high = axes.containers[-1].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((0.34 - 0.0497, 0.34 + 0.0497), abs=1e-4)
    assert [text.get_text() for text in axes.texts] == ["0.340"]


def test_the_ledger_has_both_ways_of_counting_and_sums_to_the_ratio() -> None:
    records = [counted("mst", seed, gradients=0.02 + 0.01 * seed) for seed in range(3)]
    table = mixed_sparsity.ledger_table(Results(records), MST)
    assert table.columns == ("phase", "part", "T² rule", "causal attention as half of T²")
    assert table.rows[2:4] == (("ultra", "attention", "10.00", "5.00"), ("ultra", "dense gradients", "3.00", "3.00"))
    assert len(table.rows) == 9 and table.rows[-1] == ("all", "all", "44.00", "34.00")


def test_arms_without_a_ledger_are_named() -> None:
    results = Results([run("mst", 0, 0.25, 3.0), synthetic.record(arm("other"))])
    with pytest.raises(RecordError, match="d/gpt/mst holds no ledger/square/"):
        mixed_sparsity.ledger_table(results, MST)
    with pytest.raises(RecordError, match="No finished arm holds flops_ratio/square"):
        mixed_sparsity.ledger_bars(results, [arm("other")], title="?")


def costing(name: str, seed: int, flops: float, paper: float, **cost: Any) -> dict[str, Any]:
    found = run(name, seed, paper, 3.0)
    found["cost"] |= {"flops": flops, "seconds": flops / 10, "phases": {"train": {"flops": flops}}} | cost
    return found


def cells(table: Table, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if row[0] == arm(name))
    return dict(zip(table.columns, row, strict=True))


def test_seconds_stand_beside_flops_on_paper_and_those_that_were_made() -> None:
    records = [costing("dense", seed, 100.0, 1.0) for seed in range(2)]
    records += [costing("mst", seed, 98.0, 0.25, seconds=10.0 + seed) for seed in range(2)]
    table = mixed_sparsity.seconds_table(Results(records), baseline="dense")
    on_paper = "FLOPs on paper (causal attention as half of T²)"
    assert table.columns == ("arm", on_paper, "FLOPs that the machine made", "seconds")
    assert cells(table, "dense") == dict(zip(table.columns, (arm("dense"), "100.0 %", "100 FLOP", "10 s"), strict=True))
    mst = cells(table, "mst")
    assert (mst[on_paper], mst["FLOPs that the machine made"]) == ("25.0 %", "98.0 %")
    # Geometric mean of 1.0 and 1.1.
    assert mst["seconds"].startswith("104.9 % [") and "save no time" in table.notes[0]
    square = mixed_sparsity.seconds_table(Results(records), baseline="dense", convention="square")
    assert cells(square, "mst")["FLOPs on paper (T² rule)"] == "22.5 %"


def test_on_a_shared_machine_steps_timed_alone_count_and_what_is_missing_is_said() -> None:
    records = [costing("dense", 0, 100.0, 1.0, side_by_side=2), costing("mst", 0, 98.0, 0.25, side_by_side=2)]
    del records[1]["metrics"]["flops_ratio/causal"]
    records.append(synthetic.record("check/C8", 0, **{"time_ratio/d/gpt/dense": 1.0, "time_ratio/d/gpt/mst": 1.2}))
    table = mixed_sparsity.seconds_table(Results(records), baseline="dense", timing="check/C8")
    assert table.columns[-1] == "time, of steps alone" and table.rows[1][1:] == ("not available", "98.0 %", "120.0 %")
    assert any("Trainings shared the machine" in note for note in table.notes)
    with pytest.raises(ParameterError, match="No arm is called 'full'"):
        mixed_sparsity.seconds_table(Results(records), baseline="full")
