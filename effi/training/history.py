"""What a training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

# What each point of a curve cost: where it stands, not what the model does there.
PLACES = ("step", "flops", "seconds")


@dataclass
class History:
    """What one seed's training left behind: a value per evaluation in `curves`, and the weights of the best one.

    Best is the lowest validation loss; epochs count from where the training entered its schedule, and are whole where
    it is evaluated after each. The model itself keeps the weights of the last step. Curves hold the `step`, `flops` and
    `seconds` of every point. `held_bytes` are those of weights, gradients, optimiser moments and mask in training,
    activations apart.
    """

    seed: int
    curves: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: float = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    held_bytes: int = 0

    def append(self, **values: float) -> None:
        """Add one evaluation."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)
