"""All figures and tables read what an arm of this paper records."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from effi.claims import Results
from effi.mixed_sparsity.cold_start import ColdStart
from effi.mixed_sparsity.outcome import curves, outcome
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import Dense, Recipe, mst
from effi.records.identity import canonical
from effi.report import mixed_sparsity
from tests.claims import synthetic
from tests.mixed_sparsity.toy import task
from tests.report.mixed_sparsity.synthetic import arm

RECIPES: dict[str, Recipe] = {
    "dense-quarter": Dense(0.25),
    "dense": Dense(),
    "mst": ColdStart(**vars(mst(2, Pattern("merged", 4)))),
}
MST = arm("mst")


def record(name: str, recipe: Recipe) -> dict[str, Any]:
    one = task()
    found = recipe(one)
    made = synthetic.record(arm(name), settings={"recipe": canonical(recipe)}, **outcome(one, found).metrics)
    return made | {"history": curves(one, found), "cost": {**made["cost"], **one.ledger.total()}}


@cache
def results() -> Results:
    return Results(record(name, recipe) for name, recipe in RECIPES.items())


def test_figures() -> None:
    found, dense = results(), [arm("dense-quarter"), arm("dense")]
    figures = {
        "losses": mixed_sparsity.loss_curves(found, [*dense, MST], title="?"),
        "equal": mixed_sparsity.equal_loss(found, MST, dense, title="?"),
        "course": mixed_sparsity.sparsity_course(found, [MST], title="?"),
        "turnover": mixed_sparsity.turnover_curves(found, [MST], title="?"),
        "cold": mixed_sparsity.cold_start({0.95: mixed_sparsity.moves(found, MST)}, title="?"),
        "ledger": mixed_sparsity.ledger_bars(found, [*dense, MST], title="?"),
    }
    kinds = {"head and embedding", "queries, keys, values", "attention output", "feed-forward", "target"}
    assert kinds <= {text.get_text() for text in figures["course"].axes[0].texts}
    bars = {text.get_text().rsplit(" ", 1)[0] for text in figures["turnover"].axes[2].texts}
    assert bars == {"by gradient", "at random"}


def test_tables() -> None:
    ledger, ratio = mixed_sparsity.ledger_table(results(), MST), results().values(MST, "flops_ratio/causal")[0]
    assert len(ledger.rows) == 3 * 4 + 1 and float(ledger.rows[-1][-1]) == pytest.approx(100 * ratio, abs=0.005)
    rows = {row[0]: row[1:] for row in mixed_sparsity.seconds_table(results(), baseline="dense").rows}
    assert rows[MST][0] == f"{100 * ratio:.1f} %" and rows[arm("dense-quarter")][0] == "25.0 %"
