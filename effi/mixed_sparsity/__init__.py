"""Mixed Sparsity Training: where weights may live, how many of them when, which ones move, and what a step costs."""

from effi.mixed_sparsity.blocks import BlockSparseLinear, Layout, block_linear, block_mask, block_scores, whole_mask
from effi.mixed_sparsity.densities import erdos_renyi, uniform
from effi.mixed_sparsity.evolution import Evolution, Evolved, Turnover, drop_fraction, evolve, turnover
from effi.mixed_sparsity.flops import Accounting, GPTSize, Stretch, solve
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.listener import MixedSparsity, Schedule, first_mask, survival
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.schedule import Phases

__all__ = [
    "Accounting",
    "BlockSparseLinear",
    "Evolution",
    "Evolved",
    "GPTSize",
    "HybridAttention",
    "Layout",
    "MixedSparsity",
    "Pattern",
    "Phases",
    "Schedule",
    "Stretch",
    "Turnover",
    "block_linear",
    "block_mask",
    "block_scores",
    "drop_fraction",
    "erdos_renyi",
    "evolve",
    "first_mask",
    "solve",
    "survival",
    "turnover",
    "uniform",
    "whole_mask",
]
