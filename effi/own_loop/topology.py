"""Mixed Sparsity Training for a model of one's own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from effi.mixed_sparsity import Evolution, MixedSparsity, Phases, Sparse, erdos_renyi
from effi.own_loop.early_bird import weights_of


def mixed_sparsity(
    model: nn.Module,
    steps: int,
    phases: Phases,
    evolution: Evolution,
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> MixedSparsity:
    """The method as a listener of a training of so many `steps`: a schedule of sparsity, and a topology that evolves.

    Erdős-Rényi densities, and a random first mask of the `seed`; nothing is dropped once a restoration is over. `names`
    are the weights that count, by default all prunable. ParameterError as MixedSparsity, and where the schedule's last
    sparsity would never be trained at.
    """
    recipe = Sparse(phases, evolution)
    recipe.check(steps, tokens=0)
    chosen = list(weights_of(model, names))
    return MixedSparsity(model, phases, erdos_renyi, recipe.carried_out(), names=chosen, seed=seed)
