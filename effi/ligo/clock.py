"""How much of a training has passed, for what changes on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from effi.training import Step


@dataclass
class Clock:
    """A listener after each step: `passed` is the share of the steps that are made, and survives a kill."""

    reads_weights: ClassVar[bool] = False
    passed: float = 0.0

    def __call__(self, step: Step) -> None:
        """Note a step."""
        self.passed = step.index / step.steps

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"passed": self.passed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.passed = state["passed"]
