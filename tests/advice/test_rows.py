"""From records to the table of advice: what is kept, what is saved, and whether it is worth it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effi.advice import page, rows
from effi.advice.advising import Advice
from effi.advice.methods import METHODS, Method
from effi.claims import Results, papers
from effi.report.instant_soup.kept import stored_bytes
from tests.claims import synthetic

MINIMAL, _, GROWTH, SOUP = METHODS["folder"]
GROUP = "mine/vit"


def trained(arm: str, seed: int, *, loss: float, seconds: float, **metrics: float) -> dict[str, Any]:
    found = synthetic.record(arm, seed, **{"test_loss": loss, "validation_loss": loss, "parameters": 1000.0} | metrics)
    found["cost"] |= {"flops": round(1000 * seconds), "seconds": seconds}
    return found


def read(method: Method, records: list[dict[str, Any]], *, margin: float | None = None, **how: Any) -> list[rows.Row]:
    paper = rows.with_margin(papers.load(method.paper), margin)
    return rows.rows_of(method, Results(records), paper, sunk=how.get("sunk", False), seconds=60.0)


def texts(saved: float, lost: float, seeds: int = 3) -> list[dict[str, Any]]:
    """Dense training of 100 s and one of half of the tokens; the seeds scatter a little."""
    found = []
    for seed in range(seeds):
        jitter = 0.001 * seed
        found.append(trained("mine/gpt/dense", seed, loss=3.0, seconds=100.0))
        found.append(trained("mine/gpt/dense-half", seed, loss=3.0 + lost + jitter, seconds=100 * (1 - saved) + jitter))
    return found


SPARSE = METHODS["text"][0]


@pytest.mark.parametrize(
    ("saved", "lost", "verdict"),
    [
        (0.4, 0.001, "worth it"),
        (0.4, 0.5, "not worth it"),
        (-0.2, 0.0, "not worth it"),
        (0.4, 0.0195, "cannot be told"),
    ],
)
def test_what_saves_and_keeps_is_worth_it(saved: float, lost: float, verdict: str) -> None:
    (row,) = read(SPARSE, texts(saved, lost), margin=0.02)
    assert row.verdict == verdict and row.arm == "mine/gpt/dense-half"
    assert row.gain == pytest.approx(100 * saved, abs=0.01) and row.saved.startswith(f"{100 * saved:.1f} % [")
    assert row.memory == "100 %" and "test loss" in row.kept


def test_a_margin_of_ones_own_decides() -> None:
    (row,) = read(SPARSE, texts(0.4, 0.5), margin=0.6)
    assert row.verdict == "worth it"


def test_one_seed_says_how_many_more_and_how_long_they_take() -> None:
    (row,) = read(SPARSE, texts(0.4, 0.0, seeds=1))
    assert (row.verdict, row.more) == ("cannot be told", "2 more seeds, about 2 min 00 s")
    assert row.cells[-1] == "cannot be told: 2 more seeds, about 2 min 00 s"
    assert row.why == "mine/gpt: of 1 seed nothing is sure"


def test_without_its_baseline_a_method_has_no_row() -> None:
    assert read(SPARSE, []) == [] and read(SPARSE, [trained("mine/gpt/mst", 0, loss=3.0, seconds=1.0)]) == []


def grown(net: float, gross: float, reached: float = 1.0) -> list[dict[str, Any]]:
    found = []
    for seed in range(3):
        found += [trained(f"{GROUP}/{arm}", seed, loss=2.0, seconds=50.0) for arm in ("scratch", "copy")]
        metrics = {f"reached/final/{GROUP}/{arm}": 1.0 for arm in ("scratch", "copy")}
        metrics[f"reached/final/{GROUP}/copy"] = reached
        jitter = 0.001 * seed
        metrics[f"net_saving_seconds/final/{GROUP}/copy"] = net + jitter
        metrics[f"saving_seconds/final/{GROUP}/copy"] = gross + jitter
        found.append(synthetic.record("check/savings", seed, **metrics))
    return found


def test_growth_pays_net_of_its_source_unless_that_is_there_already() -> None:
    (row,) = read(GROWTH, grown(net=-0.2, gross=0.3))
    assert row.verdict == "not worth it" and row.gain == pytest.approx(-19.9)
    (row,) = read(GROWTH, grown(net=-0.2, gross=0.3), sunk=True)
    assert row.verdict == "worth it" and row.saved.startswith("30.1 % [")


def test_growth_that_is_never_as_good_is_not_said_to_save() -> None:
    records = grown(net=0.2, gross=0.3, reached=0.0)
    for record in records:
        for name in [name for name in record["metrics"] if name.endswith("saving_seconds/final/mine/vit/copy")]:
            del record["metrics"][name]
    (row,) = read(GROWTH, records)
    assert row.verdict == "cannot be told" and row.saved == "not reached"


def test_a_mask_is_stored_in_a_bit_a_weight() -> None:
    dense = {"parameters": 1000.0, "prunable": 800.0, "alive": 1.0}
    assert stored_bytes(dense) == 4000
    assert stored_bytes(dense | {"alive": 0.5}) == 4 * 600 + 100


def test_the_sentence_takes_the_best_that_pays() -> None:
    (pays,), (loses,), (open_,) = (
        read(SPARSE, texts(*each), margin=0.02) for each in ((0.4, 0.001), (0.4, 0.5), (0.4, 0.0195))
    )
    better = replace(pays, arm="mine/gpt/mst", gain=60.0, saved="60.0 %")
    assert rows.recommendation([pays, loses, better]).startswith("Take mine/gpt/mst (")
    assert rows.recommendation([loses]) == "Train as you do: no method that was tried pays on this data."
    assert rows.recommendation([open_]) == "Nothing can be told in this time; until it can, train as you do."
    assert "it cannot be told yet" in rows.recommendation([open_, loses])
    told = rows.table([loses, open_, pays], "t")
    assert [row[-1].partition(":")[0] for row in told.rows] == ["worth it", "cannot be told", "not worth it"]


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "results" / "cpu" / "minimal" / "figures"
    figures.mkdir(parents=True)
    (figures / "pareto_mine.png").write_bytes(b"\x89PNG")
    (figures / "curves_mine.png").write_bytes(b"\x89PNG")
    (row,) = read(SPARSE, texts(0.4, 0.001))
    said = ("2 files are <odd>.",)
    advice = Advice("Take it.", rows.table([row], "A table"), said, tmp_path / "results", ("minimal",), "A <model>.")
    text = page.save(advice, tmp_path).read_text("utf-8")
    assert "<p>A &lt;model&gt;.</p>" in text
    assert "<h1>Take it.</h1>" in text and "&lt;odd&gt;" in text and "worth it" in text
    assert text.count("<img") == 1 == text.count('src="data:image/png;base64,iVBORw==') and "pareto mine" in text
    assert "http" not in text and "<script" not in text
