"""What a listener sees of a step of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from effi.cost import Ledger
from effi.masks import Mask


@dataclass
class Step:
    """One step of a training, the same object in every call: `index` counts from 1 to `steps`, `epoch` from 1.

    Before the optimiser, gradients are those of the whole batch, unmasked and not clipped; afterwards there are none.
    `rate` is the scheduled learning rate. `model` is the one given, or of several seeds the stack of them.
    """

    steps: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ledger: Ledger
    change_mask: Callable[[Mask], None]
    mask: Mask | None = None
    index: int = 0
    epoch: int = 1
    rate: float = 0.0
    skipped: bool = False

    def skip(self) -> None:
        """Leave the weights as they are: the batch and a step of the schedule are used up all the same."""
        self.skipped = True

    def hold(self, mask: Mask) -> None:
        """From now on this mask holds: what it prunes is zeroed, what it revives starts at zero with zero moments.

        A listener that wants another start sets weights and moments after this call.
        """
        self.change_mask(mask)
        self.mask = mask


class Listener(Protocol):
    """Called before or after the optimiser's step; one with state_dict() and load_state_dict() survives a kill.

    That state is flat: names with tensors, or with what JSON can hold. It comes back on the CPU.
    """

    def __call__(self, step: Step) -> None:
        """Look at a step, or act on it."""
