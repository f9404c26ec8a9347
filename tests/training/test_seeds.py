"""Streams of one seed share no numbers, and are the same on every machine."""

from __future__ import annotations

import pytest
import torch

from effi.seeds import derive, generator, seeded


def draws(seed: int, purpose: str) -> torch.Tensor:
    return torch.rand(1000, generator=generator(seed, purpose))


def test_streams_are_stable_across_machines():
    assert derive(0, "init") == 46358331560121
    assert derive(7, "order") == 173944999420808


def test_a_stream_repeats_itself():
    assert torch.equal(draws(3, "order"), draws(3, "order"))


def test_purposes_and_seeds_have_streams_of_their_own():
    streams = [draws(seed, purpose) for seed in range(3) for purpose in ("init", "order", "augment", "dropout")]
    correlations = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams))
    assert correlations.abs().max() < 0.15
    assert derive(1, "1/order") != derive(11, "order")


def test_seeded_draws_from_its_stream_and_restores_the_global_one():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(3, "order"):
        assert torch.equal(torch.rand(1000), draws(3, "order"))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(0):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
