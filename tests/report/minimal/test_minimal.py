"""Figures and tables of paper 4, by their numbers."""

from __future__ import annotations

import pytest

from effi.claims import Results
from effi.errors import ParameterError, RecordError
from effi.report import minimal
from tests.claims.synthetic import arm, record


def test_parts_are_drawn_to_scale_with_their_totals() -> None:
    figure = minimal.stacked_parts({"a": {"x": 30, "y": 70}, "b": {"x": 10, "y": 0}}, title="Where?")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [30, 70, 10, 0]
    assert [bar.get_x() for bar in axes.patches] == [0, 30, 0, 10]
    assert [text.get_text() for text in axes.texts] == ["100", "10"]


def test_savings_are_shares_of_the_baseline_in_words() -> None:
    ratios = {"full": 1.0, "small": 0.5}
    metrics = {f"{kind}_ratio/{name}": r for kind in ("time", "flops", "parameters") for name, r in ratios.items()}
    results = Results(record("check/C11", repeat, slope=1.0, **metrics) for repeat in range(2))
    axes = minimal.savings_bars(results, title="What?", baseline="full").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["full", "small"]
    assert [bar.get_width() for bar in axes.patches] == [1.0] * 3 + [0.5] * 3
    assert [text.get_text() for text in axes.texts][3:] == ["parameters 0.500", "FLOPs 0.500", "time 0.500"]
    assert axes.get_xlabel() == "share of full"
    with pytest.raises(ParameterError, match="Unknown arm 'check/C11'"):
        minimal.savings_bars(Results([]), title="What?", baseline="full")


def test_attention_is_averaged_over_layers_and_seeds() -> None:
    records = arm("d/full", [1.0, 1.0])
    for place, one in enumerate(records):
        one["history"] = {f"layer_{fact}": [place, place + 1] for fact in minimal.attention.FACTS}
    assert minimal.attention_table(Results(records)).rows == (("d/full", *("1.00",) * 6),)
    with pytest.raises(RecordError, match="has a history of layer_symmetric_fraction"):
        minimal.attention_table(Results(arm("d/full", [1.0])))
