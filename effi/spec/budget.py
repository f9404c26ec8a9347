"""Budgets of small data sets, on which a few epochs are hardly any steps."""

from __future__ import annotations

import math
from dataclasses import replace

from effi.errors import ParameterError
from effi.training import Training


def enough(training: Training, examples: int, least_steps: int) -> Training:
    """The training with as many epochs more as `least_steps` optimiser steps take on so many training examples.

    One that takes them already, or is counted in steps and has them, is returned as it is. ParameterError for no
    examples.
    """
    if examples < 1:
        raise ParameterError(f"a budget for {examples} training examples makes no sense; give at least 1")
    if training.epochs is None:
        return replace(training, steps=max(training.steps or 0, least_steps))
    epochs = math.ceil(least_steps / training.steps_of_epoch(examples))
    return replace(training, epochs=max(training.epochs, epochs))
