"""Averages of trained models: the greedy soup, its ingredients, and Lottery Pools of sparse ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup.accounts import before, beside
from effi.instant_soup.judge import Judge, line_search
from effi.instant_soup.lottery import Trained
from effi.instant_soup.noise import Noise, vary
from effi.instant_soup.weak_nets import Data
from effi.masks import Mask, Scope
from effi.seeds import derive
from effi.training import Objective, Training, average, fit
from effi.training.evaluation import CLASSES
from effi.training.states import State

POOL_GRID = (0.05, *(place / 10 for place in range(1, 10)), 0.95)


def fine_tunes(
    model: nn.Module,
    data: Data,
    training: Training,
    *,
    count: int,
    noise: Noise,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    checkpoint: Path | None = None,
) -> list[dict[str, Tensor]]:
    """Weights of `count` whole trainings of copies of a model, each with a rate, decay and order of its own.

    They are charged as "search". Of the noise only ranges of rate and decay are read (Wortsman et al. 2022).
    """
    states = []
    for place in range(count):
        own, one = derive(seed, f"ingredient {place}"), copy.deepcopy(model)
        settings = vary(training, noise, own)
        files = beside(checkpoint, f"ingredient-{place}")
        with before(ledger) as account:
            fit(one, data, settings, seeds=[own], ledger=account, objective=objective, checkpoint=files)
        states.append(dict(one.state_dict()))
    return states


def greedy_soup(
    model: nn.Module, states: Sequence[State], judge: Judge, *, strict: bool = False
) -> tuple[dict[str, Tensor], list[int]]:
    """Average of the ingredients that do not lower the score, best first, and their places in the order taken.

    With `strict` each must raise it (mlfoundations/model-soups); the best is always in. The model is left with the
    soup's weights. ParameterError without ingredients.
    """
    if not states:
        raise ParameterError("a greedy soup wants at least one ingredient")
    scores = [_score(model, state, judge) for state in states]
    first, *others = sorted(range(len(states)), key=lambda place: -scores[place])
    taken, best = [first], scores[first]
    for place in others:
        score = _score(model, average([states[each] for each in (*taken, place)]), judge)
        if score > best or (score == best and not strict):
            taken, best = [*taken, place], score
    soup = average([states[place] for place in taken])
    model.load_state_dict(soup)
    return soup, taken


def _score(model: nn.Module, state: State, judge: Judge) -> float:
    model.load_state_dict(state)
    return judge(model)


def lottery_pool(
    model: nn.Module,
    tickets: Sequence[Trained],
    sparsity: float,
    judge: Judge,
    *,
    grid: Sequence[float] = POOL_GRID,
    scope: Scope = "global",
) -> tuple[Mask, list[float]]:
    """Interpolate the ticket of a sparsity with its neighbours, nearest first, pruned anew (Yin et al. 2022).

    The best place on each line counts if it raises the score, else 0; the model is left with the pool's weights.
    Returns its mask and the shares of the neighbours. ParameterError where no ticket has the sparsity.
    """
    own = next((ticket for ticket in tickets if abs(ticket.sparsity - sparsity) < 1e-9), None)
    if own is None:
        raise ParameterError(f"no ticket has a sparsity of {sparsity:g}; train one first")
    state, best, shares = dict(own.state), _score(model, own.state, judge), []
    names = list(own.mask)
    for other in sorted(tickets, key=lambda ticket: round(abs(ticket.sparsity - sparsity), 9)):
        if other is own:
            continue
        found = line_search(
            model, state, other.state, grid, judge, lambda mixed: _pruned(mixed, names, sparsity, scope)
        )
        better = found.score > best
        shares.append(found.share if better else 0.0)
        if better:
            state, best = found.state, found.score
    model.load_state_dict(state)
    return masks.magnitude({name: state[name] for name in names}, sparsity, scope=scope), shares


@torch.no_grad()
def _pruned(state: State, names: Sequence[str], sparsity: float, scope: Scope) -> dict[str, Tensor]:
    mask = masks.magnitude({name: state[name] for name in names}, sparsity, scope=scope)
    return {**state, **{name: state[name] * kept for name, kept in mask.items()}}
