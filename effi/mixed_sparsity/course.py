"""What each step of a training computed, told by the masks that it had: what a sparse machine would have counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

from effi.mixed_sparsity.flops import Accounting, GPTSize, Part, Stretch
from effi.mixed_sparsity.schedule import Phase, Phases
from effi.models.gpt import GPT

Told = Mapping[str, Sequence[float]]
Stage = Phase | Literal["dense"]
BLOCKS = "blocks."


class Span(NamedTuple):
    """Steps in a row that count alike, and the phase that they are in; "dense" without any."""

    stage: Stage
    stretch: Stretch


@dataclass(frozen=True)
class Course:
    """A training of so many `steps` of a GPT of a `size`, by the phases of its sparsity where it has some.

    `weights` are the matrices that may be pruned, name -> size, among them perhaps `head`, the output matrix.
    `attention` has the density of the mask, of all T^2 pairs, for each phase with a sparse one; `gradients` tells
    whether updates of the mask make dense gradients. `told` is what MixedSparsity tells, of a dense training nothing.
    """

    size: GPTSize
    steps: int
    phases: Phases | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    head: str = ""
    attention: Mapping[Phase, float] = field(default_factory=dict)
    gradients: bool = False

    def span(self, told: Told, index: int, *, gradients: bool) -> Span:
        """One step, from 1, under the last mask that was told of before it."""
        stage = self.stage(index)
        linears, head = self._kept(told, self._row(told, index))
        return Span(stage, Stretch(1, linears, head, self._density(stage), gradients))

    def spans(self, told: Told) -> Iterator[Span]:
        """All steps in order."""
        updates = set(told.get("step", ())) if self.gradients else set[float]()

        def alike(index: int) -> tuple[Stage, int, bool]:
            return self.stage(index), self._row(told, index), index in updates

        for (_, _, gradients), run in groupby(range(1, self.steps + 1), alike):
            steps = list(run)
            stage, stretch = self.span(told, steps[0], gradients=gradients)
            yield Span(stage, stretch._replace(steps=len(steps)))

    def ledger(self, told: Told, accounting: Accounting) -> dict[Stage, dict[Part, float]]:
        """By phase and part, FLOPs per token of all steps, their sum; one that has no steps is left out."""
        spans, dense = list(self.spans(told)), sum(accounting.flops().values())
        found: dict[Stage, dict[Part, float]] = {}
        for stage in dict.fromkeys(span.stage for span in spans):
            own = [span.stretch for span in spans if span.stage == stage]
            times = dense * sum(stretch.steps for stretch in own)
            found[stage] = {part: times * share for part, share in accounting.realised(own).items()}
        return found

    def cumulative(self, told: Told, accounting: Accounting) -> Iterator[tuple[int, float]]:
        """After each span the steps so far, and their FLOPs per token, summed."""
        dense, steps, flops = sum(accounting.flops().values()), 0, 0.0
        for _, stretch in self.spans(told):
            steps += stretch.steps
            flops += dense * stretch.steps * sum(accounting.realised([stretch]).values())
            yield steps, flops

    def stage(self, index: int) -> Stage:
        """The phase of a step, from 1."""
        return "dense" if self.phases is None else self.phases.phase((index - 1) / self.steps)

    def _row(self, told: Told, index: int) -> int:
        """The place, in what was told, of the mask under which a step is made."""
        return max(0, bisect_left(told.get("step", ()), index) - 1)

    def _density(self, stage: Stage) -> float | None:
        return None if stage == "dense" else self.attention.get(stage)

    def _kept(self, told: Told, row: int) -> tuple[int, int]:
        """Weights of the blocks and of the head that a mask keeps."""
        pruned = {name: round(size * told[f"sparsity/{name}"][row]) for name, size in self.weights.items()}
        blocks = sum(count for name, count in pruned.items() if name.startswith(BLOCKS))
        return self.size.block_weights - blocks, self.size.head_weights - pruned.get(self.head, 0)


def size_of(model: GPT, tokens: int) -> GPTSize:
    """Sizes of a GPT that reads so many tokens."""
    hidden = next(model.each_block()).mlp.get_parameter("0.weight").shape[0]
    vocabulary, width = model.embedding.weight.shape
    return GPTSize(len(model.blocks), width, hidden, tokens, vocabulary)


def head_of(model: GPT) -> str:
    """The name of the output matrix."""
    return "embedding.weight" if model.lm_head is None else "lm_head.weight"
