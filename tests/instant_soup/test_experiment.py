"""Arms from settings to records: a small CLIP pretrained on pairs, and texts with a published encoder's place taken."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from effi import data as named
from effi import masks
from effi.cost import Ledger
from effi.data import Dataset
from effi.data.opening import Opened
from effi.errors import ParameterError
from effi.instant_soup import Cut, Denoiser, Dense, Longer, Lottery, Noisy, Rounds, Soup
from effi.instant_soup.building import coloured, gathered, prompts, seen_as, words_of
from effi.instant_soup.experiment import Experiment
from effi.instant_soup.settings import Model, Pretraining, Settings
from effi.training import Classification, Training, evaluate

SIZE = {"width": 16, "depth": 1, "heads": 2, "hidden": 32, "patch": 4, "embedding": 16}
BRIEF = Training(epochs=1, batch_size=40, optimizer="adamw", lr=3e-3)
PRETRAINING = Pretraining({"digits": {"name": "digits"}}, SIZE, replace(BRIEF, epochs=8), ("a {}", "the {}"))
SETTINGS = Settings("digits/clip", {"name": "digits"}, Model("clip", pretraining=PRETRAINING), BRIEF, Dense())


class Shelf:
    """Artefacts in memory, and how many were made because nobody kept them."""

    def __init__(self, make) -> None:
        self.make, self.kept, self.made = make, [], 0

    def keep(self, settings, seed, found) -> None:
        self.kept.append((settings, seed, found))

    def get(self, settings, seed):
        for *key, found in self.kept:
            if key == [settings, seed]:
                return found
        self.made += 1
        return self.make(settings, seed)


@pytest.fixture(scope="module")
def experiment():
    one = named.load("digits", train=320, validation=80, test=80)
    opened = Opened("digits", one, {"size": 8})
    made = Experiment({"digits/clip": opened}, {"digits": opened})
    kept = made.pretrain(PRETRAINING, 0)
    made.pretrained = SimpleNamespace(get=lambda settings, seed: kept)
    made.souped, made.climbed = Shelf(made.soup), Shelf(made.climb)
    return made


def arm(recipe=None, **changes):
    kept = {}

    def record(metrics, curves=None, marks=None) -> None:
        kept.update(metrics=metrics, curves=curves, marks=marks)

    settings = replace(SETTINGS, **({"recipe": recipe} if recipe else {}), **changes)
    own = {"settings": settings, "seed": 0, "ledger": Ledger(), "checkpoint": None, "dry_run": False}
    return SimpleNamespace(**own, record=record, kept=kept)


def test_pretraining_teaches_classes_by_their_prompts(experiment):
    task = experiment.task(SETTINGS, 0, Ledger())
    found = evaluate(task.model, task.data.test, task.data, Classification())
    assert found["accuracy"] > 0.3  # of ten classes, without a label seen as one
    head = task.model.head
    assert not head.requires_grad and head.norm(dim=1).std() < 1e-4 * head.norm(dim=1).mean()


def test_an_arm_records_scores_sparsity_and_what_each_part_cost(experiment):
    soup = Soup(Rounds(0.45, 0.3), Denoiser(nets=2, steps=3))
    one = arm(soup, training=replace(BRIEF, epochs=4))
    experiment.train(one)
    metrics, cost = one.kept["metrics"], one.ledger.total()
    assert metrics["alive"] == pytest.approx(0.55, abs=1e-3) and 0 <= metrics["final_share"] <= 1
    assert metrics["rounds"] == len(one.kept["curves"]["prune/after"]) >= 2
    parts = {name: metrics[f"{name}_flops"] for name in ("fine_tune", "look_ahead", "search")}
    assert parts["search"] == 0 < parts["look_ahead"]
    assert sum(parts.values()) + cost["phases"]["evaluate"]["flops"] == cost["flops"] > cost["paper_flops"]
    assert set(one.kept["marks"]) == {"test_accuracy", "best_test_accuracy"}


def test_what_is_longer_costs_what_the_soup_cost(experiment):
    soup = Soup(Rounds(0.45, 0.3), Denoiser(nets=2, steps=3))
    one, other = arm(soup), arm(Longer(Cut(0.45), soup))
    experiment.train(one)
    experiment.train_beside(other)
    asked = sum(moved > 0 for moved in one.kept["curves"]["prune/moved"])
    # A step of a weak net reads the 32 examples that are its part, one of the main training 40.
    more = round(2 * 3 * asked * 32 / 40)
    assert other.kept["curves"]["step"][-1] == one.kept["curves"]["step"][-1] + more and asked >= 2
    looked, longer = (each.ledger.total()["phases"] for each in (one, other))
    paid = looked["train"]["flops"] + looked["look-ahead"]["flops"]
    assert longer["train"]["flops"] == pytest.approx(paid, rel=0.03), "to the step, evaluations aside"


def test_masks_save_flops_on_a_sparse_machine_only(experiment):
    dense, cut = arm(), arm(Cut(0.9))
    for one in (dense, cut):
        experiment.train(one)
    totals = [one.ledger.total() for one in (dense, cut)]
    assert totals[0]["flops"] == totals[1]["flops"] == totals[0]["paper_flops"]
    assert totals[1]["paper_flops"] < 0.6 * totals[1]["flops"]


def test_masks_are_compared_with_chance(experiment):
    one = arm(Lottery(0.3, points=0.15))
    experiment.compare_masks(one)
    metrics, total = one.kept["metrics"], one.ledger.total()
    assert metrics["chance_iou/random"] == pytest.approx(0.3 / 1.7)
    assert metrics["pruned_iou/random"] == pytest.approx(metrics["chance_iou/random"], abs=0.03)
    assert metrics["pruned_iou/magnitude"] > 2 * metrics["chance_iou/random"]
    assert set(total["phases"]) == {"search"} and total["flops"] > 0


def test_tickets_of_one_ladder_share_its_rounds(experiment):
    top = Lottery(0.3, points=0.15)
    high, low, alone = arm(top), arm(top.at(0.15)), arm(Lottery(0.15, points=0.15))
    stages = experiment.stages({"low": low.settings, "high": high.settings}, {"low": [0], "high": [0]})
    assert [list(arms) for _, arms, _ in stages] == [["high"], ["low"]]
    experiment.train(high)
    made = experiment.climbed.made
    experiment.train_rung(low)
    experiment.compare_masks(arm(top.at(0.15)))
    assert experiment.climbed.made == made, "rounds that were kept were trained again"
    experiment.train(alone)
    assert low.kept["metrics"] == alone.kept["metrics"]
    assert low.ledger.total()["flops"] == alone.ledger.total()["flops"]


def test_what_takes_its_measure_from_a_soup_comes_after_it(experiment):
    soup = Soup(Rounds(0.45, 0.3), Denoiser(nets=2, steps=3))
    recipes = {"noisy": Noisy(soup), "soup": soup, "longer": Longer(Cut(0.45), soup)}
    arms = {name: replace(SETTINGS, recipe=recipe) for name, recipe in recipes.items()}
    stages = experiment.stages(arms, {name: [0, 1] for name in arms} | {"longer": [0]})
    assert [(list(own), seeds) for _, own, seeds in stages] == [
        (["soup"], [0, 1]),
        (["noisy"], [0, 1]),
        (["longer"], [0]),
    ]


def test_weights_asked_for_by_name_may_be_pruned_too(experiment):
    task = experiment.task(replace(SETTINGS, include=("projection",)), 0, Ledger())
    assert set(task.names) - set(masks.prunable(task.model)) == {"projection.weight"}


def test_several_sets_are_one_with_the_classes_of_all():
    digits = named.load("digits", train=50, validation=10, test=10)
    assert isinstance(digits, Dataset)
    both = gathered([digits, digits])
    assert both.shape == (3, 8, 8) and len(both.train) == 100 and both.classes == digits.classes * 2
    assert torch.equal(both.train.labels[50:], digits.train.labels + 10)
    assert torch.equal(both.train.inputs[:50, 2:], digits.train.inputs)
    seen = seen_as(digits, replace(both, mean=(0.5,) * 3, std=(2.0,) * 3))
    assert torch.equal(seen.prepare(seen.train.inputs), (coloured(digits).train.inputs / 255 - 0.5) / 2)


def test_prompts_name_digits_and_things():
    assert [words_of(name) for name in ("7", "airplane", "ice_cream")] == ["digit 7", "airplane", "ice cream"]
    assert prompts(["7"], ["a {}.", "the {}."]) == [["a digit 7.", "the digit 7."]]


def test_a_schedule_that_cannot_reach_its_target_is_refused_by_name(experiment):
    soup = Soup(Rounds(0.9, 0.15), Denoiser(nets=2, steps=3))
    for recipe in (soup, Longer(Cut(0.9), soup)):
        with pytest.raises(ParameterError, match=r"an arm: 13 rounds to a sparsity of 0\.9 take"):
            experiment.check({"an arm": replace(SETTINGS, recipe=recipe)})
    enough = replace(BRIEF, epochs=40)
    experiment.check({"an arm": replace(SETTINGS, recipe=soup, training=enough), "dense": SETTINGS})


def test_weights_that_a_task_adds_are_prunable_in_its_record(experiment):
    one, other = arm(Cut(0.5)), arm(Cut(0.5), include=("projection",))
    for each in (one, other):
        experiment.train(each)
    sizes = [each.kept["metrics"]["prunable"] for each in (one, other)]
    assert sizes[1] - sizes[0] == SIZE["width"] * SIZE["embedding"]
