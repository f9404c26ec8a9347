"""Attention that a schedule switches: a sparse pattern in some phases of a training, all earlier tokens in others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.positions import HeadSplit, Pattern
from effi.mixed_sparsity.schedule import Phase, Phases
from effi.models.gpt import GPT
from effi.training import Step


class Attending:
    """A listener after the optimiser's step that sets `GPT.attention` for the next one; the model keeps the last.

    Evaluations see what the step before them saw, as in the official code.
    """

    steady = False  # a step that is replayed would keep the first attention

    def __init__(self, model: GPT, phases: Phases, pattern: Pattern | HeadSplit, within: Collection[Phase]) -> None:
        self.model, self.phases, self.within = model, phases, within
        self.hybrid = HybridAttention(pattern)
        self.share = 0.0
        self._switch()

    def __call__(self, step: Step) -> None:
        """Take the phase that the next step is in."""
        self.share = step.index / step.steps
        self._switch()

    def _switch(self) -> None:
        self.model.attention = self.hybrid if self.phases.phase(self.share) in self.within else None

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"share": self.share}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self.share = state["share"]
        self._switch()
