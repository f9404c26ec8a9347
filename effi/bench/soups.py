"""Instant Soup's own work: a round of votes over many weights, and weak nets trained in each of three ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

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
SPARSITY = 0.15
SMALL = ViTShape(32, 8, 3, 10, width=64, depth=4, hidden=128, positions="learned", final_norm=True)
WAYS: tuple[Way, ...] = ("in_turn", "stacked", "processes")


def instant_soup() -> list[Case]:
    """What a round of the second paper's method costs beside what it could cost at least."""
    return [votes(), weak_nets()]


def votes(tensors: int = TENSORS, sides: tuple[int, int] = SIDES, nets: int = NETS) -> Case:
    """A denoised prune, its weak nets at hand, beside one mask by magnitude for each of the masks that it merges."""
    weights, rounds = noise(tensors, sides), soup.Rounds(0.9, SPARSITY)
    mask = masks.everything(weights)
    count = tensors * sides[0] * sides[1]

    def weak() -> Iterator[Mapping[str, Tensor]]:
        # The same weights again: what a net is costs nothing here, and ranking knows no shortcut for it.
        yield from (weights for _ in range(nets))

    def denoised(merge: Merge) -> Competitor:
        how = soup.Denoiser(nets, merge=merge)
        return Competitor(lambda: soup.denoised_prune(weights, weak(), mask, rounds, how))

    def plain() -> None:
        for _ in range(nets + 1):
            masks.magnitude(weights, SPARSITY, within=mask)

    competitors: dict[str, Callable[[], Competitor]] = {"magnitude, as often": lambda: Competitor(plain)}
    competitors |= {merge: partial(denoised, merge) for merge in ("union", "vote", "votes")}
    return Case(f"votes of {nets} nets, {count / 1e6:.0f} M", "magnitude, as often", competitors)


def weak_nets(shape: ViTShape = SMALL, nets: int = NETS, steps: int = STEPS, batch: int = 64) -> Case:
    """Weak nets of a small model, each trained a few steps: one after another, stacked, or in processes."""
    data, model = images(shape, 10 * batch * steps, batch), ViT(shape, heads=4)
    training = Training(steps=steps, batch_size=batch, optimizer="adamw", lr=1e-3)
    look, usual = soup.Look(model, data), soup.Noise(fraction=0.1)
    drawn = soup.draw(usual, training, rate=1e-3, steps=steps, examples=len(data.train), nets=nets, seed=0)
    whole = masks.random(masks.prunable(model), 0.5, generator=generator(0, "bench"))

    def trained(way: Way) -> Competitor:
        return Competitor(lambda: list(soup.look_ahead(look, drawn, [whole] * nets, ledger=Ledger(), way=way)))

    return Case(f"{nets} weak nets of {steps} steps", "in_turn", {way: partial(trained, way) for way in WAYS})
