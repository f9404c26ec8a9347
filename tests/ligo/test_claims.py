"""data/papers/ligo.toml: its numbers against closed forms, and each claim on records made up for it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest

from effi.claims import ClaimRow, Results, judge, papers, stats
from effi.claims.papers import NOT_AVAILABLE, Reading, load
from effi.claims.stats import Claim, verdict
from effi.ligo.flops import bert, growth_step
from effi.ligo.reaching import METHOD, OWN_RIVALS, RIVALS, SCRATCH, TARGETS, saved
from effi.ligo.savings import savings
from effi.mixed_sparsity import counting
from tests.claims.synthetic import record

LIGO = load("ligo")
PAIR = "wikipedia/bert"
FULL = {
    "training": {"steps": 400_000, "epochs": 300},
    "data": {"subset": {"whole": 1}},
    "model": {"full": 1},
    "full": 1,
}
LOSSES = ("half", "late", "final")


def rows(table: str) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries."""
    content = LIGO.tables[table]
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


# --- numbers -------------------------------------------------------------------------------------------------

SMALL, BASE = bert(6, 512), bert(12, 768)
STEP, GROWTH = BASE.step(256), growth_step(SMALL, BASE, 256)
REFERENCE = LIGO.numbers["scratch_flops"]["value"] / STEP


@pytest.mark.parametrize("row", rows("flops"), ids=lambda row: f"{row['layers']}x{row['width']}")
def test_flops_of_the_table_are_counted(row: Mapping[str, Any]) -> None:
    assert row["FLOPs"] == bert(row["layers"], row["width"]).step(256)
    assert row["of BERT-Base"] == pytest.approx(row["FLOPs"] / STEP, abs=5e-5)


def test_growth_is_charged_in_three_ways() -> None:
    for row, charge in zip(rows("growth_flops"), ("sequence", "batch", "ours"), strict=True):
        found = growth_step(SMALL, BASE, 256, charge)  # type: ignore[arg-type]
        assert row["FLOPs of 100 steps, 1e15"] == pytest.approx(100 * found / 1e15, abs=5e-4)
        assert row["above plain steps %"] == pytest.approx(100 * (found / STEP - 1), abs=0.05)


def test_table_3_gives_the_savings_that_the_paper_prints_and_those_that_it_does_not() -> None:
    for row, told in zip(rows("steps"), rows("steps_saved"), strict=True):
        count = row["growth steps"]
        assert row["FLOPs added, 1e15"] == pytest.approx(count * GROWTH / 1e15, abs=0.0051)
        found = savings(1000 * row["main steps, K"], REFERENCE, STEP, growth_flops=count * GROWTH)
        assert (told["growth steps"], told["saved %"]) == (count, pytest.approx(100 * found, abs=0.005))
    told = {row["growth steps"]: row["saved %"] for row in rows("steps_saved")}
    assert all(told[count] == pytest.approx(printed, abs=0.055) for count, printed in ((100, 44.7), (1000, 44.2)))
    assert round(REFERENCE / 1000) == 389


def test_charging_the_source_leaves_what_the_table_says() -> None:
    scratch = LIGO.numbers["scratch_flops"]["value"]
    shares = {name: 100 * LIGO.numbers[name]["value"] * SMALL.step(256) / scratch for name in SOURCES}
    assert {name: round(share, 1) for name, share in shares.items()} == SOURCES
    gross = {row["method"]: row["FLOPs saved %"] for row in rows("bert")}
    for row in rows("net"):
        assert row["saved %, source charged"] == pytest.approx(row["saved %, source free"] - row["source %"])
        assert row["source %"] in (0.0, *SOURCES.values())
        assert gross.get(row["method"], 35.2) == row["saved %, source free"]
    ranked = sorted(rows("net"), key=lambda row: -row["saved %, source charged"])
    assert [row["method"] for row in ranked[:2]] == ["MSLT", "StackBERT"]


SOURCES = {"source_steps": 18.7, "early_source_steps": 4.2}


def test_claims_print_what_the_tables_hold() -> None:
    gross = {(row["small"], row["large"]): row["FLOPs saved %"] for row in rows("growth")}
    assert gross["BERT-Small, 220 K steps", "BERT-Base"] == rows("bert")[5]["FLOPs saved %"] == 44.7
    assert gross["DeiT-S", "DeiT-B"] == rows("deit")[-1]["FLOPs saved %"] == 55.4
    printed = {claim.id: claim.paper for claim in LIGO.claims}
    for name, values in {"C1": (44.7, 40.7), "C7": (51.7, 41.6), "C8": (55.4, 52.6, 47.2, 44.7, 22.5)}.items():
        assert all(f"{value} %" in printed[name] for value in values)
        assert {*values} <= {cell for row in rows("growth") for cell in row.values()}
    assert printed["C10"] == NOT_AVAILABLE and "26.0 %" in printed["C11"]


def test_averages_of_table_1_follow_from_its_columns_but_for_two() -> None:
    tasks = ("SST-2", "MNLI", "MRPC", "CoLA", "QNLI", "QQP", "STS-B")
    for row in rows("bert"):
        assert row["GLUE average"] == pytest.approx(np.mean([row[task] for task in tasks]), abs=0.01)
    off = []
    for row in rows("bert")[:6]:
        scores = [row[name].split("/") for name in ("SQuAD1.1 F1/EM", "SQuAD2.0 F1/EM", "SQuAD average")]
        one, two, mean = np.array(scores, dtype=float)
        off += [row["method"]] if np.abs((one + two) / 2 - mean).max() > 0.0051 else []
    assert off == ["scratch", "MSLT"]


def test_sizes_of_the_operator_follow_from_its_shapes() -> None:
    for row in rows("operator"):
        (l1, d1), (l2, d2) = (map(int, row[side].split(" (")[0].split(" x ")) for side in ("small", "large"))
        shared = 1 if "without C_cls" in row["small"] else 2
        new = (d2 - d1) * d1
        assert row["width"] == shared * new + l2 * (3 * new + 16 * new)
        assert row["depth"] == 16 * l1 * l2


def test_rates_of_the_released_recipe_sum_to_the_table() -> None:
    released, mended = rows("released")
    rates = [2e-4 * t / 10_000 for t in range(100)]
    assert (released["highest rate"], released["sum of rates"]) == (pytest.approx(rates[-1]), pytest.approx(sum(rates)))
    linear = [2e-4 * (1 - t / 100) for t in range(100)]
    assert (mended["highest rate"], mended["sum of rates"]) == (linear[0], pytest.approx(sum(linear)))
    assert released["typical main depth weight"] == pytest.approx(1 / (1 + 0.015 * 5), abs=0.005)


def test_tables_are_rectangular_and_name_source_and_status() -> None:
    for table in LIGO.tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert len(set(table["columns"])) == len(table["columns"])
        assert table["status"] in ("paper", "secondary", "derived", "unknown") and table["source"]


# --- the file ------------------------------------------------------------------------------------------------


def all_tests() -> list[papers.Comparison]:
    return [test for claim in LIGO.claims for tests in claim.tests.values() for test in tests]


def test_eleven_claims_in_order_each_with_both_readings() -> None:
    assert [claim.id for claim in LIGO.claims] == [f"C{i}" for i in range(1, 12)]
    assert all(claim.tests[reading] for claim in LIGO.claims for reading in papers.READINGS)


def test_every_test_states_a_claim_that_can_be_judged_and_asks_for_the_protocol() -> None:
    for test in all_tests():
        assert test.full and test.full["seeds"] == 3
        margin = 1.0 if isinstance(test.margin, str) else test.margin
        found = verdict([0.0, 0.1], Claim(test.rule, test.direction, margin, refuted=test.refuted))
        assert found.direction in get_args(stats.Direction)


def test_without_records_nothing_is_settled() -> None:
    for row in judge(LIGO, Results([])):
        for reading in papers.READINGS:
            assert (row.judgement(reading).here, row.judgement(reading).protocol) == ("not run", "not reached")


def test_every_arm_data_set_and_rival_has_a_name_and_a_colour_of_its_own() -> None:
    named = set(LIGO.names)
    assert {SCRATCH, METHOD, *RIVALS} <= named and set(OWN_RIVALS) < set(RIVALS)
    listed = {
        value
        for test in all_tests()
        for each in (test.each, test.among)
        for values in each.values()
        for value in values
    }
    transfers = {value for test in all_tests() for key in ("task", "set") for value in test.among.get(key, ())}
    assert listed - transfers - set(TARGETS) <= named
    assert len(set(LIGO.names.values())) == len(LIGO.names)
    places = {"wikipedia", "c4", "imagenet", "gpt", "vit", "bert", *counting.KINDS}
    places |= {each for values in LIGO.stand_ins.values() for each in values}
    own = {name: papers.colours()[name] for name in named - places}
    assert len(set(own.values())) == len(own) == 42


def filled(metric: str) -> str:
    """A metric of records of savings, for LiGO on the one pair."""
    places = dict.fromkeys(("dataset", "images", "web"), "wikipedia") | dict.fromkeys(("arm", "rival"), METHOD)
    text = metric.format(model="bert", target="half", **places)
    return re.sub(r"/(bert|gpt|vit)(/[\w-]+)?$", lambda found: "/bert" + (f"/{METHOD}" if found[2] else ""), text)


def test_metrics_that_claims_read_are_those_that_records_of_savings_hold() -> None:
    scratch, ligo = curves(0.3)
    rival = ligo | {"variant": "aki", "arm": f"{PAIR}/aki"}
    for arm in (scratch, ligo):
        arm["history"]["validation_accuracy"] = [-loss for loss in arm["history"]["validation_loss"]]
    held = saved([scratch, ligo, rival, clock()])
    metrics = {metric for test in all_tests() if test.a == "check/savings" for metric in test.metrics}
    read = {filled(part) for metric in metrics for part in metric.split(" - ")}
    assert len(read) > 10 and read <= held.keys()


# --- claims on records made up for them ----------------------------------------------------------------------


def noise(name: str, size: float = 0.003) -> np.ndarray:
    """Three seeds' scatter around nothing."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(scale=size, size=3)
    return drawn - drawn.mean()


def facts(values: Mapping[str, float], *, arm: str = "check/savings", size: float = 0.003) -> list[dict[str, Any]]:
    """Three seeds of a record; savings and scores scatter, what is counted does not."""
    made = [record(arm, seed, settings=FULL) for seed in range(3)]
    for name, value in values.items():
        exact = name.startswith(("reached/", "rivals/", "own_rivals/"))
        for row, shift in zip(made, noise(arm + name, size), strict=True):
            row["metrics"][name] = value + (0 if exact else float(shift))
    return made


def of_arm(
    arm: str, saving: float, *, net: float | None = None, group: str = PAIR, targets: tuple[str, ...] = tuple(TARGETS)
) -> dict[str, float]:
    """Metrics of an arm that reached its targets with these savings by every account."""
    found = {f"reached/{target}/{group}/{arm}": 1.0 for target in targets}
    for target in targets:
        for account in ("flops", "paper_flops", "seconds"):
            found[f"saving_{account}/{target}/{group}/{arm}"] = saving
            found[f"net_saving_{account}/{target}/{group}/{arm}"] = saving - 0.187 if net is None else net
    return found


def judged(name: str, records: list[dict[str, Any]]) -> ClaimRow:
    return next(row for row in judge(LIGO, Results(records)) if row.claim.id == name)


def both(row: ClaimRow) -> tuple[str, str]:
    return row.as_in_the_paper.here, row.fair.here


def lacking(records: list[dict[str, Any]], arm: str, target: str = "final", seed: int = 2) -> list[dict[str, Any]]:
    """The same where one seed did not reach a target."""
    own = records[seed]["metrics"]
    place = f"/{target}/{PAIR}/{arm}"
    kept = {key: value for key, value in own.items() if not key.endswith(place)} | {f"reached{place}": 0.0}
    return [*records[:seed], records[seed] | {"metrics": kept}, *records[seed + 1 :]]


SIGNS = [(0.2, "for"), (0.0, "open"), (-0.2, "against")]


@pytest.mark.parametrize(("saving", "here"), SIGNS)
def test_growing_saves_where_the_interval_lies_above_nothing(saving: float, here: str) -> None:
    row = judged("C1", facts(of_arm("ligo", saving)))
    assert both(row) == (here, here)
    assert row.as_in_the_paper.protocol == {"for": "reproduced", "open": "open", "against": "not reproduced"}[here]


def test_flops_and_seconds_are_judged_apart() -> None:
    metrics = of_arm("ligo", 0.3) | {f"saving_seconds/final/{PAIR}/ligo": -0.1}
    row = judged("C1", facts(metrics))
    assert both(row) == ("against", "against")
    assert [each.verdict.direction for each in row.fair.evidence if each.verdict] == ["for", "for", "against"]
    without = {name: value for name, value in metrics.items() if "seconds" not in name}
    assert both(judged("C1", facts(without))) == ("open", "open")


def test_a_saving_is_told_in_percent_of_what_scratch_costs() -> None:
    row = judged("C1", facts(of_arm("ligo", -0.2)))
    assert row.fair.deciding is not None and row.fair.deciding.shown.startswith("-20.0 % [-2")
    assert "share of scratch's" in row.fair.why


ONCE: list[tuple[str, dict[str, float]]] = [
    ("C1", {"ligo": 0.3}),
    ("C6", {"ligo": 0.5, "ligo-early": 0.3, "ligo-larger": 0.7}),
    ("C7", {"ligo-depth": 0.5, "ligo-width": 0.3}),
    ("C9", {"ligo": 0.3, "ligo-layerdrop": 0.4, "ligo-tokendrop": 0.4, "ligo-staged": 0.4}),
    ("C10", {"ligo": 0.4, "ligo-0": 0.3}),
    ("C11", {"ligo": 0.4}),
]


@pytest.mark.parametrize(("name", "arms"), ONCE)
def test_what_one_seed_does_not_reach_leaves_a_claim_open(name: str, arms: dict[str, float]) -> None:
    metrics = {key: value for arm, saving in arms.items() for key, value in of_arm(arm, saving).items()}
    whole = facts(metrics)
    assert judged(name, whole).as_in_the_paper.here == "for"
    for arm in arms:
        row = judged(name, lacking(whole, arm))
        assert row.as_in_the_paper.here == "open" and row.as_in_the_paper.protocol == "not reached"


def test_what_no_seed_reaches_is_open_and_said_to_be_not_reached() -> None:
    never = facts({f"reached/{target}/{PAIR}/ligo": 0.0 for target in TARGETS})
    row = judged("C1", never)
    assert both(row) == ("open", "open")
    assert "whether the target was reached" in row.fair.why and "0 at every seed" in row.fair.why


# --- C2 ------------------------------------------------------------------------------------------------------


def leads(lead: float, *, net: float | None = None, own: int = 4, every: int = 11) -> dict[str, float]:
    found = of_arm("ligo", 0.4) | {f"own_rivals/{PAIR}": own, f"rivals/{PAIR}": every}
    for target in LOSSES:
        found |= {f"lead_paper_flops/{target}/{PAIR}": lead}
        found |= {f"net_lead_flops/{target}/{PAIR}": lead if net is None else net}
    return found


@pytest.mark.parametrize(("lead", "here"), SIGNS)
def test_ligo_leads_at_every_target_or_not(lead: float, here: str) -> None:
    assert both(judged("C2", facts(leads(lead)))) == (here, here)
    at_one = leads(0.2) | {f"{kind}/half/{PAIR}": lead for kind in ("lead_paper_flops", "net_lead_flops")}
    assert both(judged("C2", facts(at_one))) == (here, here)


def test_with_sources_charged_another_may_lead() -> None:
    assert both(judged("C2", facts(leads(0.1, net=-0.09)))) == ("for", "against")


@pytest.mark.parametrize(
    ("own", "every", "here"), [(3, 11, ("open", "for")), (0, 2, ("open", "for")), (0, 1, ("open", "open"))]
)
def test_a_lead_over_few_rivals_is_none(own: int, every: int, here: tuple[str, str]) -> None:
    assert both(judged("C2", facts(leads(0.2, own=own, every=every)))) == here


def test_a_lead_at_a_target_that_was_not_reached_is_none() -> None:
    whole = facts(leads(0.2))
    found = lacking(whole, "ligo", "late")
    del found[2]["metrics"][f"lead_paper_flops/late/{PAIR}"], found[2]["metrics"][f"net_lead_flops/late/{PAIR}"]
    assert both(judged("C2", found)) == ("open", "open")


# --- C3, C5: transfers ---------------------------------------------------------------------------------------

TASKS = ("sst2", "mrpc", "cola", "stsb", "rte")


def transfers(kind: str, points: float) -> dict[str, float]:
    return {f"{kind}/{task}": points + 3 * place for place, task in enumerate(TASKS)}


def transferred(gap: float, *, source: float = -3.0, images: float = 0.0) -> list[dict[str, Any]]:
    """Scratch has 80 points, LiGO a gap more, its source more or fewer; images, too."""
    records = facts(transfers("transfer", 80.0), arm=f"{PAIR}/scratch", size=0.1)
    grown = transfers("transfer", 80.0 + gap) | transfers("source_transfer", 80.0 + source)
    records += facts(grown, arm=f"{PAIR}/ligo", size=0.1)
    for arm, more in (("scratch", 0.0), ("ligo", images)):
        records += facts({"transfer/cifar10": 95.0 + more}, arm=f"imagenet/vit/{arm}", size=0.02)
    return records


@pytest.mark.parametrize(("gap", "here"), [(0.0, "for"), (0.5, "open"), (1.5, "against"), (-1.5, "against")])
def test_transfer_is_neither_lost_nor_gained(gap: float, here: str) -> None:
    assert both(judged("C3", transferred(gap))) == (here, here)


def test_images_transfer_in_the_papers_reading() -> None:
    assert both(judged("C3", transferred(0.0, images=-2.0))) == ("against", "for")
    texts = [each for each in transferred(0.0) if "vit" not in each["arm"]]
    assert both(judged("C3", texts)) == ("open", "for")


@pytest.mark.parametrize(("source", "here"), [(-3.0, "for"), (0.0, "open"), (3.0, "against")])
def test_parity_says_little_where_the_source_transfers_as_well(source: float, here: str) -> None:
    assert both(judged("C3", transferred(0.0, source=source))) == ("for", here)


def test_tasks_that_did_not_run_are_told() -> None:
    records = transferred(0.0)
    for row in records:
        row["metrics"] = {name: value for name, value in row["metrics"].items() if not name.endswith(("cola", "rte"))}
    found = judged("C3", records).fair
    assert found.here == "for" and "3 arms of 5" in found.lacking


def at_once(gain: float, start: float = 2.5, unlearned: float = 3.0) -> list[dict[str, Any]]:
    grown = transfers("grown_transfer", 70.0 + gain) | transfers("source_transfer", 70.0)
    records = facts(grown | {"start_loss": start}, arm=f"{PAIR}/ligo", size=0.05)
    return records + facts({"start_loss": unlearned}, arm=f"{PAIR}/ligo-0", size=0.05)


@pytest.mark.parametrize(("gain", "here"), [(0.66, "for"), (0.0, "open"), (-0.66, "against")])
def test_what_was_grown_is_better_than_its_source_at_once(gain: float, here: str) -> None:
    assert both(judged("C5", at_once(gain))) == (here, here)


@pytest.mark.parametrize(("start", "here"), [(2.5, "for"), (3.0, "open"), (3.5, "against")])
def test_learning_lowers_the_loss_right_after_growth(start: float, here: str) -> None:
    assert both(judged("C5", at_once(0.66, start))) == ("for", here)


# --- C4 ------------------------------------------------------------------------------------------------------


def budgets(ten: float, many: float) -> list[dict[str, Any]]:
    """Intervals of evaluation until the target: 20 with 100 growth steps."""
    metrics = {f"reached/final/{PAIR}/{arm}": 1.0 for arm in ("ligo", "ligo-10", "ligo-500")}
    metrics |= {
        f"evaluations/final/{PAIR}/{arm}": n for arm, n in (("ligo", 20.0), ("ligo-10", ten), ("ligo-500", many))
    }
    return facts(metrics, size=0.05)


@pytest.mark.parametrize(
    ("ten", "many", "here"),
    [
        (20.0, 20.2, ("for", "for")),
        (24.0, 20.2, ("for", "against")),
        (21.0, 20.2, ("for", "open")),
        (20.0, 21.0, ("open", "open")),
        (20.0, 16.0, ("against", "against")),
    ],
)
def test_growth_steps_hardly_matter_within_an_evaluation(ten: float, many: float, here: tuple[str, str]) -> None:
    row = judged("C4", budgets(ten, many))
    assert both(row) == here
    assert not row.as_in_the_paper.reached or here[0] == "against"


def test_equal_steps_to_what_was_not_reached_are_open() -> None:
    records = budgets(20.0, 20.0)
    for row in records:
        del row["metrics"][f"evaluations/final/{PAIR}/ligo-500"]
        row["metrics"][f"reached/final/{PAIR}/ligo-500"] = 0.0
    assert both(judged("C4", records)) == ("open", "open")


def test_where_one_budget_alone_was_trained_growth_steps_are_not_judged() -> None:
    records = budgets(20.0, 20.0)
    for row in records:
        for name in [name for name in row["metrics"] if name.endswith(("ligo-10", "ligo-500"))]:
            del row["metrics"][name]
    assert both(judged("C4", records)) == ("not run", "not run")


# --- C6 to C11 -----------------------------------------------------------------------------------------------


def two(
    arm: str, saving: float, other: str, against: float, *, beside: dict[str, float] | None = None, **net: float
) -> list[dict[str, Any]]:
    own, theirs = (
        of_arm(name, each, net=net.get(key)) for name, each, key in ((arm, saving, "a"), (other, against, "b"))
    )
    return facts(own | theirs | (beside or {}))


@pytest.mark.parametrize(("more", "here"), SIGNS)
def test_a_better_source_saves_more(more: float, here: str) -> None:
    larger = of_arm("ligo-larger", 0.9)
    assert both(judged("C6", two("ligo", 0.3 + more, "ligo-early", 0.3, beside=larger))) == (here, here)


@pytest.mark.parametrize(("more", "here"), SIGNS)
def test_a_larger_source_saves_more(more: float, here: str) -> None:
    early = of_arm("ligo-early", 0.1)
    assert both(judged("C6", two("ligo-larger", 0.3 + more, "ligo", 0.3, beside=early))) == (here, here)


def test_the_papers_own_sources_rank_the_other_way_once_they_are_charged() -> None:
    larger = of_arm("ligo-larger", 0.9)
    row = judged("C6", two("ligo", 0.447, "ligo-early", 0.352, a=0.260, b=0.310, beside=larger))
    assert both(row) == ("for", "against") and not row.as_in_the_paper.reached


def alone(depth: float, width: float, **rivals: float) -> list[dict[str, Any]]:
    known = {"stack-depth": 0.1, "interpolate-depth": 0.1, "copy-width": 0.1, "fpi-width": 0.1, "aki-width": 0.1}
    savings = {"ligo-depth": depth, "ligo-width": width, **known, **{k.replace("_", "-"): v for k, v in rivals.items()}}
    return facts({key: value for arm, saving in savings.items() for key, value in of_arm(arm, saving).items()})


@pytest.mark.parametrize(("width", "here"), SIGNS)
def test_depth_and_width_each_save(width: float, here: str) -> None:
    assert both(judged("C7", alone(0.3, width))) == (here, "for" if here == "for" else "against")
    assert both(judged("C7", alone(width, 0.3)))[0] == here


@pytest.mark.parametrize(("stack", "here"), [(0.1, "for"), (0.3, "open"), (0.5, "against")])
def test_depth_alone_is_held_against_stacking(stack: float, here: str) -> None:
    assert both(judged("C7", alone(0.3, 0.3, stack_depth=stack))) == ("for", here)
    assert both(judged("C7", alone(0.3, 0.3, aki_width=stack))) == ("for", here)


def test_rivals_in_width_that_were_not_trained_leave_the_ranking_open() -> None:
    records = alone(0.3, 0.3)
    for row in records:
        row["metrics"] = {name: value for name, value in row["metrics"].items() if not name.endswith("aki-width")}
    assert both(judged("C7", records)) == ("for", "open")


GROUPS = ("imagenet/vit", "wikipedia/bert", "c4/gpt")


def across(*savings: float, sets: tuple[str, ...] = GROUPS) -> list[dict[str, Any]]:
    pairs = zip(sets, savings, strict=True)
    return facts({key: value for group, each in pairs for key, value in of_arm("ligo", each, group=group).items()})


@pytest.mark.parametrize(
    ("savings", "here"),
    [
        ((0.55, 0.45, 0.22), "for"),
        ((0.55, 0.45, 0.0), "open"),
        ((0.55, 0.45, -0.2), "against"),
        ((0.45, 0.45, 0.22), "open"),
        ((0.3, 0.45, 0.22), "against"),
        ((0.55, 0.22, 0.45), "against"),
    ],
)
def test_architectures_save_in_the_papers_order(savings: tuple[float, ...], here: str) -> None:
    row = judged("C8", across(*savings))
    assert both(row) == (here, here) and not row.as_in_the_paper.reached


def test_images_are_read_by_accuracy_as_in_the_paper_and_by_loss_fairly() -> None:
    records = across(0.55, 0.45, 0.22)
    for row in records:
        row["metrics"]["saving_flops/final/imagenet/vit/ligo"] -= 0.9
    assert both(judged("C8", records)) == ("for", "against")


def test_smaller_sets_stand_in_for_the_papers_and_an_architecture_that_did_not_run_leaves_it_open() -> None:
    row = judged("C8", across(0.55, 0.45, 0.22, sets=("cifar10/vit", "wikitext-2/bert", "wikitext-2/gpt")))
    assert both(row) == ("for", "for")
    assert "cifar10 in place of imagenet" in row.fair.lacking and "wikitext-2 in place of c4" in row.fair.lacking
    assert both(judged("C8", across(0.55, 0.22, sets=("cifar10/vit", "wikitext-2/gpt")))) == ("open", "open")


@pytest.mark.parametrize(("more", "here"), SIGNS)
@pytest.mark.parametrize("arm", ["ligo-layerdrop", "ligo-tokendrop", "ligo-staged"])
def test_each_way_to_save_adds_to_ligo(arm: str, more: float, here: str) -> None:
    savings = {"ligo": 0.3, "ligo-layerdrop": 0.5, "ligo-tokendrop": 0.5, "ligo-staged": 0.5} | {arm: 0.3 + more}
    metrics = {key: value for name, saving in savings.items() for key, value in of_arm(name, saving).items()}
    assert both(judged("C9", facts(metrics))) == (here, here)


@pytest.mark.parametrize(("more", "here"), SIGNS)
def test_learning_is_held_against_what_the_operator_begins_with(more: float, here: str) -> None:
    row = judged("C10", two("ligo", 0.3 + more, "ligo-0", 0.3))
    assert both(row) == (here, here)
    # A control of ours: it never reaches a protocol that the paper has not.
    assert row.as_in_the_paper.lacking == row.fair.lacking == "not in the paper"


def test_learning_must_pay_at_every_target_to_be_fair() -> None:
    records = two("ligo", 0.5, "ligo-0", 0.3)
    for row in records:
        row["metrics"][f"saving_flops/half/{PAIR}/ligo-0"] += 0.4
    assert both(judged("C10", records)) == ("for", "against")


@pytest.mark.parametrize(("net", "here"), SIGNS)
def test_a_saving_may_not_survive_the_source(net: float, here: str) -> None:
    row = judged("C11", facts(of_arm("ligo", 0.4, net=net)))
    assert both(row) == (here, here) and row.fair.lacking == "not in the paper"


# --- from curves to verdicts ---------------------------------------------------------------------------------


def curves(saving: float, seed: int = 0, *, until: float = 1.5, source: int = 1500) -> list[dict[str, Any]]:
    """Scratch whose loss falls by 1 in 100 steps of 1,000, and LiGO that does so in a share less of the steps."""
    steps = list(range(100, 1001, 100))
    shift = float(noise("curves", 0.02)[seed])
    return [
        _curve("scratch", [10 - each / 100 for each in steps], steps, seed),
        _curve(
            "ligo", [10 - each / (100 * (1 - saving + shift)) for each in _until(until)], _until(until), seed, source
        ),
    ]


def _until(share: float) -> list[int]:
    return list(range(100, round(1000 * share) + 1, 100))


def _curve(variant: str, losses: list[float], steps: list[int], seed: int, source: int = 0) -> dict[str, Any]:
    made = record(f"{PAIR}/{variant}", seed, settings=FULL)
    history: dict[str, Any] = {"step": steps, "validation_loss": losses, "steps/large": steps}
    history |= {"spent_flops": [3 * each for each in steps], "spent_paper_flops": [2 * each for each in steps]}
    metrics = {"source_flops": source, "source_paper_flops": source, "source_steps/small": source} if source else {}
    return made | {"history": history, "metrics": metrics}


def clock() -> dict[str, Any]:
    return record("check/seconds", **{f"step_seconds/{PAIR}/large": 2.0, f"step_seconds/{PAIR}/small": 0.2})


def derived(saving: float, **how: Any) -> list[dict[str, Any]]:
    """What a run records of curves of three seeds."""
    found = [saved([*curves(saving, seed, **how), clock()]) for seed in range(3)]
    return [record("check/savings", seed, settings={"full": 1}, **each) for seed, each in enumerate(found)]


@pytest.mark.parametrize(
    ("saving", "here"), [(0.4, ("for", "for")), (0.0, ("open", "open")), (-0.3, ("against", "against"))]
)
def test_curves_carry_the_first_claim(saving: float, here: tuple[str, str]) -> None:
    assert both(judged("C1", derived(saving))) == here


def test_a_curve_that_ends_above_the_target_carries_nothing() -> None:
    for claim in ("C1", "C11"):
        assert both(judged(claim, derived(-0.3, until=1.2))) == ("open", "open")


def test_a_dear_source_refutes_the_net_saving_of_curves_that_save() -> None:
    records = derived(0.4, source=4000)
    assert both(judged("C1", records)) == ("for", "for") and both(judged("C11", records)) == ("against", "against")
    assert both(judged("C11", derived(0.4, source=300))) == ("for", "for")


@pytest.mark.parametrize("reading", papers.READINGS)
def test_smoke_scale_settles_nothing(reading: Reading) -> None:
    made = [each | {"scale": "smoke"} for each in derived(0.4)]
    assert judged("C1", made).judgement(reading).here == "open"
