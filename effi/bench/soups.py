"""Instant Soup's own work: a round of votes, weak nets in each of three ways, and whole runs beside a fine-tune."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

from torch import Tensor

from effi import instant_soup as soup
from effi import masks
from effi.bench.rounds import Case, Competitor
from effi.bench.suites import noise as images
from effi.bench.tickets import SIDES, TENSORS, noise
from effi.cost import Ledger
from effi.instant_soup.denoise import Merge
from effi.instant_soup.weak_nets import Way
from effi.models.vit import ViT, ViTShape
from effi.seeds import generator
from effi.training import Training

NETS, STEPS = 5, 4
SPARSITY, SPARSE = 0.15, 0.8
SMALL = ViTShape(32, 8, 3, 10, width=64, depth=4, hidden=128, positions="learned", final_norm=True)
WAYS: tuple[Way, ...] = ("in_turn", "stacked", "processes")


def instant_soup() -> list[Case]:
    """What a round of the second paper's method costs beside what it could cost at least."""
    return [votes(), weak_nets(), one_pass(), tickets()]


def votes(tensors: int = TENSORS, sides: tuple[int, int] = SIDES, nets: int = NETS, device: str = "cpu") -> Case:
    """A denoised prune, its weak nets at hand, beside one mask by magnitude for each of the masks that it merges."""
    rounds = soup.Rounds(0.9, SPARSITY)

    @cache
    def weights() -> dict[str, Tensor]:
        return noise(tensors, sides, device)

    @cache
    def mask() -> masks.Mask:
        return masks.everything(weights())

    def weak() -> Iterator[Mapping[str, Tensor]]:
        # The same weights again: what a net is costs nothing here, and ranking knows no shortcut for it.
        yield from (weights() for _ in range(nets))

    def denoised(merge: Merge) -> Competitor:
        how = soup.Denoiser(nets, merge=merge)
        return Competitor(lambda: soup.denoised_prune(weights(), weak(), mask(), rounds, how))

    def plain() -> None:
        for _ in range(nets + 1):
            masks.magnitude(weights(), SPARSITY, within=mask())

    count = tensors * sides[0] * sides[1]
    competitors: dict[str, Callable[[], Competitor]] = {"magnitude, as often": lambda: Competitor(plain)}
    competitors |= {merge: partial(denoised, merge) for merge in ("union", "vote", "votes")}
    return Case(f"votes of {nets} nets, {count / 1e6:.0f} M", "magnitude, as often", competitors)


def weak_nets(
    shape: ViTShape = SMALL, nets: int = NETS, steps: int = STEPS, batch: int = 64, device: str = "cpu"
) -> Case:
    """Weak nets of a small model, each trained a few steps: one after another, stacked, or, on a CPU, in processes."""
    data, model = images(shape, 10 * batch * steps, batch).to(device), ViT(shape, heads=4).to(device)
    training = Training(steps=steps, batch_size=batch, optimizer="adamw", lr=1e-3)
    look, usual = soup.Look(model, data), soup.Noise(fraction=0.1)
    drawn = soup.draw(usual, training, rate=1e-3, steps=steps, examples=len(data.train), nets=nets, seed=0)
    whole = masks.random(masks.prunable(model), 0.5, generator=generator(0, "bench"))

    def trained(way: Way) -> Competitor:
        ledger = Ledger(device)
        return Competitor(lambda: list(soup.look_ahead(look, drawn, [whole] * nets, ledger=ledger, way=way)))

    ways = [way for way in WAYS if device == "cpu" or way != "processes"]  # that share no GPU
    return Case(f"{nets} weak nets of {steps} steps", "in_turn", {way: partial(trained, way) for way in ways})


def one_pass(shape: ViTShape = SMALL, epochs: int = 8, examples: int = 4000, batch: int = 16) -> Case:
    """A run to 80 % sparsity beside a dense fine-tune, with the share of look-ahead that the paper's CIFAR runs have.

    There 10 rounds of 5 nets and 50 steps stand beside 22 epochs of 391 steps: 0.29. Here 10 rounds of 5 and 10 beside
    2,000 steps, 0.25, so that a net is copied once in ten steps; rounds take as many epochs as there.
    """
    training = usual(epochs, batch)
    looks = soup.Denoiser(NETS, round(training.all_steps(examples) / 200))
    return beside_a_fine_tune("ISP", soup.Soup(soup.Rounds(SPARSE, SPARSITY), looks), shape, training, examples)


def tickets(shape: ViTShape = SMALL, epochs: int = 2, examples: int = 800, batch: int = 16) -> Case:
    """Lottery tickets to 80 % beside a short dense fine-tune: a round trains them whole, however long that is."""
    return beside_a_fine_tune("LTH", soup.Lottery(SPARSE), shape, usual(epochs, batch), examples)


def usual(epochs: int, batch: int) -> Training:
    """How a fine-tune is trained here."""
    return Training(epochs=epochs, batch_size=batch, optimizer="adamw", lr=1e-3, schedule="linear")


def beside_a_fine_tune(name: str, recipe: soup.Recipe, shape: ViTShape, training: Training, examples: int) -> Case:
    """A recipe and the dense fine-tune of the same training, with the FLOPs of each."""
    data, model = images(shape, examples, training.batch_size), ViT(shape, heads=4)

    def run(recipe: soup.Recipe, ledger: Ledger) -> Ledger:
        recipe(soup.Task(copy.deepcopy(model), data, training, seed=0, ledger=ledger))
        return ledger

    def competitor(recipe: soup.Recipe) -> Competitor:
        return Competitor(lambda: run(recipe, Ledger()), flops=run(recipe, Ledger()).total()["flops"])

    makers = {each: partial(competitor, how) for each, how in {"dense fine-tune": soup.Dense(), name: recipe}.items()}
    return Case(f"{name} to {100 * SPARSE:g} %, {training.all_steps(examples):,} steps", "dense fine-tune", makers)
