"""Subsets are stratified, seeded, disjoint and nested."""

from __future__ import annotations

import pytest
import torch

from effi.data.examples import Examples
from effi.data.splits import fifth, hold_out, ranks, shorten, strata, stratified_order
from effi.errors import DataError


def examples(labels: torch.Tensor) -> Examples:
    """Images that carry their own index, so that a subset says whom it holds."""
    return Examples(torch.arange(len(labels))[:, None, None, None], labels)


def who(part: Examples) -> list[int]:
    return part.inputs.flatten().tolist()


BALANCED = torch.arange(10).repeat(60)
SKEWED = torch.arange(4).repeat_interleave(torch.tensor([400, 150, 49, 1]))


@pytest.mark.parametrize("labels", [BALANCED, SKEWED])
def test_ranks_number_each_class(labels: torch.Tensor) -> None:
    rank = ranks(labels, 0)
    for label in labels.unique():
        own = rank[labels == label]
        assert own.sort().values.equal(torch.arange(len(own)))
    assert not rank.equal(ranks(labels, 1))


@pytest.mark.parametrize("labels", [BALANCED, SKEWED])
@pytest.mark.parametrize("count", [1, 7, 64, 300, 599])
def test_prefixes_and_suffixes_are_stratified(labels: torch.Tensor, count: int) -> None:
    order = stratified_order(labels, 3)
    assert order.sort().values.equal(torch.arange(len(labels)))
    expected = torch.bincount(labels) * count / len(labels)
    for part in (order[:count], order[-count:]):
        assert (torch.bincount(labels[part], minlength=len(expected)) - expected).abs().max() < 2


def test_the_odd_images_of_a_short_prefix_fall_on_other_classes_for_another_seed() -> None:
    by_class = BALANCED.sort().values
    firsts = {tuple(by_class[stratified_order(by_class, seed)[:3]].tolist()) for seed in range(5)}
    assert len(firsts) > 1


@pytest.mark.parametrize(("validation", "held"), [(0.1, 60), (0, 0), (0.0, 0), (45, 45), (0.0001, 1), (0.07, 42)])
def test_hold_out_parts_the_training_set(validation: float, held: int) -> None:
    train, kept_back = hold_out(examples(BALANCED), None, validation, 0)
    assert (len(train), len(kept_back)) == (600 - held, held)
    assert sorted(who(train) + who(kept_back)) == list(range(600))
    assert train.labels.equal(BALANCED[who(train)])


def test_a_share_is_of_the_training_images_asked_for() -> None:
    train, validation = hold_out(examples(BALANCED), 200, 0.25, 0)
    assert (len(train), len(validation)) == (200, 50)
    assert not set(who(train)) & set(who(validation))
    assert torch.bincount(train.labels).tolist() == [20] * 10
    assert torch.bincount(validation.labels).tolist() == [5] * 10


def test_smaller_training_sets_are_nested_and_leave_the_validation_set_alone() -> None:
    small, same = hold_out(examples(BALANCED), 50, 100, 0)
    large, validation = hold_out(examples(BALANCED), 500, 100, 0)
    assert set(who(small)) < set(who(large))
    assert who(same) == who(validation)


def test_the_seed_decides_who_is_held_out() -> None:
    first, again, other = (who(hold_out(examples(BALANCED), None, 60, seed)[1]) for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_with_one_image_is_trained_on() -> None:
    for seed in range(20):
        train, validation = hold_out(examples(SKEWED), None, 0.3, seed)
        assert 3 in train.labels
        assert 3 not in validation.labels


def test_a_whole_set_is_not_copied() -> None:
    whole = examples(BALANCED)
    train, validation = hold_out(whole, None, 0, 0)
    assert train is whole
    assert len(validation) == 0
    assert shorten(whole, None, 0) is whole


@pytest.mark.parametrize(
    ("train", "validation"), [(0, 10), (-5, 10), (601, 0), (595, 10), (None, 600), (None, 1.0), (None, -0.1), (10, -1)]
)
def test_impossible_splits_name_what_was_asked(train: int | None, validation: float) -> None:
    with pytest.raises(DataError, match=f"train={train} and validation={validation} cannot .* 600 examples.*ask for"):
        hold_out(examples(BALANCED), train, validation, 0)


def test_a_short_test_set_is_stratified() -> None:
    part = shorten(examples(BALANCED), 40, 0)
    assert torch.bincount(part.labels).tolist() == [4] * 10
    assert who(part) == sorted(who(part))


@pytest.mark.parametrize("count", [0, -1, 601])
def test_an_impossible_test_set_names_the_range(count: int) -> None:
    with pytest.raises(DataError, match=f"test={count} .* ask for 1 to 600"):
        shorten(examples(BALANCED), count, 0)


NUMBERS = torch.rand(600, generator=torch.Generator().manual_seed(0)).square() * 5


@pytest.mark.parametrize("count", [10, 60, 300])
def test_numbers_are_stratified_by_their_order(count: int) -> None:
    """Each tenth of the numbers has its share of every part, give or take one."""
    order = stratified_order(NUMBERS, 3)
    assert order.sort().values.equal(torch.arange(600))
    tenths = NUMBERS.argsort().view(10, 60)
    for part in (order[:count], order[-count:]):
        found = torch.stack([torch.isin(tenth, part).sum() for tenth in tenths])
        assert (found - count / 10).abs().max() < 2
    assert not order.equal(stratified_order(NUMBERS, 4))


def test_numbers_are_held_out_and_kept_exact() -> None:
    train, validation = hold_out(examples(NUMBERS), None, 0.1, 0)
    assert sorted(who(train) + who(validation)) == list(range(600))
    assert train.labels.equal(NUMBERS[who(train)])
    assert validation.labels.mean().item() == pytest.approx(NUMBERS.mean().item(), abs=0.15)


@pytest.mark.parametrize(("count", "expected"), [(4, 1), (5, 1), (12, 2), (50, 10), (600, 120)])
def test_a_fifth_of_numbers(count: int, expected: int) -> None:
    assert fifth(NUMBERS[:count], 0).sum() == expected


def test_equal_numbers_can_be_split() -> None:
    train, validation = hold_out(examples(torch.full((20,), 2.5)), 10, 5, 0)
    assert (len(train), len(validation)) == (10, 5)


def test_strata_of_classes_are_the_classes() -> None:
    assert strata(SKEWED) is SKEWED
    assert strata(torch.empty(0)).tolist() == []
