"""What only a GPU can show of soups; without one every check is skipped and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.instant_soup import Cut, Dense, Look, Lottery, Noise, Soup, Task, draw, look_ahead, seconds_of_ways
from tests.instant_soup.tiny import EXAMPLES, ROUNDS, SHORT, TRAINING, apart, obeys, pruned, souped, vit, weights_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")


def on_gpu(data, **options):
    return souped(data.to("cuda"), model=vit().to("cuda"), ledger=Ledger("cuda"), **options)


def test_a_gpu_prunes_as_the_cpu_does(data):
    """The same rounds; a few weights near the threshold may change places, by rounding."""
    (_, here, _), (model, there, ledger) = souped(data), on_gpu(data)
    for name in ("step", "before", "after"):
        assert there.told[name] == pytest.approx(here.told[name], abs=0.01), name
    mask = {name: kept.cpu() for name, kept in there.mask.items()}
    assert masks.distance(mask, here.mask) < 0.01 and pruned(mask) == pruned(here.mask)
    assert obeys(weights_of(model), there.mask)
    assert ledger.total()["phases"]["look-ahead"]["peak_bytes"] > 0


@pytest.mark.parametrize("votes", [{"merge": "vote"}, {"adjust": "votes"}, {"merge": "mean_magnitude"}])
def test_every_merge_runs_on_a_gpu(data, votes):
    _, made, _ = on_gpu(data, denoiser=replace(SHORT, **votes))
    assert masks.sparsity(made.mask) == pytest.approx(ROUNDS.target, abs=1e-3)


def test_a_stack_on_a_gpu_is_the_nets_one_after_another(data):
    model, there = vit().to("cuda"), data.to("cuda")
    smooth = replace(TRAINING, eps=1e-3)  # else rounding decides the sign of steps where gradients vanish
    drawn = draw(Noise(fraction=0.2), smooth, rate=1e-3, steps=5, examples=EXAMPLES, nets=3, seed=0)
    mask = masks.random(masks.prunable(model), 0.5)
    look, held = Look(model, there), [mask] * 3
    nets = {way: list(look_ahead(look, drawn, held, ledger=Ledger("cuda"), way=way)) for way in ("in_turn", "stacked")}
    for one, other in zip(nets["in_turn"], nets["stacked"], strict=True):
        assert apart(one.parameters(), other.parameters()) < 1e-4
        assert obeys(dict(other.named_parameters()), mask)


def test_processes_are_no_way_on_a_gpu(data):
    drawn = draw(Noise(fraction=0.2), TRAINING, rate=1e-3, steps=2, examples=EXAMPLES, nets=2, seed=0)
    ways = seconds_of_ways(Look(vit().to("cuda"), data.to("cuda")), drawn, [None] * 2, repeats=1)
    assert set(ways) == {"in_turn", "stacked"}


@pytest.mark.parametrize("by", ["magnitude", "random", "snip", "grasp"])
def test_one_cut_on_a_gpu_is_that_of_the_cpu(data, by):
    found = []
    for device in ("cpu", "cuda"):
        task = Task(vit().to(device), data.to(device), TRAINING, seed=0, ledger=Ledger(device))
        found.append({name: kept.cpu() for name, kept in Cut(0.5, by).mask(task).items()})
    assert masks.distance(*found) < 0.01


def test_a_fastest_way_and_a_lottery_run_on_a_gpu(data):
    for recipe in (Dense(), Soup(ROUNDS, replace(SHORT, way="fastest")), Lottery(0.3)):
        task = Task(vit().to("cuda"), data.to("cuda"), TRAINING, seed=0, ledger=Ledger("cuda"))
        found = recipe(task)
        assert not found.mask or masks.sparsity(found.mask) == pytest.approx(
            ROUNDS.target if isinstance(recipe, Soup) else 0.3, abs=1e-3
        )
