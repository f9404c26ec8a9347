"""Reducing the Transformer Architecture to a Minimum (Bermeitinger et al., KDIR 2024, arXiv 2410.13732)."""

from effi.minimal.algebra import growth_order, merged_model, merging_error, stack
from effi.minimal.attention import (
    SYMMETRIC,
    Attention,
    Init,
    Mixing,
    QueryKey,
    ValueOutput,
    copy_merged,
    score_matrix,
)
from effi.minimal.diagnosis import Start, diagnose, layers, noise_start, start
from effi.minimal.outcome import outcome, savings, sizes
from effi.minimal.variants import Variant, matched, overdetermination, totals

__all__ = [
    "SYMMETRIC",
    "Attention",
    "Init",
    "Mixing",
    "QueryKey",
    "Start",
    "ValueOutput",
    "Variant",
    "copy_merged",
    "diagnose",
    "growth_order",
    "layers",
    "matched",
    "merged_model",
    "merging_error",
    "noise_start",
    "outcome",
    "overdetermination",
    "savings",
    "score_matrix",
    "sizes",
    "stack",
    "start",
    "totals",
]
