"""Iterative magnitude pruning: train, prune, reset the weights, and again (LTH; Chen et al. 2020, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger, Phase
from effi.errors import ParameterError
from effi.instant_soup.accounts import SEARCH, before, beside
from effi.instant_soup.pruned import Pruned, chosen, copied
from effi.instant_soup.weak_nets import Data
from effi.masks import Mask, Scope
from effi.seeds import derive
from effi.training import Objective, Step, Training, fit
from effi.training.evaluation import CLASSES
from effi.training.loop import PaperFlops

# What a round's account says, as Ledger.charge takes it.
SPENT = ("flops", "seconds", "joules", "paper_flops")


@dataclass(frozen=True)
class Trained:
    """A network of one round: its nominal sparsity, its mask and its trained weights."""

    sparsity: float
    mask: Mask
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Climb:
    """What the rounds leave: their masks, what all rounds up to each have spent (effi.cost), and weights to go back to.

    `early` is empty where these are the first ones, or none.
    """

    masks: Sequence[Mask]
    spent: Sequence[Mapping[str, Any]]
    early: Mapping[str, Tensor]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it on the CPU, for a file."""
        found = {f"mask/{place}": masks.pack(mask) for place, mask in enumerate(self.masks)}
        found |= {f"early/{name}": value.cpu() for name, value in self.early.items()}
        rows = [[nan if each[name] is None else each[name] for name in SPENT] for each in self.spent]
        return found | {"spent": torch.tensor(rows, dtype=torch.float64)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Climb:
        """From `tensors`; `weights` are those that masks are of."""
        rows = [dict(zip(SPENT, row, strict=True)) for row in tensors["spent"].tolist()]
        spent = [{name: _amount(name, value) for name, value in row.items()} for row in rows]
        kept = [masks.unpack(tensors[f"mask/{place}"], weights) for place in range(len(spent))]
        early = {name.removeprefix("early/"): value for name, value in tensors.items() if name.startswith("early/")}
        return cls(kept, spent, early)


def _amount(name: str, value: float) -> float | None:
    if name.endswith("flops"):
        return int(value)
    return None if isnan(value) else value


class Remember:
    """A listener after each step that keeps the model's weights of step `index`."""

    def __init__(self, index: int) -> None:
        self.index, self.state = index, dict[str, Tensor]()

    def __call__(self, step: Step) -> None:
        """Keep them, at that step."""
        if step.index == self.index:
            self.state = copied(step.model)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return self.state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.state = dict(state)


class Drawn(NamedTuple):
    """A trained ticket, the networks of all rounds where they are kept (dense first), and the rounds themselves."""

    pruned: Pruned
    networks: list[Trained]
    climb: Climb


def lottery_ticket(
    model: nn.Module,
    data: Data,
    training: Training,
    sparsities: Sequence[float],
    *,
    seed: int,
    ledger: Ledger,
    search: Training | None = None,
    keep: bool = False,
    rewind: int | None = 0,
    names: Sequence[str] | None = None,
    scope: Scope = "global",
    **options: Any,
) -> Drawn:
    """Train and prune to each of the growing `sparsities`, then train the last ticket as the arm's own training.

    Rounds are trained as `search` says, by default like the ticket. With `keep` the networks of all rounds come along.
    The rest as in `lottery_rounds`, whose `options` the ticket's training has, too.
    """
    networks: list[Trained] = []
    own: dict[str, Any] = {"seed": seed, "rewind": rewind, "names": names, "scope": scope}
    own |= {"networks": networks if keep else None}
    climb = lottery_rounds(model, data, search or training, sparsities, ledger=ledger, **own, **options)
    mask = climb.masks[-1]
    (history,) = fit(model, data, training, seeds=[seed], ledger=ledger, mask=mask, **options)
    if keep:
        networks.append(Trained(sparsities[-1], mask, copied(model)))
    return Drawn(Pruned(history, mask, {"after": list(sparsities)}), networks, climb)


def lottery_rounds(
    model: nn.Module,
    data: Data,
    training: Training,
    sparsities: Sequence[float],
    *,
    seed: int,
    ledger: Ledger,
    rewind: int | None = 0,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
    scope: Scope = "global",
    networks: list[Trained] | None = None,
    paper_flops: PaperFlops | None = None,
    checkpoint: Path | None = None,
) -> Climb:
    """Train and prune to each of the growing `sparsities`; the model is left as the ticket's training wants it.

    Before every training weights go back to those at the start, or after step `rewind` of the first training; None
    leaves them. Optimiser and schedule begin anew. All is charged as "search". Each round adds its network to
    `networks`, where it is given, and does not know how many come after it.
    ParameterError for sparsities that do not grow, and a rewind beyond the first training.
    """
    if sorted(set(sparsities)) != list(sparsities) or not sparsities:
        raise ParameterError(f"sparsities {list(sparsities)} of a lottery ticket must grow from round to round")
    weights, start, early = chosen(model, names), copied(model), Remember(rewind or 0)
    mask, found, spent = masks.everything(weights), list[Mask](), list[Mapping[str, Any]]()
    for place, sparsity in enumerate(sparsities):
        own: dict[str, Any] = {"seeds": [derive(seed, f"lottery {place}")], "objective": objective}
        own |= {"mask": mask if place else None, "after_step": [early] if place == 0 and rewind else []}
        own |= {"paper_flops": paper_flops}
        with before(ledger) as account:
            fit(model, data, training, ledger=account, checkpoint=beside(checkpoint, f"round-{place}"), **own)
        if networks is not None:
            networks.append(Trained(sparsities[place - 1] if place else 0.0, mask, copied(model)))
        mask = masks.magnitude(weights, sparsity, scope=scope, within=mask)
        _reset(model, start, early, rewind, ledger.dry_run)
        found.append(mask)
        spent.append(_spent(ledger))
    return Climb(found, spent, early.state)


def _spent(ledger: Ledger) -> dict[str, Any]:
    """What searching has cost so far."""
    phase = ledger.phases.get(SEARCH, Phase())
    return {name: getattr(phase, name) for name in SPENT}


def _reset(model: nn.Module, start: Mapping[str, Tensor], early: Remember, rewind: int | None, dry_run: bool) -> None:
    if rewind is None:
        return
    if rewind and not early.state and not dry_run:
        raise ParameterError(f"rewind={rewind} lies beyond the first training; give a step of it")
    model.load_state_dict(early.state or start)
