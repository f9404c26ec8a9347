"""The paper's measure: how much less compute than scratch a training takes to the same validation score."""

from __future__ import annotations

from effi.errors import ParameterError


def savings(
    steps: float,
    reference_steps: float,
    flops_per_step: float,
    *,
    growth_flops: float = 0,
    source_flops: float = 0,
) -> float:
    """1 - (grown model's steps, growth and source) / scratch's steps, all in FLOPs; below 0 an arm costs more.

    The paper counts growth and takes the source as free (Table 1); with `source_flops` the saving is net.
    ParameterError for a cost below 0, and for a reference that costs nothing.
    """
    if min(steps, growth_flops, source_flops) < 0 or min(reference_steps, flops_per_step) <= 0:
        raise ParameterError(
            f"{steps:g} steps beside {reference_steps:g}, of {flops_per_step:g} FLOPs each, growth of {growth_flops:g} "
            f"and a source of {source_flops:g}: give costs of 0 or more, and a reference above 0"
        )
    return 1 - (steps * flops_per_step + growth_flops + source_flops) / (reference_steps * flops_per_step)
