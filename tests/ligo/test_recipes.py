"""How arms begin and what they are charged: scratch, rivals and the operator, from start to outcome."""

from __future__ import annotations

import math

import pytest
import torch

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.ligo.flops import growth_step
from effi.ligo.operator import Growth, GrowthOperator
from effi.ligo.outcome import curves, outcome
from effi.ligo.pieces import place
from effi.ligo.recipes import Ligo, Rival, Scratch
from effi.ligo.rivals import RIVALS
from effi.ligo.thrift import LayerDrop
from effi.ligo.trained import joined
from effi.ligo.tuning import Grown
from effi.training import History, Training, evaluate
from tests.ligo.toy import BATCH, STEPS, TOKENS, task
from tests.training.conftest import one_thread as one_thread

LEARNED = Ligo(4, warmup=1)


def validation(one, model) -> float:
    return evaluate(model, one.data.validation, one.data, one.objective)["loss"]


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
def test_scratch_begins_with_new_weights_for_nothing(kind) -> None:
    one = task(kind, grows=False)
    start = validation(one, one.model)
    found = Scratch()(one)
    history = found.history.curves
    assert history["validation_loss"][0] == pytest.approx(start) and history["step"] == [0, 8, 16, 24]
    assert history["spent_flops"][0] == history["seconds"][0] == 0
    assert history["spent_flops"][-1] == STEPS * one.executed(one.model)
    assert history["spent_paper_flops"][-1] == STEPS * one.paper_step(one.model)
    assert len({len(values) for values in history.values()}) == 1
    metrics = outcome(one, found).metrics
    assert metrics["start_loss"] == history["validation_loss"][0] and metrics["growth_flops"] == 0
    assert metrics["validation_loss"] == history["validation_loss"][-1] < start
    assert metrics["test_loss"] == pytest.approx(evaluate(one.model, one.data.test, one.data, one.objective)["loss"])


def test_evaluations_are_set_aside() -> None:
    one = task(grows=False)
    Scratch()(one)
    total = one.ledger.total()
    assert total["flops"] == STEPS * one.executed(one.model)
    assert total["aside"]["evaluate"]["flops"] > 0 and total["aside"]["evaluate"]["seconds"] > 0


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_a_rival_begins_with_its_weights_and_leaves_the_small_model(name) -> None:
    one, other = task(), task()
    place(other.model, RIVALS[name](other.small, other.model, 0))
    before = {key: value.clone() for key, value in one.small.state_dict().items()}
    found = Rival(name)(one)
    assert found.history.curves["validation_loss"][0] == pytest.approx(validation(other, other.model), rel=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in one.small.state_dict().items())
    assert outcome(one, found).metrics["growth_flops"] == 0


def test_an_unknown_rival_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"unknown rival 'stak'.*stack"):
        Rival("stak")


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
def test_without_learning_the_operator_is_as_it_begins(kind) -> None:
    one, other = task(kind), task(kind)
    operator = GrowthOperator(other.small, other.model, seed=0)
    place(other.model, operator())
    found = Ligo(0)(one)
    assert found.history.curves["validation_loss"][0] == pytest.approx(validation(other, other.model), rel=1e-5)
    assert found.facts["moved/width"] == found.facts["moved/depth"] == 0
    assert found.history.curves["spent_flops"][0] == 0
    for role, weights in operator.depth_weights().items():
        assert found.drawn[f"depth/{role}"] == found.drawn[f"depth_initial/{role}"]
        assert found.drawn[f"depth/{role}"] == pytest.approx(weights.detach().flatten().tolist())


def test_growth_is_learned_on_the_loss_and_charged() -> None:
    one = task()
    before = {key: value.clone() for key, value in one.small.state_dict().items()}
    found = LEARNED(one)
    other = task()
    grown = Grown(GrowthOperator(other.small, other.model, seed=0), other.model)
    step, paper = grown.train_flops(BATCH, TOKENS), growth_step(one.sizes(one.small), one.sizes(one.model), BATCH)
    history, metrics = found.history.curves, outcome(one, found).metrics
    assert history["spent_flops"][0] == metrics["growth_flops"] == 4 * step
    assert history["spent_paper_flops"][0] == metrics["growth_paper_flops"] == 4 * paper
    assert history["spent_flops"][-1] - history["spent_flops"][0] == STEPS * one.executed(one.model)
    assert history["steps/4x24-from-2x16"] == [4] * 4 and history["steps/4x24"] == [0, 8, 16, 24]
    assert 0 < metrics["growth_seconds"] <= history["seconds"][0]
    assert found.facts["moved/width"] > 0 and found.facts["moved/depth"] > 0
    assert all(torch.equal(value, before[key]) for key, value in one.small.state_dict().items())
    start = Ligo(0)(task()).history.curves["validation_loss"][0]
    assert history["validation_loss"][0] < start
    assert set(curves(found)) == {*history, *found.drawn}


def test_steps_of_growth_are_told_apart_by_what_they_compute() -> None:
    one = task()
    assert LEARNED.kind(one) == Ligo(9, lr=0.1).kind(one) == "4x24-from-2x16"
    assert Ligo(operator=Growth("all", full=True)).kind(one) == "4x24-from-2x16-share_all-full_True"


def test_rates_of_growth() -> None:
    main = Training(steps=400, optimizer="adamw", lr=1.0, weight_decay=0.1, schedule="cosine", warmup=0.1, floor=0.1)
    ours = Ligo(100, lr=1e-3, depth_lr=1e-2).training(main)
    assert [ours.rate(step, 100) for step in (0, 9)] == pytest.approx([1e-4, 1e-3])
    assert ours.rate(99, 100) < 2e-5 and ours.all_steps(1000) == 100
    (weights,) = ours.groups
    assert (weights.lr, weights.weight_decay) == (1e-2, 0.1)
    assert Ligo(operator=Growth(tune_depth=False)).training(main).groups == ()
    # The released command warms up for 10,000 steps and makes 100; its first step has a rate of 0, ours of 2e-8.
    released = Ligo(100, lr=2e-4, depth_lr=2e-4, warmup=10_000).training(main)
    rates = [released.rate(step, 100) for step in range(100)]
    assert math.isclose(sum(rates) - rates[-1], 9.9e-5) and max(rates) == pytest.approx(2e-6)


def test_a_rate_of_its_own_reaches_the_depth_weights_alone() -> None:
    still = Ligo(3, lr=1e-12, depth_lr=1e-2, warmup=0)(task()).facts
    assert still["moved/width_largest"] < 1e-9 and still["moved/depth_largest"] > 1e-3
    narrow = Ligo(3, lr=1e-2, depth_lr=1e-12, warmup=0)(task()).facts
    assert narrow["moved/width_largest"] > 1e-3 and narrow["moved/depth_largest"] < 1e-9


def test_a_pair_of_equal_widths_has_no_width_to_learn() -> None:
    one = task()
    deep = task(small=one.of_depth(2))
    found = Ligo(2)(deep)
    assert found.facts["moved/width"] == 0 < found.facts["moved/depth"]
    assert found.history.curves["steps/4x24-from-2x24"][0] == 2


def test_thrift_comes_after_growth() -> None:
    found = Ligo(2, thrift=LayerDrop(0.5))(task())
    assert found.history.curves["steps/4x24-LayerDrop"][-1] == STEPS
    assert found.history.curves["steps/4x24-from-2x16"][-1] == 2


def test_nothing_is_grown_of_nothing() -> None:
    for recipe in (Rival("stack"), Ligo()):
        with pytest.raises(ParameterError, match="give a source"):
            recipe(task(grows=False))
    with pytest.raises(ParameterError, match="steps=-1 of growth: give 0 or more"):
        Ligo(-1)


def test_a_dry_run_measures_a_step_of_growth_and_one_of_training() -> None:
    ledger = Ledger(dry_run=True)
    LEARNED(task(ledger=ledger))
    assert ledger.steps == ledger.planned_steps == STEPS + 4


def test_histories_in_a_row_are_one() -> None:
    def history(points: int, kind: str, spent: float) -> History:
        steps = [float(place + 1) for place in range(points)]
        own = {"step": steps, "spent_flops": [spent + step for step in steps], f"steps/{kind}": steps}
        return History(0, own)

    found = joined([history(2, "a", 0), history(3, "b", 10), history(1, "a", 20)]).curves
    assert found["step"] == [1, 2, 3, 4, 5, 6] and found["spent_flops"] == [1, 2, 11, 12, 13, 21]
    assert found["steps/a"] == [1, 2, 2, 2, 2, 3] and found["steps/b"] == [0, 0, 1, 2, 3, 3]
