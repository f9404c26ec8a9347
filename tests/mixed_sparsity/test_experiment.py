"""Arms from settings to records: what a run keeps, plans and skips, and the data and models that it makes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from effi import paths, spec
from effi.cost import PACE, Ledger
from effi.data import files
from effi.data.opening import Opened
from effi.data.windows import drawn, open_corpora
from effi.errors import DataError, ParameterError
from effi.mixed_sparsity.building import ZERO_SHOT, at_hand, gpt_size, smaller, zero_shot
from effi.mixed_sparsity.experiment import Experiment, build, prunable
from effi.mixed_sparsity.flops import Accounting
from effi.mixed_sparsity.parameters import PARAMETERS
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import PHASES, Dense, mst, rigl
from effi.mixed_sparsity.settings import Model, Settings
from effi.models.language import TextSize
from effi.records import Name, Run
from tests.mixed_sparsity.toy import BATCH, MODEL, ROWS, SIZE, TOKENS, TRAINING, VOCABULARY, text
from tests.training.conftest import one_thread as one_thread

TOY = Opened("toy", text(), {"length": TOKENS + 1, "whole": 1})
STEPS, SMALL = 20, TextSize(8, 2, 2, 16)
METHOD = mst(2, Pattern("merged", 4), replace(PHASES, restoration=0.3, settle=0.5))
SETTINGS = Settings(TOY.settings, MODEL, replace(TRAINING, steps=STEPS), METHOD)
CHOSEN = {
    "dense": replace(SETTINGS, recipe=Dense()),
    "dense-quarter": replace(SETTINGS, recipe=Dense(0.25)),
    "dense-small": replace(SETTINGS, model=Model(SMALL), recipe=Dense(), reference=SIZE),
    "mst": SETTINGS,
    "rigl": replace(SETTINGS, recipe=rigl(0.7, 2)),
}
ARMS = {Name("toy", "gpt", variant): settings for variant, settings in CHOSEN.items()}
ALWAYS = {"train_loss", "training_bytes", "parameters", "prunable", "alive", "tokens"}
ALWAYS |= {f"{split}_{score}" for split in ("validation", "test") for score in ("loss", "perplexity", "accuracy")}
ALWAYS |= {f"flops_ratio/{name}{word}" for name in ("square", "causal") for word in ("", "/dense_head", "/no_head")}
ALWAYS |= {"final_sparsity", "mean_sparsity", "updates"}
MOVED = {"ever_active", "kept_zero", "churn", "survival/gradient"}


def run(folder, **options) -> Run:
    used = ["effi.mixed_sparsity.experiment"]
    return Run("mixed_sparsity", "smoke", results_dir=folder, quiet=True, uses=used, **options)


def share(size: TextSize, of: TextSize = SIZE) -> float:
    """FLOPs of a token over those of another size."""
    own, whole = (sum(Accounting(gpt_size(each, TOKENS, VOCABULARY)).flops().values()) for each in (size, of))
    return own / whole


# --- records -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all arms are recorded."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def records(folder):
    made = run(folder)
    made.each(Experiment({"toy": TOY}).train, ARMS, [0], jobs=1)
    assert made.failed() == []
    return {record["arm"].split("/")[-1]: record for record in made.records()}


def test_records_hold_what_outcome_promises(records):
    assert list(records) == list(CHOSEN)
    kinds = {"mst": MOVED | {"survival/random"}, "rigl": MOVED}
    phases = {"mst": {"warm-up", "ultra", "restoration"}, "rigl": {"ultra"}}
    for name, record in records.items():
        metrics = record["metrics"]
        ledger = {key for key in metrics if key.startswith("ledger/")}
        assert metrics.keys() - ledger == ALWAYS | kinds.get(name, set()), name
        assert {key.split("/")[2] for key in ledger} == phases.get(name, {"dense"}), name
        assert all(math.isfinite(value) for value in metrics.values())
        curves = ("step", "train_loss", "validation_loss", "tokens", "flops_ratio/square", "flops_ratio/causal")
        assert len({len(record["history"][key]) for key in curves}) == 1
        assert ("mask/sparsity/mlp.0" in record["history"]) is (name in kinds)


def test_ratios_of_arms(records):
    ratios = {name: record["metrics"]["flops_ratio/square"] for name, record in records.items()}
    assert ratios["dense"] == pytest.approx(1) and ratios["dense-quarter"] == pytest.approx(0.25)
    assert ratios["dense-small"] == pytest.approx(share(SMALL)) and ratios["mst"] < 0.7
    tokens = {name: record["metrics"]["tokens"] for name, record in records.items()}
    assert tokens["dense"] == tokens["mst"] == 4 * tokens["dense-quarter"] == STEPS * BATCH * TOKENS


def test_what_is_recorded_is_not_trained_again(records, folder):
    again = run(folder)
    again.each(Experiment({"toy": TOY}).train, ARMS, [0], jobs=1)
    assert [each["checksum"] for each in again.records()] == [each["checksum"] for each in records.values()]


def test_a_dry_run_plans_all_steps_and_records_nothing(tmp_path):
    planned = run(tmp_path, dry_run=True)
    planned.each(Experiment({"toy": TOY}).train, ARMS, [0, 1], jobs=1)
    steps = {row["arm"].split("/")[-1]: row["steps"] for row in planned.plan()}
    assert steps == dict.fromkeys(CHOSEN, STEPS) | {"dense-quarter": STEPS // 4}
    assert planned.records() == [] and all(row["flops"] > 0 for row in planned.plan())


def test_a_dry_run_at_a_pace_counts_what_one_by_steps_does(tmp_path, monkeypatch):
    plans = []
    for pace in ("", "1e9"):
        if pace:
            monkeypatch.setenv(PACE, pace)
        planned = run(tmp_path, dry_run=True)
        planned.each(Experiment({"toy": TOY}).train, ARMS, [0, 1], jobs=1)
        plans.append([(row["arm"], row["trainings"], row["steps"], row["flops"]) for row in planned.plan()])
    assert plans[0] == plans[1]
    assert all(row["hours"] == pytest.approx(2 * row["flops"] / 1e9 / 3600) for row in planned.plan())


def test_the_same_arm_at_another_seed_is_another_training():
    work, model = Experiment({"toy": TOY}), []
    for seed in (0, 0, 1):
        model.append(work.task(SETTINGS, seed, Ledger()).model.embedding.weight)
    assert torch.equal(model[0], model[1]) and not torch.equal(model[0], model[2])


def test_a_schedule_that_cannot_be_is_refused_by_name():
    work = Experiment({"toy": TOY})
    work.check(ARMS)
    hasty = replace(SETTINGS, recipe=mst(7, None))
    with pytest.raises(ParameterError, match="an arm: the last update before step 20 comes after step 14"):
        work.check({"an arm": hasty})
    wide = replace(SETTINGS, recipe=replace(METHOD, attention=Pattern("local", TOKENS + 1)))
    with pytest.raises(ParameterError, match=r"wide: a window of 17 .* longer than the context of 16"):
        work.check({"wide": wide})


# --- data ----------------------------------------------------------------------------------------------------


def test_a_seed_draws_windows_of_its_own():
    whole = text()
    one, again, other = (drawn(whole, 100, seed) for seed in (0, 0, 1))
    rows = {tuple(row) for row in whole.train.inputs.tolist()}
    assert len(one.train) == 100 and {tuple(row) for row in one.train.inputs.tolist()} < rows
    assert torch.equal(one.train.inputs, again.train.inputs) and not torch.equal(one.train.inputs, other.train.inputs)
    assert one.validation is whole.validation and one.test is whole.test and drawn(whole, None, 0) is whole
    assert torch.equal(one.train.inputs[:, 1:].long(), one.train.labels[:, :-1])
    for count in (0, ROWS + 1):
        with pytest.raises(ParameterError, match=f"{count} training windows of toy are asked for, which has 160"):
            drawn(whole, count, 0)
    task = Experiment({"toy": TOY}).task(replace(SETTINGS, rows=100), 1, Ledger())
    assert torch.equal(task.data.train.inputs, other.train.inputs)


def test_a_corpus_is_opened_in_part_or_whole(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"the {word} is {word}er than it was.\n" for word in ("cold", "warm", "dark") * 200))
    options = {"length": 9, "vocabulary": 300}
    (one,) = open_corpora([f"text:{file}"], {}, scale="smoke", device="cpu", whole=options).values()
    assert one.data.train.inputs.shape[1] == 8 and one.subset == options | {"whole": 1}
    assert one.settings["checksum"] == one.data.checksum and one.settings["train"] == len(one.data.train)
    task = Experiment({one.data.name: one}).task(replace(SETTINGS, data=one.settings), 0, Ledger())
    assert task.size.tokens == task.model.context == 8 and task.size.vocabulary == one.data.vocabulary
    parts = {f"text:{file}": options | {"corpus": 900}}
    for scale, whole in (("hours", 0), ("gpu", 1)):
        (again,) = open_corpora(parts, parts, scale=scale, device="cpu", whole=options).values()
        assert again.subset["whole"] == whole and (len(again.data.train) == len(one.data.train)) is bool(whole)
    with pytest.raises(DataError, match="unknown data set"):
        open_corpora(["wikitex-2"], {}, scale="smoke", device="cpu", whole=options)


def test_of_a_stand_in_every_scale_takes_the_part_that_is_named():
    parts = {"grammar": {"length": 9, "vocabulary": 300, "corpus": 2000}}
    one = open_corpora(["grammar"], parts, scale="paper", device="cpu", whole={})["grammar"]
    assert one.data.train.inputs.shape == (2000 // 9, 8) and one.subset["whole"] == 0


# --- other corpora -------------------------------------------------------------------------------------------


def lines(word: str) -> str:
    return "".join(f"the {word} {k % 7} is {word}er than it was.\n" for k in range(400))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Names of two corpora of one's own, and both opened."""
    folder, options = tmp_path_factory.mktemp("corpora"), {"length": 9, "vocabulary": 300}
    for name, word in (("cold", "cold"), ("warm", "warm")):
        (folder / f"{name}.txt").write_text(lines(word))
    names = [f"text:{folder}/{name}.txt" for name in ("cold", "warm")]
    return names, open_corpora(names, {}, scale="gpu", device="cpu", whole=options)


def test_other_corpora_are_cut_by_the_tokenizer_of_the_one_trained_on(two):
    names, opened = two
    others = zero_shot(opened, [*names, "grammar"], most=200)
    assert {own: list(each) for own, each in others.items()} == {
        "text:cold.txt": ["text:warm.txt", "grammar"],
        "text:warm.txt": ["text:cold.txt", "grammar"],
    }
    windows, words = others["text:cold.txt"]["text:warm.txt"], opened["text:cold.txt"].data.tokenizer
    assert windows.inputs.shape == windows.labels.shape == (200 // 9, 8)
    rows = torch.cat([windows.inputs[:, :1], windows.labels], 1)
    assert torch.equal(rows[:, 1:-1], windows.inputs[:, 1:].long())
    whole = zero_shot(opened, names)["text:cold.txt"]["text:warm.txt"]
    read = words.text(torch.cat([whole.inputs[:, :1], whole.labels], 1).flatten().tolist())
    assert len(read) > 600 and read in lines("warm")[int(0.9 * len(lines("warm"))) :]
    spread = [place * len(whole) // 22 for place in range(22)]
    assert len(whole) > 22 and spread[-1] > 30 and torch.equal(whole.inputs[spread], windows.inputs)
    again = zero_shot(opened, names, most=200)["text:cold.txt"]["text:warm.txt"]
    assert again.checksum == windows.checksum != whole.checksum, "a record says what it is of"


def test_what_is_too_short_to_predict_is_refused(two):
    with pytest.raises(DataError, match="the test text of grammar fills no window of 9 tokens: leave it out"):
        zero_shot(two[1], ["grammar"], most=8)


def test_corpora_that_are_not_at_hand_are_told_and_not_downloaded(monkeypatch, tmp_path, two):
    monkeypatch.setenv("EFFI_DATA", str(tmp_path))
    monkeypatch.setattr(files.paths, "data_dir", lambda: tmp_path)
    (tmp_path / "manifest.toml").write_text((paths.ROOT / "data" / "manifest.toml").read_text())
    monkeypatch.setattr(files, "download", lambda entry: pytest.fail(f"{entry.name} is downloaded"))
    assert at_hand(["grammar", two[0][0]]) == (("grammar", two[0][0]), None)
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("here")
    found, notice = at_hand([*ZERO_SHOT, "tinyshakespeare", "grammar"])
    assert found == ("tinyshakespeare", "grammar")
    assert notice.startswith("Not on this machine, so not predicted: lambada, ptb, wikitext-2, wikitext-103, lm1b.")
    with pytest.raises(DataError, match="unknown data set 'wikitex-2'; did you mean 'wikitext-2'"):
        at_hand(["wikitex-2"])


def test_arms_record_what_other_corpora_cost_them(tmp_path, two):
    names, opened = two
    others = zero_shot(opened, names, most=900)
    short = replace(SETTINGS.training, steps=4)
    arms = {
        Name(name, "gpt", "dense"): replace(SETTINGS, data=one.settings, training=short, recipe=Dense())
        for name, one in opened.items()
    }
    made = run(tmp_path)
    made.each(Experiment(opened, others).train, arms, [0], jobs=1)
    assert made.failed() == []
    for record, other in zip(made.records(), reversed(opened), strict=True):
        metrics = record["metrics"]
        assert {name.partition("/")[2] for name in metrics if name.startswith("zero_shot_loss/")} == {other}
        assert metrics[f"ppl/{other}"] == pytest.approx(math.exp(metrics[f"zero_shot_loss/{other}"]))
        assert metrics[f"zero_shot_loss/{other}"] > metrics["test_loss"] and 0 < metrics[f"bits_per_byte/{other}"] < 8


# --- models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tied", "head"), [(True, "sparse"), (False, "sparse"), (True, "dense"), (False, "dense")])
def test_the_output_matrix_may_be_pruned(tied, head):
    settings = Model(SIZE, tied, head)
    model = build(settings, text(), 0)
    names = prunable(model, settings)
    blocks = [name for name in names if name.startswith("blocks.")]
    assert len(blocks) == 2 * 4
    own = "embedding.weight" if tied else "lm_head.weight"
    assert set(names) - set(blocks) == ({own} if head == "sparse" else set())


def test_a_smaller_model_costs_nearest_to_its_share():
    size = TextSize(64, 3, 4, 256)
    found = smaller(size, 0.25, 128, 2000)
    assert (found.depth, found.heads, found.hidden) == (3, 4, 4 * found.width) and found.width % 4 == 0
    for width in (found.width - 4, found.width + 4):
        other = replace(found, width=width, hidden=4 * width)
        assert abs(_of(found, size) - 0.25) <= abs(_of(other, size) - 0.25)
    assert smaller(size, 1.0, 128, 2000) == size


def _of(size: TextSize, whole: TextSize) -> float:
    own, all_of_it = (sum(Accounting(gpt_size(each, 128, 2000)).flops().values()) for each in (size, whole))
    return own / all_of_it


# --- parameters ----------------------------------------------------------------------------------------------


def test_parameters_of_the_notebook():
    usual = {"dataset": "grammar", "only": [], "ratio": 0.25, "size": {}, "phases": {}, "evolution": {}}
    spec.check(PARAMETERS, usual | {"attention": {}, "training": {}})
    own = {"size": {"width": 32}, "phases": {"shape": "fast", "stairs": 10}, "evolution": {"mix": 1}}
    spec.check(PARAMETERS, own | {"attention": {"kind": "local", "window": 8}, "training": {"steps": 300, "lr": 1e-3}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", "digits", "holds images, and a corpus without labels or labelled texts are wanted"),
        ("ratio", 1.0, "ratio is 1.0; give a number between 0 and 1"),
        ("size", {"width": 66, "heads": 4}, "width 66 is not a multiple of heads 4"),
        ("phases", {"warmup": 0.6, "restoration": 0.6}, "are shares of one training that may not overlap"),
        ("phases", {"settle": 1.0}, "settle=1 of a restoration"),
        ("evolution", {"mixx": 1}, "did you mean 'mix'"),
        ("attention", {"kind": "globall"}, "attention kind"),
        ("training", {"epochs": 3}, "training is counted in steps here; give steps instead of epochs"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, value, message):
    with pytest.raises(ParameterError, match=message):
        spec.check(PARAMETERS, {name: value})
