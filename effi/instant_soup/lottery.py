"""Iterative magnitude pruning: train, prune, reset the weights, and again (LTH; Chen et al. 2020, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup.accounts import before, beside
from effi.instant_soup.pruned import Pruned, chosen, copied
from effi.instant_soup.weak_nets import Data
from effi.masks import Mask, Scope
from effi.seeds import derive
from effi.training import Objective, Step, Training, fit
from effi.training.evaluation import CLASSES
from effi.training.loop import PaperFlops


@dataclass(frozen=True)
class Trained:
    """A network of one round: its nominal sparsity, its mask and its trained weights."""

    sparsity: float
    mask: Mask
    state: Mapping[str, Tensor]


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


def lottery_ticket(
    model: nn.Module,
    data: Data,
    training: Training,
    sparsities: Sequence[float],
    *,
    seed: int,
    ledger: Ledger,
    rewind: int | None = 0,
    search: Training | None = None,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
    scope: Scope = "global",
    keep: bool = False,
    paper_flops: PaperFlops | None = None,
    checkpoint: Path | None = None,
) -> tuple[Pruned, list[Trained]]:
    """Train and prune to each of the growing `sparsities`, then train the last ticket as the arm's own training.

    Before every training weights go back to those at the start, or after step `rewind` of the first training; None
    leaves them. Optimiser and schedule begin anew. Rounds are trained as `search` says, by default like the ticket, and
    are charged as "search". With `keep` the networks of all rounds come along, dense first.
    ParameterError for sparsities that do not grow, and a rewind beyond the first training.
    """
    if sorted(set(sparsities)) != list(sparsities) or not sparsities:
        raise ParameterError(f"sparsities {list(sparsities)} of a lottery ticket must grow from round to round")
    weights, start, early = chosen(model, names), copied(model), Remember(rewind or 0)
    mask, told, networks = masks.everything(weights), list[float](), list[Trained]()
    for place, sparsity in enumerate(sparsities):
        own: dict[str, Any] = {"seeds": [derive(seed, f"lottery {place}")], "objective": objective}
        own |= {"mask": mask if place else None, "after_step": [early] if place == 0 and rewind else []}
        own |= {"paper_flops": paper_flops}
        with before(ledger) as account:
            fit(model, data, search or training, ledger=account, checkpoint=beside(checkpoint, f"round-{place}"), **own)
        if keep:
            networks.append(Trained(sparsities[place - 1] if place else 0.0, mask, copied(model)))
        mask = masks.magnitude(weights, sparsity, scope=scope, within=mask)
        _reset(model, start, early, rewind, ledger.dry_run)
        told.append(sparsity)
    options: dict[str, Any] = {"objective": objective, "mask": mask, "paper_flops": paper_flops}
    (history,) = fit(model, data, training, seeds=[seed], ledger=ledger, checkpoint=checkpoint, **options)
    if keep:
        networks.append(Trained(sparsities[-1], mask, copied(model)))
    return Pruned(history, mask, {"after": told}), networks


def _reset(model: nn.Module, start: Mapping[str, Tensor], early: Remember, rewind: int | None, dry_run: bool) -> None:
    if rewind is None:
        return
    if rewind and not early.state and not dry_run:
        raise ParameterError(f"rewind={rewind} lies beyond the first training; give a step of it")
    model.load_state_dict(early.state or start)
