"""Instant Model Soup: a dense model between the pretrained one and sparse copies trained briefly (Algorithm 3)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effi.cost import Ledger
from effi.data import Examples
from effi.errors import ParameterError
from effi.instant_soup.accounts import LOOK_AHEAD, SEARCH, inside
from effi.instant_soup.judge import Judge, line_search
from effi.instant_soup.noise import Noise, draw
from effi.instant_soup.pruned import chosen, copied
from effi.instant_soup.weak_nets import Data, Look, Way, look_ahead
from effi.masks import Mask, magnitude
from effi.seeds import derive
from effi.training import History, Objective, Training, fit
from effi.training.evaluation import CLASSES
from effi.training.states import State

TENTHS = tuple(place / 10 for place in range(11))
TOLD = ("sparsity", "share", "score")


@dataclass(frozen=True)
class Ingredients:
    """What is mixed in: `count` copies, pruned by magnitude to `sparsities` in turn (0: dense), trained for `steps`.

    Untrained ones (0 steps) are the placebo. `grid`: shares that the line search tries. `alive_only`: weights that an
    ingredient has pruned stay as they are, instead of moving to its zeros as the paper's formula has it.
    The paper leaves all of this open but for about 100 steps; these values are ours.
    """

    count: int = 8
    steps: int = 100
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    noise: Noise = field(default_factory=Noise)
    grid: tuple[float, ...] = TENTHS
    alive_only: bool = False
    way: Way = "in_turn"
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.steps < 0:
            raise ParameterError(f"count={self.count} and steps={self.steps} of ingredients: give 1 and 0 at least")
        if not self.sparsities or not all(0 <= sparsity < 1 for sparsity in self.sparsities):
            raise ParameterError(f"sparsities={self.sparsities} of ingredients: give shares from 0 to below 1")
        if not self.grid or not all(0 <= share <= 1 for share in self.grid):
            raise ParameterError(f"grid={self.grid} of a line search: give shares from 0 to 1")

    def sparsity(self, place: int) -> float:
        """That of one ingredient."""
        return self.sparsities[place % len(self.sparsities)]


@dataclass
class Souped:
    """The history of the fine-tune, and of every ingredient its sparsity, the share chosen and the score there."""

    history: History
    told: dict[str, list[float]]


def model_soup(
    model: nn.Module,
    data: Data,
    training: Training,
    ingredients: Ingredients,
    *,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    metric: str = "accuracy",
    examples: Examples | None = None,
    names: Sequence[str] | None = None,
    checkpoint: Path | None = None,
) -> Souped:
    """Mix the ingredients into a pretrained model one by one, as validation asks, then train it densely.

    `examples` choose the shares (by default those of validation). Ingredients are trained in the ledger's phase
    "look-ahead", and judged in its phase "search".
    """
    told = {name: list[float]() for name in TOLD}
    if ledger.dry_run:
        ledger.planned_steps = (ledger.planned_steps or 0) + ingredients.count * ingredients.steps
    else:
        judge = Judge(data, ledger, objective, metric, examples)
        told = mix(model, data, training, ingredients, judge, seed=seed, names=names)
    options: dict[str, Any] = {"objective": objective, "checkpoint": checkpoint}
    (history,) = fit(model, data, training, seeds=[seed], ledger=ledger, **options)
    return Souped(history, told)


def mix(
    model: nn.Module,
    data: Data,
    training: Training,
    ingredients: Ingredients,
    judge: Judge,
    *,
    seed: int,
    names: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """Leave the model with the mixed weights; sparsity, share and score of each ingredient."""
    weights = chosen(model, names)
    masks = [_mask(weights, ingredients.sparsity(place)) for place in range(ingredients.count)]
    look, mixed = Look(copy.deepcopy(model), data, judge.objective), copied(model)
    told = {name: list[float]() for name in TOLD}
    for place, state in enumerate(_states(look, training, ingredients, masks, judge.ledger, seed)):
        end = {**state, **_alive(mixed, state, masks[place])} if ingredients.alive_only else state
        with judge.ledger.phase(SEARCH):
            best = line_search(model, mixed, end, ingredients.grid, judge)
        mixed = best.state
        for name, value in zip(TOLD, (ingredients.sparsity(place), best.share, best.score), strict=True):
            told[name].append(value)
    return told


def _mask(weights: State, sparsity: float) -> Mask:
    return magnitude(weights, sparsity) if sparsity else {}


@torch.no_grad()
def _alive(mixed: State, state: State, mask: Mask) -> dict[str, Tensor]:
    """The ingredient's weights where it has any, else those mixed so far."""
    return {name: torch.where(kept, state[name], mixed[name]) for name, kept in mask.items()}


def _states(
    look: Look, training: Training, ingredients: Ingredients, masks: Sequence[Mask], ledger: Ledger, seed: int
) -> Iterator[State]:
    """Weights of the ingredients; those trained in turn live one at a time."""
    if not ingredients.steps:
        start = look.model.state_dict()
        yield from ({**start, **{name: start[name] * kept for name, kept in mask.items()}} for mask in masks)
        return
    sizes = {"steps": ingredients.steps, "examples": len(look.data.train), "nets": ingredients.count}
    protocols = draw(ingredients.noise, training, rate=training.lr, seed=derive(seed, "ingredients"), **sizes)
    options: dict[str, Any] = {"way": ingredients.way, "memory": ingredients.memory}
    at_once = 1 if ingredients.way == "in_turn" else ingredients.count
    for start_at in range(0, ingredients.count, at_once):
        some = slice(start_at, start_at + at_once)
        with inside(ledger, LOOK_AHEAD) as own:
            nets = list(look_ahead(look, protocols[some], masks[some], ledger=own, **options))
        yield from (net.state_dict() for net in nets)
