"""The numbers of data/papers/minimal.toml against the closed forms of the parameter count."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from effi import paths
from effi.claims import Results, judge, papers, stats
from effi.claims.papers import NOT_AVAILABLE, load
from effi.claims.stats import Claim, verdict
from tests.claims.synthetic import record

MINIMAL = load("minimal")
GROUPS = tomllib.loads(paths.paper_file("minimal").read_text())["groups"]
EXAMPLES = {"MNIST": 60_000, "CIFAR-10": 50_000}
# Variant -> (N x N attention matrices a layer, 1 with MLP).
VARIANTS = {
    "mlp": (4, 1),
    "mlp-wqk": (3, 1),
    "mlp-wqk-nowvwo": (1, 1),
    "nomlp": (4, 0),
    "nomlp-wqk": (3, 0),
    "minimum": (1, 0),
}
MODIFICATIONS = {"unchanged": 4, "Wqk": 3, "Wqk+noWvWo": 1}


def total(patch: int, layers: int, matrices: int, mlp: int, n: int = 60, f: int = 256) -> int:
    """Patch embedding, encoders with biased attention and two norms, head of ten classes."""
    layer = matrices * (n * n + n) + 4 * n + mlp * (2 * n * f + n + f)
    return patch * n + n + layers * layer + 10 * n + 10


def multiply_adds(matrices: int, mlp: int) -> int:
    """Forward of one CIFAR-10 image: 16 tokens of 192 values, N = 60, F = 256, six layers."""
    layer = 16 * (matrices * 60 * 60 + 2 * 16 * 60 + mlp * 2 * 60 * 256)
    return 16 * 192 * 60 + 6 * layer + 600


def reimplemented(data: str, layers: int, matrices: int, mlp: int) -> int:
    """Layout of the public reimplementation: N = F = 64, CLS token, 17 learned positions."""
    patch = {"MNIST": 49, "CIFAR-10": 192}[data]
    return total(patch, layers, matrices, mlp, 64, 64) + 17 * 64 + 64


def rows(table: str) -> list[Mapping[str, object]]:
    """Rows of a table as dictionaries."""
    content = MINIMAL.tables[table]
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


def test_printed_totals_follow_from_the_layout() -> None:
    printed = {name: number["value"] for name, number in MINIMAL.numbers.items()}
    assert printed["parameters_mlp_6"] == total(192, 6, 4, 1)
    assert printed["parameters_nomlp_6"] == total(192, 6, 4, 0)
    # At twelve encoders the paper prints 60 more with MLP, and a permutation of that sum's digits without.
    assert printed["parameters_mlp_12"] == total(192, 12, 4, 1) + 60
    assert sorted(str(printed["parameters_nomlp_12"])) == sorted(str(total(192, 12, 4, 0) + 60))


@pytest.mark.parametrize("row", rows("derived"), ids=lambda row: row["variant"])
def test_derived_parameters_ratios_and_shares(row: Mapping[str, float]) -> None:
    for data, patch in (("MNIST", 64), ("CIFAR-10", 192)):
        count, full = total(patch, 6, *VARIANTS[row["variant"]]), total(patch, 6, 4, 1)
        assert row[f"{data} P"] == count
        assert row[f"{data} Q"] == pytest.approx(EXAMPLES[data] * 10 / count, abs=0.005)
        assert row[f"{data} %"] == pytest.approx(100 * count / full, abs=0.05)


@pytest.mark.parametrize("row", rows("forward_cost"), ids=lambda row: row["variant"])
def test_forward_cost(row: Mapping[str, float]) -> None:
    matrices, mlp = VARIANTS[row["variant"]]
    assert row["multiply-adds"] == multiply_adds(matrices, mlp)
    assert row["% of full"] == pytest.approx(100 * row["multiply-adds"] / multiply_adds(4, 1), abs=0.05)
    share = total(192, 6, matrices, mlp) / total(192, 6, 4, 1)
    assert row["parameters, % of full"] == pytest.approx(100 * share, abs=0.05)


def test_reimplementation_totals_and_ratios() -> None:
    counted = 0
    for row in rows("reimplementation_variants"):
        if row["P"] == NOT_AVAILABLE:
            assert row["Q"] == NOT_AVAILABLE
            continue
        count = reimplemented(row["data"], 6, MODIFICATIONS[row["modification"]], row["MLP"] == "yes")
        assert row["P"] == count
        assert row["Q"] == pytest.approx(EXAMPLES[row["data"]] * 10 / count, abs=0.005)
        counted += 1
    assert counted == 15


def test_reimplementation_depths() -> None:
    for row in rows("reimplementation_depth"):
        count = reimplemented(row["data"], row["layers"], 4, row["MLP"] == "yes")
        if row["Q"] != NOT_AVAILABLE:
            assert row["Q"] == pytest.approx(EXAMPLES[row["data"]] * 10 / count, abs=0.005)
        assert 0 < row["train loss"] < 1.3 and 0 < row["validation loss"] < 1.3


def test_follow_up_holds_both_optimisers_of_each_variant() -> None:
    cells = [(row["data"], row["variant"]) for row in rows("follow_up")]
    assert len(cells) == 28 and all(cells.count(cell) == 2 for cell in cells)


def test_tables_are_rectangular_and_name_source_and_status() -> None:
    for table in MINIMAL.tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert table["status"] in ("secondary", "derived") and table["source"]


def test_minimum_keeps_the_shares_that_the_notes_give() -> None:
    limit = MINIMAL.numbers["minimum_share_6"]["value"] / 100
    mnist, cifar = (total(patch, 6, 1, 0) / total(patch, 6, 4, 1) for patch in (64, 192))
    assert mnist < limit < cifar
    assert "10.0 %" in MINIMAL.claims[0].notes[0] and "12.4 %" in MINIMAL.claims[0].notes[0]
    assert (round(100 * mnist, 1), round(100 * cifar, 1)) == (10.0, 12.4)


def test_fifteen_claims_in_order() -> None:
    assert [claim.id for claim in MINIMAL.claims] == [f"C{i}" for i in range(1, 16)]


def test_every_test_states_a_claim_that_can_be_judged() -> None:
    tests = [test for claim in MINIMAL.claims for tests in claim.tests.values() for test in tests]
    for test in (*tests, *(test for finding in MINIMAL.findings for test in finding.tests)):
        if test.rule != "discordance":
            margin, (low, high) = 1.0 if isinstance(test.margin, str) else test.margin, test.limits
            found = verdict([0.0, 0.1], Claim(test.rule, test.direction, margin, limits=(low, high)))
            assert found.direction in get_args(stats.Direction)


def test_without_records_nothing_is_settled() -> None:
    for row in judge("minimal", Results([])):
        for reading in papers.READINGS:
            assert (row.judgement(reading).here, row.judgement(reading).protocol) == ("not run", "not reached")
            assert row.judgement(reading).why.startswith("Not run: ")


def test_the_loss_of_the_minimum_on_mnist_is_told_by_one_claim_alone() -> None:
    # C5 says that it is higher, so that C10 cannot ask for no more of it.
    claims = {claim.id: claim for claim in MINIMAL.claims}
    for reading in papers.READINGS:
        higher = [test for test in claims["C5"].tests[reading] if test.metric.endswith("loss")]
        assert [(test.rule, test.direction, test.each["dataset"]) for test in higher] == [
            ("ordering", "higher", ("mnist",))
        ]
        asked = [test for test in claims["C10"].tests[reading] if test.metric.endswith("loss")]
        assert asked and all(test.each["dataset"] == ("cifar10",) for test in asked)


def timed(slope: float) -> list[dict[str, Any]]:
    """Two repeats of a timing in which time follows the parameters of five arms with this slope, but for some noise."""
    sizes = {"mlp-h1": 1.0, "nomlp-h1": 0.35, "nomlp-wqk-h1": 0.28, "nomlp-symmetric-h4": 0.28, "minimum": 0.12}
    noise = (0.0, 0.01, -0.01, 0.005, 0.0)
    metrics = {f"parameters_ratio/{name}": size for name, size in sizes.items()} | {
        f"time_ratio/{name}": 1 - slope * (1 - size) + error
        for (name, size), error in zip(sizes.items(), noise, strict=True)
    }
    control = {"time_ratio/mlp-small": 9.0, "parameters_ratio/mlp-small": 0.1}
    settings = {"paper_size": 1}
    return [record("check/C11", seed, settings=settings, **metrics, **control) for seed in (0, 1)]


@pytest.mark.parametrize(("slope", "here"), [(1.0, "for"), (0.81, "open"), (0.6, "against"), (1.5, "against")])
def test_proportional_is_a_slope_near_one_over_the_papers_arms(slope: float, here: str) -> None:
    row = next(row for row in judge(MINIMAL, Results(timed(slope))) if row.claim.id == "C11")
    assert row.as_in_the_paper.here == here
    deciding = row.as_in_the_paper.deciding
    assert deciding.verdict.n == 5 and deciding.verdict.mean == pytest.approx(slope, abs=0.02)
    assert row.as_in_the_paper.lacking == "2 seeds of 5, 5 arms of 12"


def test_every_data_set_and_arm_of_a_claim_has_a_name() -> None:
    named = {arm for group in ("parts", "reduced-h1", "reduced-h4") for arm in GROUPS[group]}
    assert named <= set(MINIMAL.names) and set(MINIMAL.datasets) <= set(MINIMAL.names)
    assert len(set(MINIMAL.names.values())) == len(MINIMAL.names)


def test_every_arm_has_its_own_colour() -> None:
    colours = papers.colours()
    assert [f"{{dataset}}/{name}" for name in GROUPS["parts"]] == GROUPS["variants"]
    assert len({colours[variant] for variant in GROUPS["parts"]}) == 12
