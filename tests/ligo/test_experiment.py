"""Arms from settings to records: small models that are shared, what is kept, planned and refused; data and models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from effi import spec
from effi.cost import PACE, Ledger
from effi.data import IGNORED
from effi.data.opening import Opened
from effi.errors import DataError, ParameterError
from effi.ligo.building import build, open_data, readers
from effi.ligo.checkpoint import own_pair, tokenizer_of
from effi.ligo.experiment import Experiment, source_of, sources_of
from effi.ligo.inheritance import Distilled
from effi.ligo.moments import nested
from effi.ligo.operator import Growth
from effi.ligo.parameters import PARAMETERS
from effi.ligo.progressive import Progressive, Stage
from effi.ligo.reaching import saved
from effi.ligo.recipes import Ligo, Rival, Scratch
from effi.ligo.settings import Settings, Source
from effi.ligo.thrift import TokenDrop
from effi.ligo.timing import step_seconds
from effi.models.gpt import GPT
from effi.models.language import TextSize
from effi.models.library import silent
from effi.records import Name, Run
from tests.ligo.toy import LARGE, PAIRS, ROWS, STEPS, TOKENS, TRAINING, images, text
from tests.training.conftest import one_thread as one_thread

TOY = Opened("toy", text(), {"length": TOKENS + 1, "whole": 1})
DOTS = Opened("dots", images(), {"whole": 1})
BOTH = {"toy": TOY, "dots": DOTS}
SHORT = replace(TRAINING, steps=12)
SCRATCH = Scratch()


def settings(kind: Any, recipe: Any = SCRATCH, **own: Any) -> Settings:
    one = DOTS if kind == "vit" else TOY
    pair = PAIRS[kind]
    return Settings(one.settings, pair.large, TRAINING, recipe, Source(pair.small, SHORT), **own)


GPT_ARMS = {
    "scratch": Scratch(),
    "stack": Rival("stack"),
    "stack-progressive": Progressive((Stage(0.5, 0.3), Stage(1, 0.7))),
    "ki": Distilled(),
    "ligo-0": Ligo(0),
    "ligo": Ligo(3),
    "ligo-small": Ligo(3, operator=Growth("per_small")),
    "ligo-tokendrop": Ligo(3, thrift=TokenDrop()),
    "ligo-moments": Ligo(3, moments=True),
}
ARMS = {Name("toy", "gpt", name): settings("gpt", recipe) for name, recipe in GPT_ARMS.items()}
ARMS |= {
    Name("dots", "vit", name): settings("vit", recipe) for name, recipe in (("scratch", Scratch()), ("ligo", Ligo(3)))
}
ARMS |= {
    Name("toy", "bert", name): settings("bert", recipe) for name, recipe in (("scratch", Scratch()), ("ligo", Ligo(3)))
}
ALWAYS = {"validation_loss", "validation_accuracy", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
ALWAYS |= {"start_loss", "start_accuracy", "growth_flops", "growth_paper_flops", "growth_seconds", "parameters"}
ALWAYS |= {"layers_large", "steps", "flops_per_step", "paper_flops_per_step", "training_bytes"}
SOURCED = {"layers_small", "source_loss", "source_accuracy", "source_test_loss", "source_flops", "source_paper_flops"}
SOURCED |= {"source_seconds", "source_steps/2x16"}
LEARNED = {"operator_parameters", "moved/width", "moved/width_largest", "moved/depth", "moved/depth_largest"}


def run(folder, **options) -> Run:
    return Run("ligo", "smoke", results_dir=folder, quiet=True, uses=["effi.ligo.experiment"], **options)


def train(made: Run, arms: dict[Name, Settings] = ARMS) -> Experiment:
    work = Experiment(BOTH)
    work.share(made)
    made.each(work.train_source, sources_of(arms), [0], jobs=1)
    made.each(work.train, arms, [0], jobs=1)
    return work


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all arms are recorded."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def records(folder):
    made = run(folder)
    train(made)
    assert made.failed() == []
    return {record["arm"]: record for record in made.records()}


def test_small_models_are_arms_of_their_own_each_once(records) -> None:
    smalls = sources_of(ARMS)
    assert list(map(str, smalls)) == ["toy/gpt/source", "dots/vit/source", "toy/bert/source"]
    assert set(records) == {*map(str, smalls), *map(str, ARMS)}
    early = replace(settings("gpt", Ligo(3)), source=Source(PAIRS["gpt"].small, replace(SHORT, steps=4)))
    narrow = replace(settings("gpt", Ligo(3)), source=Source(PAIRS["gpt"].wider().small, SHORT))
    more = {Name("toy", "gpt", "ligo-early"): early, Name("toy", "gpt", "ligo-width"): narrow}
    assert [name.variant for name in sources_of(ARMS | more)][-2:] == ["source-early", "source-width"]
    assert source_of(early).training.steps == 4 and source_of(narrow).model == PAIRS["gpt"].wider().small


def test_records_hold_what_outcome_promises(records) -> None:
    for name, record in records.items():
        variant, metrics = name.split("/")[-1], record["metrics"]
        wanted = ALWAYS | (set() if variant in ("source", "scratch", "stack-progressive") else SOURCED)
        wanted |= LEARNED if variant.startswith("ligo") else set()
        wanted |= set() if name.startswith("dots") else {"test_perplexity"}
        assert metrics.keys() == wanted, name
        assert all(math.isfinite(value) for value in metrics.values())
        history = record["history"]
        assert len({len(values) for key, values in history.items() if not key.startswith("depth")}) == 1
        assert history["step"][0] == 0 and history["step"][-1] == (12 if variant == "source" else STEPS)
        roles = {key for key in history if key.startswith("depth/")}
        assert bool(roles) is variant.startswith("ligo")
        for role in roles:
            assert len(history[role]) == len(history[role.replace("depth/", "depth_initial/")]) == 4 * 2


def test_what_is_grown_from_is_the_trained_source_set_aside(records) -> None:
    for kind, dataset in (("gpt", "toy"), ("vit", "dots"), ("bert", "toy")):
        source, grown = (records[f"{dataset}/{kind}/{name}"] for name in ("source", "ligo"))
        metrics = grown["metrics"]
        assert metrics["source_loss"] == source["metrics"]["validation_loss"]
        assert metrics["source_flops"] == source["history"]["spent_flops"][-1] == source["cost"]["flops"]
        assert metrics["source_paper_flops"] == source["history"]["spent_paper_flops"][-1]
        assert metrics["source_steps/2x16"] == 12
        assert grown["cost"]["aside"]["source"]["flops"] == metrics["source_flops"]
        assert grown["cost"]["flops"] == grown["history"]["spent_flops"][-1]
    assert "source" not in records["toy/gpt/scratch"]["cost"]["aside"]


def test_learning_an_operator_helps_the_start(records) -> None:
    start = {name: records[f"toy/gpt/{name}"]["metrics"]["start_loss"] for name in ("scratch", "ligo-0", "ligo")}
    assert start["ligo"] < start["ligo-0"] < start["scratch"]


def test_moments_of_the_small_models_end_are_grown_and_change_the_training(records, folder) -> None:
    plain, grown = (records[f"toy/gpt/{name}"]["metrics"] for name in ("ligo", "ligo-moments"))
    assert grown["start_loss"] == plain["start_loss"] and grown["growth_flops"] == plain["growth_flops"]
    assert grown["test_loss"] != plain["test_loss"]
    work = Experiment(BOTH)
    work.share(run(folder))
    source = source_of(ARMS[Name("toy", "gpt", "ligo")])
    found = nested(work.sources.get(source, 0).tensors)
    model = build(source.model, BOTH["toy"].data, 0)
    assert set(found) == {"exp_avg", "exp_avg_sq", "step"} and set(map(float, found["step"].values())) == {12.0}
    assert {name: each.shape for name, each in found["exp_avg"].items()} == {
        name: each.shape for name, each in model.named_parameters()
    }
    assert all(bool((each >= 0).all()) for each in found["exp_avg_sq"].values())


def test_moments_of_another_optimiser_are_refused(tmp_path) -> None:
    sgd = replace(SHORT, optimizer="sgd")
    arm = replace(settings("gpt", Ligo(3, moments=True)), source=Source(PAIRS["gpt"].small, sgd))
    with pytest.raises(ParameterError, match="the small model has none: train it with adamw"):
        train(run(tmp_path), {Name("toy", "gpt", "ligo-moments"): arm})
    with pytest.raises(ParameterError, match="moments=True does not go with"):
        Ligo(moments=True, thrift=TokenDrop())


def test_what_is_recorded_is_not_trained_again(records, folder) -> None:
    again = run(folder)
    train(again)
    assert {each["checksum"] for each in again.records()} == {each["checksum"] for each in records.values()}


def test_a_small_model_that_is_lost_is_trained_anew_to_the_same_bits(records, tmp_path) -> None:
    made = run(tmp_path)
    work = Experiment(BOTH)
    work.share(made)
    name = Name("toy", "gpt", "ligo")
    made.each(work.train, {name: ARMS[name]}, [0], jobs=1)
    (again,) = made.records()
    assert again["metrics"]["test_loss"] == records[str(name)]["metrics"]["test_loss"]
    assert again["metrics"]["source_flops"] == records[str(name)]["metrics"]["source_flops"]


def test_savings_are_told_from_these_records(records) -> None:
    found = saved(list(records.values()))
    for name in GPT_ARMS:
        assert f"reached/final/toy/gpt/{name}" in found
    assert found["saving_flops/final/toy/gpt/scratch"] == 0
    assert found["rivals/toy/gpt"] == 3 and found["own_rivals/toy/gpt"] == 2


def test_a_dry_run_plans_all_steps_and_records_nothing(tmp_path) -> None:
    planned = run(tmp_path, dry_run=True)
    train(planned)
    steps = {row["arm"].split("/", 1)[-1]: row["steps"] for row in planned.plan()}
    assert steps["gpt/source"] == 12 and steps["gpt/scratch"] == steps["gpt/ligo-0"] == steps["gpt/ki"] == STEPS
    assert steps["gpt/ligo"] == STEPS + 3 and planned.records() == []


def test_a_dry_run_at_a_pace_counts_what_one_by_steps_does(tmp_path, monkeypatch) -> None:
    plans = []
    for pace in ("", "1e9"):
        if pace:
            monkeypatch.setenv(PACE, pace)
        planned = run(tmp_path, dry_run=True)
        train(planned)
        rows = [row for row in planned.plan() if "tokendrop" not in row["arm"]]  # drops from its second step on
        plans.append([(row["arm"], row["trainings"], row["steps"], row["flops"]) for row in rows])
    assert plans[0] == plans[1]


def test_steps_of_every_kind_are_timed(folder, records) -> None:
    work = train(run(folder))
    arms = {name: each for name, each in (sources_of(ARMS) | ARMS).items() if name.model == "gpt"}
    found = step_seconds(work, arms, seed=0, steps=1, budget_s=5)
    kinds = {name.removeprefix("step_seconds/toy/gpt/") for name in found}
    told = {key for record in records.values() if record["model"] == "gpt" for key in record["history"]}
    assert kinds == {key.removeprefix("steps/") for key in told if key.startswith("steps/")}
    assert all(value > 0 for value in found.values())


def test_a_pair_that_cannot_grow_is_refused_by_the_name_of_the_arm() -> None:
    work = Experiment(BOTH)
    work.check(ARMS)
    wide = replace(PAIRS["gpt"].small, size=TextSize(32, 2, 4, 64))
    with pytest.raises(ParameterError, match="an arm: the large model is narrower"):
        work.check({"an arm": replace(settings("gpt", Ligo()), source=Source(wide, SHORT))})
    work.check({"scratch": replace(settings("gpt"), source=Source(wide, SHORT))})


# --- data ----------------------------------------------------------------------------------------------------


def test_each_seed_has_windows_of_its_own_and_bert_reads_them_masked() -> None:
    work, of_gpt = Experiment(BOTH), replace(settings("gpt"), rows=100)
    one, again, other = (work.data(of_gpt, seed).train.inputs for seed in (0, 0, 1))
    assert len(one) == 100 and torch.equal(one, again) and not torch.equal(one, other)
    assert work.data(of_gpt, 1).validation is TOY.data.validation
    hidden = work.data(replace(settings("bert"), rows=100), 0)
    # 24 steps of 8 read 192 windows: each of 100 twice, hidden anew.
    assert hidden.train.inputs.shape == (200, TOKENS + 1)
    share = (hidden.train.labels != IGNORED).float().mean()
    assert 0.08 < share < 0.17
    with pytest.raises(ParameterError, match=f"{ROWS + 1} training windows of toy are asked for, which has {ROWS}"):
        work.data(replace(of_gpt, rows=ROWS + 1), 0)


def test_corpora_and_images_are_opened_in_part_or_whole(tmp_path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("".join(f"the {word} is {word}er than it was.\n" for word in ("cold", "warm", "dark") * 200))
    own = {"length": 9, "vocabulary": 300, "validation": 5, "test": 7}
    parts = {"digits": {"train": 100, "validation": 20, "size": 8}, "grammar": own | {"corpus": 2000}}
    names = [f"text:{file}", "digits", "grammar"]
    found = open_data(names, parts, scale="smoke", device="cpu", whole={"text": own})
    mine, digits, grammar = found.values()
    assert mine.subset["whole"] == 1 and grammar.subset["whole"] == digits.subset["whole"] == 0
    assert (len(mine.data.validation), len(mine.data.test)) == (5, 7) and mine.data.train.inputs.shape[1] == 8
    assert len(digits.data.train) == 100 and digits.data.shape == (1, 8, 8)


def test_models_read_the_data_that_they_are_for() -> None:
    for kind, one in (("vit", text()), ("gpt", images()), ("bert", images())):
        with pytest.raises(ParameterError, match=f"a {kind} does not read {one.name}: take vit for images, gpt or"):
            build(PAIRS[kind].large, one, 0)
    assert len(build(PAIRS["gpt"].large, text(), 0, 2).blocks) == 2
    assert readers(BOTH, ["vit", "gpt", "bert"]) == [(DOTS, "vit"), (TOY, "gpt"), (TOY, "bert")]
    with pytest.raises(ParameterError, match="no vit reads toy: take vit for images, gpt or bert for text"):
        readers({"toy": TOY}, ["vit"])


# --- a checkpoint of one's own -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with a small GPT-2 of transformers and a tokenizer."""
    folder = tmp_path_factory.mktemp("mine")
    with silent() as library:
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24, "vocab_size": 300}
        torch.manual_seed(0)
        net = library.GPT2LMHeadModel(library.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
        net.save_pretrained(folder)
    (own,) = open_data(["grammar"], {"grammar": {"length": 17, "vocabulary": 290, "corpus": 4000}}, **SMOKE).values()
    own.data.tokenizer.save(folder / "tokenizer.json")
    return folder, net


SMOKE: dict[str, Any] = {"scale": "smoke", "device": "cpu", "whole": {}}


def test_a_checkpoint_is_grown_as_a_source_is(mine) -> None:
    folder, net = mine
    wanted = TextSize(24, 4, 3, 96)
    pair, source = own_pair(folder, wanted)
    assert pair.large.size == wanted and pair.small.size == TextSize(16, 2, 2, 64) and source.training is None
    parts = {"grammar": {"length": 17, "corpus": 4000, "tokenizer": str(tokenizer_of(folder))}}
    opened = open_data(["grammar"], parts, **SMOKE)
    base = Settings(opened["grammar"].settings, pair.large, TRAINING, Ligo(2), source)
    work = Experiment(opened)
    work.check({"mine": base})
    task = work.task(base, 0, Ledger())
    assert isinstance(task.small, GPT) and task.source == {}
    ids = task.data.prepare(task.data.train.inputs[:4])
    torch.testing.assert_close(task.small(ids), net.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    found = base.recipe(task)
    assert found.history.curves["validation_loss"][-1] < found.history.curves["validation_loss"][0]
    assert sources_of({Name("grammar", "gpt", "ligo"): base}) == {}


def test_a_folder_that_cannot_be_grown_is_refused(mine, tmp_path) -> None:
    _, net = mine
    with pytest.raises(DataError, match=r"has no tokenizer\.json, without which no text has its ids"):
        tokenizer_of(tmp_path)
    with pytest.raises(DataError, match=r"is no checkpoint with config\.json and safetensors"):
        own_pair(tmp_path, LARGE)
    net.config.activation_function = "relu"
    net.config.save_pretrained(tmp_path)
    net.config.activation_function = "gelu_new"
    with pytest.raises(DataError, match="has activation_function=relu, and what is grown here has gelu"):
        own_pair(tmp_path, LARGE)


# --- parameters ----------------------------------------------------------------------------------------------


def test_parameters_of_the_notebook() -> None:
    usual: dict[str, Any] = {"dataset": "grammar", "kinds": [], "only": [], "source": 0.55, "sizes": {}, "growth": {}}
    spec.check(PARAMETERS, usual | {"operator": {}, "training": {}})
    own = {"sizes": {"gpt": {"large": {"depth": 6}}}, "growth": {"steps": 50, "lr": 1e-4}, "dataset": "digits"}
    spec.check(PARAMETERS, own | {"operator": {"width": "zero", "full": True}, "training": {"steps": 300}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kinds", ["gpt2"], "unknown kinds 'gpt2'.*gpt"),
        ("source", 0.0, "source is 0.0; give a number between 0 and 10"),
        ("sizes", {"gpt": {"large": {"width": 66, "heads": 4}}}, "width 66 is not a multiple of heads 4"),
        ("sizes", {"gpt": {"larger": {}}}, r"unknown key of sizes\['gpt'\] 'larger'.*large"),
        ("growth", {"stepss": 3}, "did you mean 'steps'"),
        ("operator", {"width": "ones"}, "operator width 'ones'"),
        ("training", {"epochs": 3}, "training is counted in steps here; give steps instead of epochs"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, value, message) -> None:
    with pytest.raises(ParameterError, match=message):
        spec.check(PARAMETERS, {name: value})
