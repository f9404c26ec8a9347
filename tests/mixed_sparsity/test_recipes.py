"""Recipes are the method and its controls: special cases to the bit, FLOPs as wanted, and the same after a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.masks import sparsity
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.flops import Accounting, GPTSize
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import (
    PHASES,
    Dense,
    Sparse,
    evolutionary,
    gradual,
    mst,
    rigl,
    static,
    static_then_dense,
)
from effi.mixed_sparsity.schedule import Phases
from effi.records.identity import canonical
from effi.training import Step
from tests.instant_soup.tiny import same_mask, same_weights
from tests.mixed_sparsity.toy import BATCH, STEPS, TOKENS, TRAINING, VOCABULARY, accounting, cut_off, task
from tests.training.conftest import one_thread as one_thread
from tests.training.curves import learnt

GPT2 = Accounting(GPTSize(depth=12, width=768, hidden=3072, tokens=1024, vocabulary=50304))
WINDOW = Pattern("merged", 4)
EVERY, RATIO = 2, 0.45
# Of 40 steps the restoration has 8, and the last 4 train all weights.
SCHEDULE = replace(PHASES, restoration=0.2, settle=0.5)
HASTY = replace(SCHEDULE, settle=0.0)
METHOD = mst(EVERY, WINDOW, SCHEDULE)


def trained(recipe, **options):
    one = task(**options)
    return one, recipe(one)


@cache
def dense():
    """A training that many look at and none changes."""
    return trained(Dense())


@cache
def whole():
    """The same of the method."""
    return trained(METHOD)


def total(parts) -> float:
    return sum(parts.values())


def realised(found, how) -> float:
    """FLOPs over those of as many dense steps."""
    ledger = found.course.ledger(found.told, how)
    return sum(map(total, ledger.values())) / (found.course.steps * total(how.flops()))


# --- special cases -------------------------------------------------------------------------------------------


def test_at_sparsity_0_it_is_dense_training_to_the_bit():
    recipe = Sparse(Phases(0.0), Evolution(EVERY, order="after"))
    (one, found), (plain, expected) = trained(recipe), dense()
    assert same_weights(one.model, plain.model) and learnt(found.history) == learnt(expected.history)
    assert min(found.told["pruned"][1:-1]) > 0 and sum(found.told["churn"]) == 0
    assert found.history.curves["validation_loss"][-1] < 0.5 * math.log(VOCABULARY)


def test_without_a_drop_rigl_and_set_are_static():
    fixed = trained(static(0.7))
    for recipe in (rigl(0.7, EVERY), evolutionary(0.7, EVERY)):
        one, found = trained(replace(recipe, evolution=replace(recipe.evolution, drop=0.0)))
        assert same_weights(one.model, fixed[0].model) and same_mask(found.mask, fixed[1].mask)
        assert found.told["step"] == [0]
        moved, other = trained(recipe)
        assert not same_weights(moved.model, one.model) and not same_mask(other.mask, found.mask)


def test_a_quarter_of_the_tokens_is_a_training_of_its_own():
    one, found = trained(Dense(0.25))
    alone, expected = trained(Dense(), training=replace(TRAINING, steps=STEPS // 4))
    assert same_weights(one.model, alone.model) and learnt(found.history) == learnt(expected.history)
    assert found.course.steps == STEPS // 4 == found.history.curves["step"][-1]
    assert one.steps == STEPS, "the task is the whole training still"
    for share in (0.0, 1.5):
        with pytest.raises(ParameterError, match=f"share={share:g} of the tokens"):
            Dense(share)


def test_static_then_dense_changes_its_mask_once_and_loses_no_step():
    one, found = trained(static_then_dense(0.8, dense=0.2))
    assert found.told["step"] == [0, 0.8 * STEPS] and found.told["sparsity"][0] == pytest.approx(0.8, abs=2e-3)
    assert sparsity(found.mask) == 0 < found.told["random"][1] == found.told["activated/random"][1]
    assert untrained(one, found) == 0
    spans = [(span.stage, span.stretch.steps) for span in found.course.spans(found.told)]
    assert spans == [("ultra", 32), ("restoration", 8)]


def test_gradual_pruning_grows_nothing_and_ends_sparse():
    _, found = trained(gradual(0.8, EVERY, warmup=0.5))
    assert found.told["step"] == list(range(0, STEPS // 2 + 1, EVERY)), "the warm-up alone"
    assert sum(found.told["gradient"]) == sum(found.told["random"]) == 0
    assert found.told["sparsity"] == sorted(found.told["sparsity"])
    assert sparsity(found.mask) == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize(("mix", "kinds"), [(0.0, ["random"]), (1.0, ["gradient", "random"]), (math.inf, ["gradient"])])
def test_growth_is_of_the_kind_asked_for(mix, kinds):
    _, found = trained(mst(EVERY, None, SCHEDULE, mix=mix))
    assert [kind for kind in ("gradient", "random") if any(found.told[kind])] == kinds


# --- attention -----------------------------------------------------------------------------------------------


def step_flops(attention) -> int:
    model = task().model
    model.attention = attention
    return model.train_flops(BATCH, TOKENS)


def test_attention_is_sparse_until_the_restoration():
    """The loop counts the scores that each step makes; warm-up and ultra are four fifths of the steps."""
    one, found = whole()
    steps = dict.fromkeys(("warm-up", "ultra", "restoration"), 0)
    for stage, stretch in found.course.spans(found.told):
        steps[stage] += stretch.steps
        assert stretch.attention == (None if stage == "restoration" else WINDOW.density(TOKENS).square)
    assert steps == {"warm-up": 4, "ultra": 28, "restoration": 8} and one.model.attention is None
    causal, sparse = step_flops(None), step_flops(HybridAttention(WINDOW))
    assert one.ledger.total()["phases"]["train"]["flops"] == 32 * sparse + 8 * causal and sparse < causal


def test_a_phase_may_keep_its_sparse_attention():
    one, found = trained(replace(METHOD, within=("warm-up", "ultra", "restoration")))
    assert one.model.attention == HybridAttention(WINDOW)
    assert one.ledger.total()["phases"]["train"]["flops"] == STEPS * step_flops(one.model.attention)
    losses = (each.history.curves["validation_loss"] for each in (found, whole()[1]))
    assert [a == b for a, b in zip(*losses, strict=True)] == [True, True, True, False], "up to the restoration"


# --- the end of a schedule -----------------------------------------------------------------------------------


def untrained(one, found) -> int:
    """Weights that the last mask keeps and that are exactly zero."""
    return sum(int((kept & (one.model.get_parameter(name) == 0)).sum()) for name, kept in found.mask.items())


def dead(weight) -> int:
    """Weights in rows or columns without any other than zero."""
    alive = weight.detach() != 0
    return int((~(alive.any(1)[:, None] & alive.any(0))).sum())


def test_all_that_is_restored_is_trained():
    """But for units with nothing left on either side, at which all gradients are zero for ever."""
    one, found = whole()
    assert sparsity(found.mask) == 0 and found.told["step"][-1] == 36
    assert untrained(one, found) == sum(dead(one.model.get_parameter(name)) for name in found.mask) < 300
    one, found = trained(replace(METHOD, phases=HASTY))
    assert sparsity(found.mask) == 0 and found.told["step"][-1] == STEPS
    assert untrained(one, found) > 500, "what an update after the last step revives"


def test_no_step_is_lost_once_all_weights_are_back():
    assert METHOD.carried_out().until == pytest.approx(0.9)
    assert mst(EVERY, None, SCHEDULE, until=0.7).carried_out().until == 0.7
    for phases in (Phases(0.8, 0, 0), replace(SCHEDULE, end=0.5)):
        assert mst(EVERY, None, phases).carried_out().until == 1.0, "what stays sparse goes on moving"


def test_a_schedule_that_trains_nothing_at_its_end_is_refused():
    METHOD.check(STEPS, TOKENS)
    message = r"last update before step 40 comes after step 38, at a sparsity of 0\.463.* at 0, .*every=2.*settle"
    with pytest.raises(ParameterError, match=message):
        replace(METHOD, phases=HASTY).check(STEPS, TOKENS)
    with pytest.raises(ParameterError, match="comes after step 0, at a sparsity of 0,"):
        gradual(0.8, every=100).check(STEPS, TOKENS)
    with pytest.raises(ParameterError, match="longer than the context of 3 tokens"):
        METHOD.check(STEPS, 3)
    stairs = replace(METHOD, phases=replace(HASTY, stairs=3))
    for recipe in (static(0.8), rigl(0.8, 100), static_then_dense(0.8), stairs):
        recipe.check(STEPS, TOKENS)


# --- FLOPs ---------------------------------------------------------------------------------------------------

EQUAL = {
    "static": (static(0.5), "ultra"),
    "set": (evolutionary(0.5, EVERY), "ultra"),
    "rigl": (rigl(0.5, EVERY), "ultra"),
    "mst": (METHOD, "ultra"),
    "fast": (mst(EVERY, WINDOW, replace(SCHEDULE, shape="fast")), "ultra"),
    "no attention": (mst(EVERY, None, SCHEDULE), "ultra"),
    "no variation": (METHOD, "constant"),
    "gradual": (gradual(0.5, EVERY), "ultra"),
    "static then dense": (static_then_dense(0.9), "restoration"),
    "longer": (mst(EVERY, WINDOW, replace(SCHEDULE, ultra=0.9)), "restoration"),
    "stairs": (mst(EVERY, WINDOW, replace(SCHEDULE, stairs=2)), "ultra"),
    "half": (mst(EVERY, WINDOW, replace(SCHEDULE, end=0.3)), "ultra"),
}


@pytest.mark.parametrize("name", EQUAL)
def test_arms_of_equal_flops_realise_them(name):
    """Within DT / T."""
    recipe, by = EQUAL[name]
    how = accounting("causal")
    solved = recipe.at(RATIO, how, by=by)
    assert solved.ratio(how) == pytest.approx(RATIO, abs=1e-9)
    _, found = trained(solved)
    assert realised(found, how) == pytest.approx(RATIO, abs=EVERY / STEPS)


def carried_out(recipe, steps: int):
    """Masks of a training of so many steps, in which nothing is trained."""
    one = task(replace(TRAINING, steps=steps))
    method, course = recipe.prepared(one)
    step = Step(steps, one.model, None, one.ledger, lambda mask: None)
    for weight in method.weights.values():
        weight.grad = weight.detach().clone()
    for step.index in range(1, steps + 1):
        method(step)
    return SimpleNamespace(told=method.told, course=course)


@pytest.mark.parametrize("name", ["rigl", "mst", "longer", "stairs", "half"])
def test_many_updates_realise_flops_closely(name):
    """Closest where the sparsity ends where it started, so that delays at both ends make up for each other."""
    recipe, by = EQUAL[name]
    often = replace(recipe, evolution=replace(recipe.evolution, every=3))
    found = carried_out(often.at(RATIO, accounting(), by=by), 300)
    assert realised(found, accounting()) == pytest.approx(RATIO, abs=5e-3 if name == "half" else 2e-3)


def test_the_constant_sparsity_keeps_its_phases():
    solved = METHOD.at(RATIO, accounting(), by="constant")
    phases = solved.phases
    assert phases.ultra == phases.start == phases.end and phases.lengths() == SCHEDULE.lengths()
    assert replace(solved, phases=SCHEDULE) == METHOD and phases.ultra < METHOD.at(RATIO, accounting()).phases.ultra


def test_ratios_of_gpt2_small():
    """The sheet's static arm of a quarter, and the default schedule, settled or not."""
    assert static(0.8).at(0.25, GPT2).phases.ultra == pytest.approx(0.865, abs=5e-4)
    pattern = Pattern("merged", 128)
    hasty, settled = (
        Sparse(phases, Evolution(100, mix=0.0), attention=pattern) for phases in (replace(PHASES, settle=0.0), PHASES)
    )
    assert hasty.ratio(GPT2) == pytest.approx(0.236, abs=5e-4)
    assert settled.ratio(GPT2) - hasty.ratio(GPT2) == pytest.approx(0.8675 * 0.1 * 0.2 * 0.75 * 0.8, abs=1e-4)
    # An update in a hundred makes the gradient of the pruned weights, too: a third of their FLOPs.
    overhead = mst(100, pattern).ratio(GPT2) - settled.ratio(GPT2)
    assert overhead == pytest.approx(0.8675 * PHASES.mean() / 3 / 100, rel=1e-3)
    with pytest.raises(ParameterError, match="make the head sparse, which alone costs"):
        rigl(0.8, 100).at(0.25, replace(GPT2, head="dense"))


def test_a_step_is_counted_when_it_is_made_as_it_is_afterwards():
    one, found = whole()
    counted, train = found.course.ledger(found.told, accounting()), one.ledger.total()["phases"]["train"]
    assert train["paper_flops"] == pytest.approx(sum(map(total, counted.values())) * BATCH * TOKENS, rel=1e-6)
    assert train["paper_flops"] < 0.6 * train["flops"] and counted["ultra"]["dense gradients"] > 0
    train = dense()[0].ledger.total()["phases"]["train"]
    assert train["paper_flops"] == train["flops"] == total(accounting().flops()) * STEPS * BATCH * TOKENS


# --- settings, a plan, and cut off ---------------------------------------------------------------------------


def test_settings_can_be_recorded_and_told_apart():
    plain = [canonical(recipe) for recipe, _ in EQUAL.values()]
    assert all(plain.count(each) == 1 for each in plain if each != canonical(METHOD))
    assert canonical(mst(EVERY, WINDOW, mix=math.inf)) != canonical(mst(EVERY, WINDOW))


def test_a_dry_run_measures_one_step_and_leaves_masks_alone():
    one, found = trained(METHOD, ledger=Ledger(dry_run=True))
    forecast = one.ledger.forecast()
    assert forecast["steps"] == STEPS and found.told["step"] == [0] and found.history.curves == {}
    assert forecast["flops"] == STEPS * step_flops(HybridAttention(WINDOW))


@pytest.mark.parametrize("place", [3, 22, 37])
def test_a_training_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch, place):
    """In each of the phases, with another attention in the last."""
    one, found = whole()
    with cut_off(monkeypatch, place + 1):
        trained(METHOD, checkpoint=tmp_path / "arm")
    again, resumed = trained(METHOD, checkpoint=tmp_path / "arm")
    assert same_weights(again.model, one.model) and same_mask(resumed.mask, found.mask)
    assert resumed.told == found.told and learnt(resumed.history) == learnt(found.history)
    ours, theirs = (each.ledger.total()["phases"]["train"] for each in (again, one))
    assert (ours["flops"], ours["paper_flops"]) == (theirs["flops"], theirs["paper_flops"])
