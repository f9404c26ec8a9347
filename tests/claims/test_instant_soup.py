"""data/papers/instant_soup.toml: its numbers against their closed forms, and each claim on records made up for it."""

from __future__ import annotations

import math
import statistics
import tomllib
import zlib
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest

from effi import paths
from effi.claims import ClaimRow, Results, judge, measures, papers, stats
from effi.claims.papers import load
from effi.claims.stats import Claim, verdict
from tests.claims.synthetic import record

SOUP = load("instant_soup")
FILES = {path.stem: tomllib.loads(path.read_text()) for path in paths.paper_file("").parent.glob("*.toml")}
FULL = {"training": {"epochs": 22}, "data": {"subset": {"whole": 1}}, "model": {"full": 1}}


def rows(table: str) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries."""
    content = SOUP.tables[table]
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


def claim(name: str) -> papers.PaperClaim:
    return next(each for each in SOUP.claims if each.id == name)


# --- numbers -------------------------------------------------------------------------------------------------


def gains() -> list[float]:
    return [row["ISP"] - max(row["LTH"], row["LTH-Rewind"]) for row in rows("clip")]


def test_the_derived_columns_follow_from_the_papers_columns() -> None:
    for row, derived in zip(rows("clip"), rows("clip_margins"), strict=True):
        assert (row["set"], row["sparsity %"]) == (derived["set"], derived["sparsity %"])
        better = max(row["LTH"], row["LTH-Rewind"])
        assert derived["ISP - better LTH"] == pytest.approx(row["ISP"] - better, abs=1e-9)
        assert derived["ISP - OMP"] == pytest.approx(row["ISP"] - row["OMP"], abs=1e-9)
        assert derived["ISP - full"] == pytest.approx(row["ISP"] - row["full"], abs=1e-9)
    assert (len(gains()), sum(gain > 0 for gain in gains())) == (18, 17)


def test_the_second_lines_of_claims_are_half_the_papers_effects() -> None:
    assert statistics.mean(gains()) == pytest.approx(0.90, abs=0.005)
    assert statistics.median(gains()) == pytest.approx(0.445)
    assert refuted("C1") == {0.45}
    ratios = [row["sparsity %"] / 10 for row in rows("clip")]
    slope = stats.slope_weights(ratios, [row["set"] for row in rows("clip")]) @ np.array(gains())
    assert slope == pytest.approx(0.69, abs=0.005) and refuted("C2") == {0.35}
    without, with_it = rows("denoiser")
    images, texts = ([with_it[name] - without[name] for name in names] for names in DENOISED)
    assert [statistics.mean(each) / 2 for each in (images, texts)] == pytest.approx([0.28, 0.35], abs=0.003)
    assert refuted("C5") == {0.28, 0.35}
    (nets,) = rows("nets")
    assert (nets["N = 4"] - nets["N = 0"]) / 2 == pytest.approx(0.415) and refuted("C6") == {0.41}


DENOISED = (("SVHN (80)", "CIFAR-100 (80)"), ("QQP (90)", "QNLI (70)"))


def refuted(name: str) -> set[float]:
    """The second lines of a claim's tests."""
    tests = [test for tests in claim(name).tests.values() for test in tests]
    return {test.refuted for test in tests if test.refuted is not None}


def test_gains_of_gradients_over_magnitude_are_those_of_the_claim() -> None:
    told = []
    for ours, theirs in (("SNIP", "OMP"), ("GraSP", "OMP"), ("SNIP", "GraSP")):
        found = [row[ours] - row[theirs] for row in rows("clip")]
        told.append((sum(each > 0 for each in found), round(statistics.mean(found), 2)))
    assert told == [(11, 0.59), (9, 0.42), (14, 0.17)]
    halves = [test.refuted for test in claim("C8").tests["fair"]]
    assert halves == pytest.approx([each / 2 for _, each in told])
    assert all(f"in {cells}" in claim("C8").paper and f"{mean:+}" in claim("C8").paper for cells, mean in told)


def test_the_ladder_is_ranked_beside_the_printed_means() -> None:
    columns = ["random", "OMP", "SNIP", "GraSP", "EarlyBird", "LTH", "LTH-Rewind", "ISP"]
    means = [statistics.mean(row[name] for row in rows("clip")) for name in columns]
    ladder = claim("C9").tests["as_in_the_paper"][0]
    assert ladder.printed == pytest.approx(means, abs=0.005)
    assert [arm.split("/")[-1].removesuffix("-{p}") for arm in ladder.over] == [
        *("random", "magnitude", "snip", "grasp", "eb", "imp", "imp-rewind", "isp")
    ]


def test_the_mean_of_five_tasks_and_of_the_soups_gives_their_second_lines() -> None:
    bert = {row["method"]: row for row in rows("bert")}
    source = rows("bert_source")[0]
    tasks = ("CoLA", "RTE", "MRPC", "STS-B", "SST-2")
    gain = statistics.mean(bert["ISP"][task] - bert["LTH"][task] for task in tasks)
    mended = statistics.mean(bert["ISP"][task] - source[task] for task in tasks)
    assert (round(gain, 2), round(mended, 2)) == (0.44, 0.24) and refuted("C4") == {0.22}
    assert [task for task in source if task != "value" and source[task] != bert["LTH"][task]] == ["RTE"]
    soups = {row["model"]: row for row in rows("soups")}
    cifar = soups["IMS"]["CIFAR-10"] - soups["plain fine-tune"]["CIFAR-10"]
    texts = statistics.mean(soups["IMS"][name] - soups["plain fine-tune"][name] for name in ("MNLI", "QNLI"))
    assert refuted("C10") == {0.205, 0.61}
    assert [cifar / 2, texts / 2] == pytest.approx([0.205, 0.61], abs=0.0051)
    for names, lead in ((("Cars", "CIFAR-10", "CIFAR-100"), 0.30), (("MNLI", "QNLI"), 0.605)):
        ahead = statistics.mean(soups["IMS"][name] - soups["greedy soup (8)"][name] for name in names)
        assert ahead == pytest.approx(lead, abs=0.0051)


@pytest.mark.parametrize("row", rows("cost"), ids=lambda row: f"{row['set']}-{row['sparsity %']}")
def test_costs_follow_from_the_settings(row: Mapping[str, Any]) -> None:
    sparsity, settings = row["sparsity %"] / 100, rows("settings")[1]
    nets, steps, epochs = (settings[name] for name in ("weak nets N", "look-ahead C", "epochs"))
    count = math.ceil(math.log(1 - sparsity) / math.log(1 - 0.15))
    look_ahead = nets * steps * count / math.ceil(row["examples"] / 128)
    lottery = (row["sparsity %"] / 10 + 1) * epochs
    assert (row["rounds"], row["LTH"]) == (count, pytest.approx(lottery))
    assert row["mask stage"] == pytest.approx(0.1 * count * (count + 1) / 2)
    assert row["look-ahead"] == pytest.approx(look_ahead, abs=0.0501)
    assert row["ISP in all"] == pytest.approx(epochs + look_ahead, abs=0.0501)
    assert row["LTH / ISP"] == pytest.approx(lottery / (epochs + look_ahead), abs=0.0501)


def test_the_note_on_one_pass_tells_the_costs_of_the_table() -> None:
    shares = {name: [100 * row["ISP in all"] / 22 for row in rows("cost") if row["set"] == name] for name in COSTED}
    assert "117 to 129 % on CIFAR and 153 to 189 % on Cars" in claim("C3").notes[0]
    assert {name: (round(min(own)), round(max(own))) for name, own in shares.items()} == COSTED


COSTED = {"CIFAR": (117, 129), "Cars": (153, 189)}


@pytest.mark.parametrize("row", rows("overlap"), ids=lambda row: row["sparsity %"])
def test_overlaps_follow_from_the_cosines(row: Mapping[str, float]) -> None:
    cosine, p = row["cosine %"] / 100, row["sparsity %"] / 100
    shared = 1 - (1 - cosine) * (1 - p) / p
    assert row["chance cosine %"] == pytest.approx(100 * (1 - p))
    assert row["kept overlap"] == pytest.approx(cosine / (2 - cosine), abs=6e-4)
    assert row["shared prunes"] == pytest.approx(shared, abs=6e-4)
    assert row["pruned overlap"] == pytest.approx(shared / (2 - shared), abs=6e-4)
    assert row["chance pruned overlap"] == pytest.approx(p / (2 - p), abs=6e-4)


def test_half_of_what_the_cosines_leave_above_chance_is_claimed() -> None:
    above = [row["pruned overlap"] - row["chance pruned overlap"] for row in rows("overlap")]
    assert [test.target for test in claim("C7").tests["fair"]] == pytest.approx([each / 2 for each in above])
    (pooled,) = claim("C7").tests["as_in_the_paper"]
    assert pooled.target == pytest.approx(statistics.mean(above) / 2, abs=6e-4)
    assert min(above) == above[0]


def test_the_union_stalls_where_noise_is_large_and_a_majority_holds() -> None:
    shares = [row["union"] for row in rows("stall")]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.1 * 0.15
    assert all(row["union"] <= row["majority"] <= row["intersection of kept"] for row in rows("stall")[1:])


def test_slips_of_the_paper_are_told_and_kept() -> None:
    # N = 0 is CIFAR-100 without the denoiser, though the caption says CIFAR-10.
    (nets,), without = rows("nets"), rows("denoiser")[0]
    assert nets["N = 0"] == without["CIFAR-100 (80)"] and "CIFAR-100" in SOUP.tables["nets"]["title"]
    cells = {(row["set"], row["sparsity %"]): row for row in rows("clip")}
    with_it = rows("denoiser")[1]
    assert [with_it[name] for name in DENOISED[0]] == [cells[name, 80]["ISP"] for name in ("SVHN", "CIFAR-100")]
    soups = rows("soups")[0]
    assert all(soups[name] == cells[name, place]["full"] for name, place in (("Cars", 30), ("CIFAR-10", 60)))


def test_tables_are_rectangular_and_name_source_and_status() -> None:
    for table in SOUP.tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert len(set(table["columns"])) == len(table["columns"])
        assert table["status"] in ("paper", "secondary", "derived", "unknown") and table["source"]


# --- the file ------------------------------------------------------------------------------------------------


def test_eleven_claims_in_order_the_last_without_a_verdict() -> None:
    assert [each.id for each in SOUP.claims] == [f"C{i}" for i in range(1, 12)]
    assert [each.id for each in SOUP.claims if not any(each.tests.values())] == ["C11"]


def test_every_test_states_a_claim_that_can_be_judged() -> None:
    for test in (test for each in SOUP.claims for tests in each.tests.values() for test in tests):
        margin = 1.0 if isinstance(test.margin, str) else test.margin
        found = verdict([0.0, 0.1], Claim(test.rule, test.direction, margin, refuted=test.refuted))
        assert found.direction in get_args(stats.Direction)


def test_without_records_nothing_is_settled() -> None:
    for row in judge("instant_soup", Results([])):
        for reading in papers.READINGS:
            assert (row.judgement(reading).here, row.judgement(reading).protocol) == ("not run", "not reached")
            assert row.judgement(reading).why.startswith("Not run: ")


def test_every_metric_has_words_and_every_arm_and_data_set_a_name() -> None:
    tests = [test for each in SOUP.claims for tests in each.tests.values() for test in tests]
    metrics = {metric for test in tests for metric in test.metrics if metric != "task"} | set(SOUP.report["metrics"])
    assert metrics and all("_" not in measures.words(metric) for metric in metrics)
    listed = [
        values for test in tests for named in (test.each, test.among) for key, values in named.items() if key != "p"
    ]
    arms = {arm.split("/")[-1].removesuffix("-{p}") for test in tests for arm in test.arms}
    named = {value for values in listed for value in values} - {"n16", "c100"}
    assert {each for each in named | arms if "{" not in each and "-0." not in each} <= set(SOUP.names)
    assert len(set(SOUP.names.values())) == len(SOUP.names)


def test_words_and_colours_that_papers_share_are_one() -> None:
    for table in ("words", "colours"):
        for name, value in FILES["instant_soup"][table].items():
            assert all(other[table].get(name, value) == value for other in FILES.values())
    own = FILES["instant_soup"]["colours"]
    shared = {name: papers.colours()[name] for name in ("dense", "eb", "random", "snip")}
    assert not set(own) & set(shared)
    assert len(set((own | shared).values())) == len(own | shared)
    groups = FILES["instant_soup"]["groups"]
    others = {"digits", "imdb", "mnli", "qqp", "qnli", "wnli", "clip", "bert", "minilm"}
    places = {*groups["images"], *groups["tasks"], *others}
    assert set(SOUP.names) - places == set(own | shared)


# --- claims on records made up for them ----------------------------------------------------------------------


def arms(
    name: str, value: float, metric: str = "test_accuracy", settings: dict[str, Any] = FULL
) -> list[dict[str, Any]]:
    """Five seeds of an arm whose scores scatter by some hundredths of a point around their mean."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(scale=0.0004, size=5)
    scores = (value + noise - noise.mean()).tolist()
    return [record(name, seed, settings=settings, **{metric: score}) for seed, score in enumerate(scores)]


def at(sparsities: tuple[float, ...], **variants: float) -> list[dict[str, Any]]:
    """Variants, "_" for "-", on CIFAR-10 at each sparsity; their accuracy falls with it alike."""
    return [
        row
        for p in sparsities
        for name, value in variants.items()
        for row in arms(f"cifar10/clip/{name.replace('_', '-')}-{p}", value - p / 10)
    ]


def judged(name: str, records: list[dict[str, Any]]) -> ClaimRow:
    return next(row for row in judge(SOUP, Results(records)) if row.claim.id == name)


@pytest.mark.parametrize(("gain", "here"), [(0.009, "for"), (-0.004, "against"), (0.0001, "against"), (0.002, "for")])
def test_isp_is_held_against_the_better_lottery_ticket(gain: float, here: str) -> None:
    records = at((0.5, 0.7, 0.9), isp=0.8 + gain, imp=0.78, imp_rewind=0.8, imp_cheap=0.7)
    row = judged("C1", records)
    assert (row.as_in_the_paper.here, row.fair.here) == (here, "for")
    assert row.as_in_the_paper.lacking == "1 data set of 6, 3 ratios of 7"
    assert row.as_in_the_paper.deciding.verdict.mean == pytest.approx(100 * gain, abs=0.05)
    assert "over 3 cells of CIFAR-10 (CLIP) ISP" in row.as_in_the_paper.why


def test_a_lottery_ticket_that_did_not_run_is_named() -> None:
    row = judged("C1", at((0.5, 0.7), isp=0.8, imp=0.7))
    assert row.as_in_the_paper.why == "Not run: cifar10/clip/imp-rewind-0.5, cifar10/clip/imp-rewind-0.7."


@pytest.mark.parametrize(("steeper", "here"), [(0.1, "for"), (-0.1, "against"), (0.0, "against")])
def test_the_gain_is_asked_to_grow_with_sparsity(steeper: float, here: str) -> None:
    records = [row for p in (0.5, 0.7, 0.9) for row in at((p,), isp=0.8 + steeper * p, imp=0.7, imp_rewind=0.7)]
    found = judged("C2", records).as_in_the_paper
    assert (found.here, found.deciding.verdict.mean) == (here, pytest.approx(10 * steeper, abs=0.05))


@pytest.mark.parametrize(("share", "here"), [(1.25, "for"), (1.26, "against")])
def test_one_pass_is_a_quarter_more_than_a_fine_tune_at_every_sparsity(share: float, here: str) -> None:
    records = at((0.5, 0.7, 0.9), isp=0.8) + arms("cifar10/clip/dense", 0.9)
    records += arms("rte/minilm/isp-0.5", 0.6) + arms("rte/minilm/dense", 0.6) + arms("mnist/clip/dense", 0.9)
    for row in records:
        row["scale"] = "hours"
        row["cost"]["flops"] = 1000
        if row["arm"].endswith("isp-0.9"):
            row["cost"]["flops"] = round(1000 * share)
        if row["arm"].startswith("rte/minilm/isp"):
            row["cost"]["flops"] = 3000
    found = judged("C3", records)
    assert (found.as_in_the_paper.here, found.fair.here) == (here, "against")
    labels = [each.label for each in found.as_in_the_paper.evidence]
    assert labels == [f"cifar10/clip/isp-{p} / cifar10/clip/dense, training FLOPs" for p in (0.5, 0.7, 0.9)]
    assert [each.label for each in found.fair.evidence] == [
        *labels,
        "rte/minilm/isp-0.5 / rte/minilm/dense, training FLOPs",
    ]
    assert (
        "RTE (MiniLM) ISP at p = 0.5 has 300.00 % at every seed of the training FLOPs of the dense model"
        in found.fair.evidence[-1].clause
    )


@pytest.mark.parametrize(("gain", "here"), [(0.01, "for"), (-0.01, "against")])
def test_tasks_are_pooled_each_by_its_own_metric(gain: float, here: str) -> None:
    scores = {"cola": "test_mcc", "stsb": "test_pearson", "rte": "test_accuracy", "sst2": "test_accuracy"}
    records = [
        row
        for task, metric in scores.items()
        for name, value in (("isp-0.5", 0.5 + gain), ("imp-0.5", 0.5))
        for row in arms(f"{task}/minilm/{name}", value, metric)
    ]
    found = judged("C4", records).as_in_the_paper
    assert (found.here, found.deciding.verdict.mean) == (here, pytest.approx(100 * gain, abs=0.05))
    assert "over 4 cells of CoLA, RTE, STS-B and SST-2 (MiniLM)" in found.why
    assert found.lacking == "4 data sets of 5, 1 ratio of 2, minilm in place of bert"


def test_the_denoiser_is_judged_on_images_and_on_texts() -> None:
    images = at((0.7, 0.9), isp=0.81, isp_plain=0.8, isp_longer=0.81)
    texts = [
        row
        for name, value in (("isp-0.7", 0.9), ("isp-plain-0.7", 0.89), ("isp-longer-0.7", 0.88))
        for row in arms(f"sst2/minilm/{name}", value)
    ]
    assert judged("C5", images).as_in_the_paper.here == "open"
    row = judged("C5", images + texts)
    # At equal cost no gain is left on images: the whole interval lies below half the paper's effect.
    assert (row.as_in_the_paper.here, row.fair.here) == ("for", "against")
    assert "cifar10 in place of svhn and cifar100" in row.as_in_the_paper.lacking


@pytest.mark.parametrize(
    ("more", "none", "here"),
    [(0.8, 0.79, "for"), (0.78, 0.79, "for"), (0.81, 0.79, "against"), (0.8, 0.8, "against")],
)
def test_few_nets_suffice_where_more_are_no_better_and_none_is_worse(more: float, none: float, here: str) -> None:
    records = at((0.9,), isp=0.8, isp_n16=more, isp_c50=0.8, isp_c100=0.78, isp_plain=none) + at((0.5, 0.7), isp=0.85)
    assert judged("C6", [row | {"scale": "hours"} for row in records]).as_in_the_paper.here == here


def test_without_sweeps_nothing_is_said_of_how_many_nets_suffice() -> None:
    records = [row | {"scale": "cpu"} for row in at((0.7,), isp=0.8, isp_plain=0.8)]
    assert judged("C6", records).as_in_the_paper.here == "not run"


@pytest.mark.parametrize(
    ("overlaps", "paper", "fair"),
    [((0.5, 0.9, 0.8), "for", "for"), ((0.2, 0.9, 0.8), "for", "against"), ((0.1, 0.2, 0.3), "against", "against")],
)
def test_overlaps_count_above_chance(overlaps: tuple[float, ...], paper: str, fair: str) -> None:
    records = [
        row | {"metrics": row["metrics"] | {"chance_iou/magnitude": p / (2 - p)}}
        for p, overlap in zip((0.1, 0.2, 0.3), overlaps, strict=True)
        for row in arms(f"cifar10/clip/masks-{p}", overlap, "pruned_iou/magnitude")
    ]
    row = judged("C7", records)
    assert (row.as_in_the_paper.here, row.fair.here) == (paper, fair)
    assert row.as_in_the_paper.protocol == ("reproduced" if paper == "for" else "not reproduced")


def test_the_order_of_methods_holds_or_one_pair_contradicts_it() -> None:
    ladder = {
        "random": 0.5,
        "magnitude": 0.7,
        "snip": 0.71,
        "grasp": 0.705,
        "eb": 0.75,
        "imp": 0.76,
        "imp_rewind": 0.765,
    }
    row = judged("C9", at((0.5, 0.7), **ladder, isp=0.78))
    assert row.as_in_the_paper.here == "for"
    assert row.as_in_the_paper.evidence[0].verdict.mean == pytest.approx(1.0)
    assert judged("C9", at((0.5, 0.7), **ladder, isp=0.70)).as_in_the_paper.here == "against"
    longer = {"random_longer": 0.7, "imp_cheap": 0.75}
    assert judged("C9", at((0.5,), isp=0.78, magnitude_longer=0.8, **longer)).fair.here == "against"
    assert judged("C9", at((0.5,), isp=0.78, magnitude_longer=0.77, **longer)).fair.here == "for"


@pytest.mark.parametrize(
    ("ims", "cost", "here"), [(0.81, 150, "for"), (0.82, 150, "for"), (0.805, 150, "against"), (0.81, 200, "against")]
)
def test_a_soup_is_matched_within_a_third_of_a_point_at_an_eighth_of_its_cost(ims: float, cost: int, here: str) -> None:
    values = {"ims": ims, "soup-greedy": 0.81, "dense": 0.8, "dense-longer": 0.8}
    groups = ("cifar10/clip", "cars/clip", "mnli/bert")
    records = [row for group in groups for name, value in values.items() for row in arms(f"{group}/{name}", value)]
    for row in records:
        row["scale"] = "gpu"
        row["cost"]["flops"] = {"ims": cost, "soup-greedy": 1000}.get(row["variant"], 125)
    row = judged("C10", records)
    assert row.as_in_the_paper.here == row.fair.here == here
    small = [each | {"scale": "hours"} for each in records]
    assert judged("C10", small).fair.here == ("against" if ims < 0.81 else "open"), "its cost is not judged there"
