"""FLOPs of training a sparse GPT in closed form, by part of the model and phase, and schedules of a wanted ratio.

They are what a sparse machine would count: masks save no time in dense kernels. Of MST's accounting, neither the head
nor causal attention is settled, and a ratio holds in one accounting only; embeddings, norms and activations count
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from effi.errors import ParameterError, did_you_mean
from effi.mixed_sparsity.schedule import CLOSE, Phase, Phases

Convention = Literal["square", "causal"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
Head = Literal["sparse", "dense", "left out"]
Part = Literal["linears", "head", "attention", "dense gradients"]
Free = Literal["ultra", "restoration", "constant"]


@dataclass(frozen=True)
class GPTSize:
    """Sizes of a GPT: `hidden` is the width of the feed-forward blocks, `tokens` the length of a training sequence."""

    depth: int
    width: int
    hidden: int
    tokens: int
    vocabulary: int

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise ParameterError(f"{self} has a size below 1; give whole numbers above 0")

    @property
    def block_weights(self) -> int:
        """Weights of all blocks' matrices: queries, keys, values and output, and the two of the feed-forward block."""
        return self.depth * (4 * self.width**2 + 2 * self.width * self.hidden)

    @property
    def head_weights(self) -> int:
        """Weights of the output matrix."""
        return self.width * self.vocabulary


class Stretch(NamedTuple):
    """Steps in a row that count alike: weights kept in the blocks and in the head, and what else a step did.

    `attention` is the mask's density as in `Accounting.flops`; `gradients`: whether dense ones of weights were made.
    """

    steps: int
    linears: float
    head: float
    attention: float | None = None
    gradients: bool = False


@dataclass(frozen=True)
class Accounting:
    """What counts how in the FLOPs of a GPT's training.

    Dense causal attention counts as all T^2 pairs ("square") or half of them ("causal"), a sparse mask always as its
    true share of T^2, so "square" flatters it. The head is as sparse as the blocks, "dense", or "left out" of both
    sides of a ratio. A step with dense gradients of weights follows on `dense_every` steps without: RigL's interval, 0
    for each step (SNFS), None for never (SET). ParameterError for values outside these.
    """

    size: GPTSize
    convention: Convention = "square"
    head: Head = "sparse"
    dense_every: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("convention", CONVENTIONS), ("head", get_args(Head))):
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} {getattr(self, name)!r} is unknown; give one of {', '.join(choices)}")
        if self.dense_every is not None and self.dense_every < 0:
            raise ParameterError(
                f"dense_every={self.dense_every:g} steps between dense gradients: give 0 or more, or none"
            )

    def flops(self, sparsity: float = 0.0, attention: float | None = None) -> dict[Part, float]:
        """FLOPs of training per token, forward and backward: 6 N of matrices, 12 L d T a of attention, by part.

        `attention` is the density a of the mask, of all T^2 pairs, None the dense causal one. Linear in both, so that
        means of a training give its mean. ParameterError for densities outside (0, 1].
        """
        if not 0 <= sparsity < 1:
            raise ParameterError(f"a sparsity of {sparsity:g} is outside [0, 1); give the share of weights pruned")
        kept, gradients = 1 - sparsity, 0.0 if self.dense_every is None else 1 / (self.dense_every + 1)
        return self._count(self.size.block_weights * kept, self.size.head_weights * kept, attention, gradients)

    def _count(self, linears: float, head: float, attention: float | None, gradients: float) -> dict[Part, float]:
        """FLOPs per token with so many weights kept, when the share `gradients` of the steps makes dense gradients."""
        size = self.size
        if not (0 <= linears <= size.block_weights and 0 <= head <= size.head_weights):
            raise ParameterError(
                f"{linears:,} weights of blocks and {head:,} of the head are kept, of {size.block_weights:,} and "
                f"{size.head_weights:,} that there are; count those of the masks"
            )
        head = head if self.head == "sparse" else size.head_weights
        if attention is None:
            attention = 1.0 if self.convention == "square" else 0.5
        if not 0 < attention <= 1:
            raise ParameterError(
                f"a mask with a share of {attention:g} of T^2 pairs is outside (0, 1]; give pairs / T^2"
            )
        return {
            "linears": 6 * linears,
            "head": 0.0 if self.head == "left out" else 6 * head,
            "attention": 12 * size.depth * size.width * size.tokens * attention,
            "dense gradients": 2 * (size.block_weights - linears + size.head_weights - head) * gradients,
        }

    def shares(self, phases: Phases, attention: Mapping[Phase, float] | None = None) -> dict[Phase, dict[Part, float]]:
        """By phase and part, the FLOPs of a training of many steps as shares of the dense one's; they sum to the ratio.

        `attention` has the density of the mask, of all T^2 pairs, for each phase with a sparse one. A sparse head takes
        the sparsity of the blocks, as their sum does not depend on how it is shared out. ParameterError as in `flops`,
        and for an unknown phase.
        """
        masks, lengths, means = attention or {}, phases.lengths(), phases.means()
        for name in masks.keys() - lengths.keys():
            raise ParameterError(f"attention names an unknown phase {name!r}{did_you_mean(name, lengths)}")
        flops = {phase: self.flops(means[phase], masks.get(phase)) for phase in lengths}
        return {phase: self._of_dense(flops[phase], length) for phase, length in lengths.items()}

    def ratio(self, phases: Phases, attention: Mapping[Phase, float] | None = None) -> float:
        """FLOPs of a training of many steps over those of the dense one; `attention` as in `shares`."""
        return sum(sum(parts.values()) for parts in self.shares(phases, attention).values())

    def realised(self, stretches: Iterable[Stretch]) -> dict[Part, float]:
        """By part, the FLOPs of all steps of a training as shares of the dense one's; they sum to the ratio.

        `dense_every` plays no part, and of the head a stretch tells only where it counts as "sparse". ParameterError
        when there is no step, or more weights are kept than there are.
        """
        taken = list(stretches)
        steps = sum(each.steps for each in taken)
        if not steps:
            raise ParameterError("a FLOP ratio of no steps is asked for; give at least one step of training")
        total = dict.fromkeys(get_args(Part), 0.0)
        for each in taken:
            parts = self._count(each.linears, each.head, each.attention, each.gradients)
            total = {part: flops + each.steps * parts[part] for part, flops in total.items()}
        return self._of_dense(total, 1 / steps)

    def _of_dense(self, flops: Mapping[Part, float], times: float) -> dict[Part, float]:
        dense = sum(self.flops().values())
        return {part: times * count / dense for part, count in flops.items()}


def solve(
    accounting: Accounting, phases: Phases, ratio: float, attention: Mapping[Phase, float] | None = None, *, by: Free
) -> Phases:
    """The schedule with its "ultra" sparsity or its length of "restoration" replaced, so that it has this FLOP ratio.

    By "constant" its phases stay, of which attention hangs, with one sparsity in all of them; by "ultra", too,
    `Phases(s, 0, 0)` stays constant. ParameterError, with the ratios within reach, where there is none.
    """
    if by not in get_args(Free):
        raise ParameterError(f"no schedule is solved by {by!r}{did_you_mean(by, get_args(Free))}")
    low, high = (0.0, 1 - phases.warmup) if by == "restoration" else (max(phases.start, phases.end), 1 - CLOSE)
    low = 0.0 if by == "constant" else low
    names = ("ultra", "start", "end") if by == "constant" else (by,)

    def altered(value: float) -> Phases:
        change: dict[str, Any] = dict.fromkeys(names, value)
        return replace(phases, **change)

    at_low, at_high = (accounting.ratio(altered(value), attention) for value in (low, high))
    # The ratio is linear in either.
    place = (ratio - at_low) / (at_high - at_low) if at_high != at_low else math.inf
    if not -CLOSE <= place <= 1 + CLOSE:
        raise ParameterError(_out_of_reach(accounting, ratio, by, sorted((at_low, at_high))))
    return altered(low + (high - low) * min(max(place, 0.0), 1.0))


def _out_of_reach(accounting: Accounting, ratio: float, by: Free, reach: list[float]) -> str:
    what = "any length of the restoration" if by == "restoration" else f"any {by} sparsity"
    dense = accounting.flops()
    head = f", or make the head sparse, which alone costs {dense['head'] / sum(dense.values()):.1%}"
    return (
        f"a FLOP ratio of {ratio:g} is out of reach: {what} of this schedule gives {reach[0]:.3f} to {reach[1]:.3f}; "
        f"change its other phases or attend more sparsely{head if accounting.head == 'dense' else ''}"
    )
