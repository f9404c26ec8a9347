"""Mixed Sparsity Training as a listener: a schedule says how sparse, a distribution where, an evolution by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from effi import masks
from effi.errors import ParameterError, did_you_mean
from effi.masks import Mask
from effi.mixed_sparsity.blocks import Norm
from effi.mixed_sparsity.evolution import (
    ORIGINS,
    Evolution,
    Weights,
    drawn,
    drop_fraction,
    evolve,
    is_settled,
    turnover,
)
from effi.mixed_sparsity.granularity import Blocks, Granularity, Singles
from effi.seeds import generator
from effi.training import Step

First = Literal["random", "magnitude"]
Distribution = Callable[[Mapping[str, tuple[int, int]], float], Mapping[str, float]]
TOPOLOGY = "topology"
COUNTS = ("pruned", *ORIGINS, *(f"{what}/{origin}" for what in ("activated", "outlived") for origin in ORIGINS))


class Schedule(Protocol):
    """Global sparsity by share of the training done, and the shares at which its phases start."""

    def sparsity(self, share: float) -> float:
        """The sparsity that holds from a share on."""

    def starts(self) -> Sequence[float]:
        """Where the drop fraction begins anew."""


class MixedSparsity:
    """The method as a listener of `fit(..., **mst.arguments())`; `mask` is what it holds.

    With `blocks`, squares of so many weights a side live or die together, ranked by a `norm`, and layers of the model
    are exchanged for ones that multiply by live blocks alone; `units` is the mask of blocks, else that of weights.
    Schedule, `distribution` of a global sparsity as densities, and evolution decide; `first` is the mask at the
    schedule's start, random or the largest |w|. Masks change at steps divisible by the evolution's `every`, unless
    there is nothing to drop and the target is that of the last change.
    `told` has one value per mask and name, the first mask included: `step`, the schedule's `target`, the `sparsity`
    there is, `sparsity/NAME` of each weight, the facts of `evolve`, `ever`, the share of weights that have been active
    at any time (R_s of ITOP), and `outlived/ORIGIN`, how many that the update before activated are still active. All
    counts are of weights. ParameterError for names that are no matrices of the model, or do not part into blocks.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        distribution: Distribution,
        evolution: Evolution,
        *,
        names: Sequence[str],
        seed: int,
        first: First = "random",
        blocks: int | None = None,
        norm: Norm = "l1",
    ) -> None:
        self.schedule, self.distribution, self.evolution = schedule, distribution, evolution
        self.weights = _matrices(model, names)
        self.grain: Granularity = Singles() if blocks is None else Blocks.of(model, names, blocks, norm)
        self.stream = generator(seed, "topology")
        self.gradients: dict[str, Tensor] = {}
        self.units = first_mask(self.grain.scores(self.weights), self._targets(0.0), first, self.stream)
        self.ever = {name: kept.clone() for name, kept in self.units.items()}
        self.activated = {origin: _nothing(self.units) for origin in ORIGINS}
        self.told: dict[str, list[float]] = {}
        active = sum(int(kept.count_nonzero()) for kept in self.units.values())
        self._tell(0, 0.0, dict.fromkeys(COUNTS, 0) | {"active": active, "churn": 0.0})
        self.grain.follow(self.units)
        # Later ones are expected by the step before.
        self._expect(self.evolution.every == 1)

    @property
    def mask(self) -> Mask:
        """What is kept, by weight."""
        return self.grain.whole(self.units)

    def arguments(self) -> dict[str, Any]:
        """What `fit` is to be given: the first mask, and listeners before and after the optimiser's step."""
        if self.evolution.order == "instead":
            return {"mask": self.mask, "before_step": [self], "after_step": []}
        early = [self.remember] if self.evolution.sees_gradients else []
        return {"mask": self.mask, "before_step": early, "after_step": [self]}

    def due(self, step: Step) -> bool:
        """Whether the mask changes at this step."""
        return self._due(step, step.index)

    def _due(self, step: Step, index: int) -> bool:
        if index % self.evolution.every or index > step.steps or step.ledger.dry_run:
            return False
        share = index / step.steps
        moving = drop_fraction(share, self.evolution, self.schedule.starts()) > 0
        return moving or not is_settled(self.schedule.sparsity(share), self.told["target"][-1])

    def remember(self, step: Step) -> None:
        """Keep the gradients for an update after the optimiser's step, which clears them."""
        if self.due(step):
            self.gradients = {name: gradient.clone() for name, gradient in self._dense().items()}

    def __call__(self, step: Step) -> None:
        """Change the mask, where it is due."""
        if self.due(step):
            self._change(step)
        self._expect(self._due(step, step.index + 1))

    def _expect(self, update: bool) -> None:
        """Have the next backward pass make the gradients that an update needs."""
        self.expecting = update and self.evolution.sees_gradients
        self.grain.expect(self.expecting)

    def _change(self, step: Step) -> None:
        with step.ledger.phase(TOPOLOGY):
            self._update(step.index, step.index / step.steps)
        if self.evolution.order == "instead":
            step.skip()
        step.hold(self.mask)

    def _update(self, index: int, share: float) -> None:
        gradients = self.grain.scores(self._dense()) if self.evolution.sees_gradients else None
        self.gradients = {}
        self.units, facts, activated = evolve(
            self.grain.scores(self.weights),
            self.units,
            self._targets(share),
            share=share,
            gradients=gradients,
            options=self.evolution,
            generator=self.stream,
            starts=self.schedule.starts(),
        )
        outlived = {f"outlived/{origin}": _common(own, self.units) for origin, own in self.activated.items()}
        self.activated = activated
        for name, kept in self.units.items():
            self.ever[name] |= kept
        self.grain.follow(self.units)
        self._tell(index, share, facts | outlived)

    def _targets(self, share: float) -> dict[str, float]:
        shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in self.weights.items()}
        return {name: 1 - density for name, density in self.distribution(shapes, self.schedule.sparsity(share)).items()}

    def _dense(self) -> dict[str, Tensor]:
        """Gradients of all weights: those remembered, or those there are."""
        found = {name: self.gradients.get(name, weight.grad) for name, weight in self.weights.items()}
        for name, gradient in found.items():
            if gradient is None:
                raise ParameterError(
                    f'no gradient of "{name}" is there to grow by; train it, or give fit all of mst.arguments()'
                )
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def _tell(self, index: int, share: float, facts: Mapping[str, float]) -> None:
        size = sum(kept.numel() for kept in self.units.values())
        row = {"step": index, "target": self.schedule.sparsity(share), "sparsity": (size - facts["active"]) / size}
        layers = {f"sparsity/{name}": value for name, value in masks.layer_sparsity(self.units).items()}
        counts = {name: value if name == "churn" else self.grain.weights * value for name, value in facts.items()}
        for name, value in (row | {"ever": 1 - masks.sparsity(self.ever)} | counts | layers).items():
            self.told.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        activated = {f"activated/{origin}": masks.pack(own) for origin, own in self.activated.items()}
        kept = {"units": masks.pack(self.units), "ever": masks.pack(self.ever), **activated}
        return kept | {"stream": self.stream.get_state(), "told": self.told, "expecting": self.expecting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        like = self.units
        self.units, self.ever = (masks.unpack(state[name], like) for name in ("units", "ever"))
        self.activated = {origin: masks.unpack(state[f"activated/{origin}"], like) for origin in ORIGINS}
        self.stream.set_state(state["stream"])
        self.told = state["told"]
        self.grain.follow(self.units)
        self._expect(state["expecting"])


def first_mask(weights: Weights, targets: Mapping[str, float], how: First, generator: torch.Generator) -> Mask:
    """A mask with the sparsity of each target: at random, or of the largest |w|. ParameterError for another way."""
    if how not in get_args(First):
        raise ParameterError(f"first mask {how!r} is unknown; give one of {', '.join(get_args(First))}")
    sizes = {name: weight.numel() for name, weight in weights.items()}
    # Grown out of nothing.
    counts = {name: turnover(size, 0, targets[name], 0, mix=0.0).random for name, size in sizes.items()}
    if how == "magnitude":
        return masks.largest(weights, counts)
    return drawn(masks.everything(weights), counts, sizes, generator)


def _matrices(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    known = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 2}
    for name in names:
        if name not in known:
            raise ParameterError(f"{type(model).__name__} has no matrix {name!r} to prune{did_you_mean(name, known)}")
    return {name: known[name] for name in names}


def _nothing(mask: Mask) -> Mask:
    return {name: torch.zeros_like(kept) for name, kept in mask.items()}


def _common(a: Mask, b: Mask) -> int:
    """Positions kept by both; one wait for the device."""
    return int(torch.stack([(kept & b[name]).count_nonzero() for name, kept in a.items()]).sum())
