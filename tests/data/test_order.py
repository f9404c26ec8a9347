"""Orders that nothing holds: each number once, no trace of where it was, the same parts for any number of ranks."""

from __future__ import annotations

import tracemalloc
from itertools import chain

import numpy as np
import pytest
import torch
from scipy import stats

from effi.data.order import Draws, Permutation, places, uniform

COUNTS = [*range(1, 70), 255, 256, 257, 1000, 4095, 4096, 4097, 65_537, 300_000]


def whole(count: int, seed: int) -> torch.Tensor:
    return Permutation(count, seed)(torch.arange(count))


def even(drawn: torch.Tensor, below: int) -> bool:
    """Whether numbers could come from a uniform draw, by twenty bins."""
    found, share = (np.bincount(values.numpy() * 20 // below) for values in (drawn, torch.arange(below)))
    return bool(stats.chisquare(found, share * len(drawn) / below).pvalue > 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_every_number_comes_up_once(seed: int) -> None:
    for count in COUNTS:
        assert whole(count, seed).sort().values.equal(torch.arange(count)), count


def test_an_order_is_that_of_its_seed() -> None:
    assert whole(5000, 1).equal(whole(5000, 1))
    assert not whole(5000, 1).equal(whole(5000, 2))
    assert (whole(5000, 1) == whole(5000, 2)).sum() < 20


def test_a_place_can_be_asked_for_alone() -> None:
    order = whole(1000, 7)
    asked = torch.tensor([999, 0, 500, 500])
    assert Permutation(1000, 7)(asked).equal(order[asked])


@pytest.mark.parametrize("count", [60, 1000, 2**16 + 3])
def test_draws_look_uniform(count: int) -> None:
    """Where a number lands, which number lands at a place, and the step from one to the next have no preference."""
    at = torch.stack([Permutation(count, seed)(torch.tensor([0, 1, count - 1])) for seed in range(1500)])
    assert all(even(drawn, count) for drawn in at.T)
    assert even((at[:, 1] - at[:, 0]) % count - 1, count - 1)


def test_an_order_keeps_nothing_of_the_old_one() -> None:
    order = whole(100_000, 3).double()
    steps = torch.arange(100_000).double()
    for other in (steps, steps.roll(1), order.roll(1), order.roll(256)):
        assert abs(np.corrcoef(order, other)[0, 1]) < 0.015
    halves = (order.reshape(100, -1) < 50_000).sum(1)
    assert stats.chisquare(halves.numpy()).pvalue > 1e-4


def test_a_billion_windows_take_no_memory() -> None:
    tracemalloc.start()
    drawn = Draws(10**9, 256, seed=0).batch(10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(drawn.unique()) == 256 and 0 <= int(drawn.min()) <= int(drawn.max()) < 10**9
    assert peak < 2**18


@pytest.mark.parametrize(("count", "size"), [(103, 10), (8, 3), (5, 7), (64, 64)])
def test_an_epoch_draws_every_example_once_and_the_next_in_another_order(count: int, size: int) -> None:
    draws = Draws(count, size, seed=5)
    first, second = (
        torch.cat([draws.batch(epoch * draws.per_epoch + number) for number in range(draws.per_epoch)])
        for epoch in range(2)
    )
    assert first.sort().values.equal(second.sort().values) and len(first.unique()) == len(first) == count
    assert not first.equal(second)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_parts_of_all_ranks_are_the_batch_of_one_process(world: int) -> None:
    alone = Draws(103, 10, seed=5)
    for step in range(25):
        parts = [Draws(103, 10, 5, rank, world).batch(step) for rank in range(world)]
        assert torch.cat(parts).equal(alone.batch(step))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_places_are_evenly_spaced() -> None:
    assert places(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert places(7, 7).tolist() == list(range(7))


def test_noise_is_that_of_a_place_whoever_asks() -> None:
    once = uniform(np.arange(2000), 50, key=9)
    assert once[[7, 1999]].equal(uniform(np.array([7, 1999]), 50, key=9))
    assert not once.equal(uniform(np.arange(2000), 50, key=10))
    assert stats.kstest(once.flatten().numpy(), "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(once[:-1].flatten(), once[1:].flatten())[0, 1]) < 0.015
    assert len(set(chain(*once.tolist()))) == once.numel()
