"""Mixed Sparsity Training: where weights may live, how many of them when, which ones move, and what a step costs."""

from effi.data.windows import open_corpora
from effi.mixed_sparsity.blocks import BlockSparseLinear, Layout, block_linear, block_mask, block_scores, whole_mask
from effi.mixed_sparsity.building import ZERO_SHOT, at_hand, gpt_size, smaller, zero_shot
from effi.mixed_sparsity.cold_start import ColdStart, adam_move, moments_left
from effi.mixed_sparsity.densities import erdos_renyi, uniform
from effi.mixed_sparsity.equal_loss import LADDER, at_equal_loss, equal_loss_ratio, flops_at_equal_loss, has_ladder
from effi.mixed_sparsity.evolution import Evolution, Evolved, Turnover, drop_fraction, evolve, turnover
from effi.mixed_sparsity.experiment import Experiment
from effi.mixed_sparsity.flops import Accounting, GPTSize, Stretch, solve
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.listener import MixedSparsity, Schedule, first_mask
from effi.mixed_sparsity.positions import HeadSplit, Pattern
from effi.mixed_sparsity.recipes import (
    Dense,
    Sparse,
    evolutionary,
    gradual,
    mst,
    rigl,
    static,
    static_then_dense,
)
from effi.mixed_sparsity.schedule import Phases
from effi.mixed_sparsity.settings import Model, Settings

__all__ = [
    "LADDER",
    "ZERO_SHOT",
    "Accounting",
    "BlockSparseLinear",
    "ColdStart",
    "Dense",
    "Evolution",
    "Evolved",
    "Experiment",
    "GPTSize",
    "HeadSplit",
    "HybridAttention",
    "Layout",
    "MixedSparsity",
    "Model",
    "Pattern",
    "Phases",
    "Schedule",
    "Settings",
    "Sparse",
    "Stretch",
    "Turnover",
    "adam_move",
    "at_equal_loss",
    "at_hand",
    "block_linear",
    "block_mask",
    "block_scores",
    "drop_fraction",
    "equal_loss_ratio",
    "erdos_renyi",
    "evolutionary",
    "evolve",
    "first_mask",
    "flops_at_equal_loss",
    "gpt_size",
    "gradual",
    "has_ladder",
    "moments_left",
    "mst",
    "open_corpora",
    "rigl",
    "smaller",
    "solve",
    "static",
    "static_then_dense",
    "turnover",
    "uniform",
    "whole_mask",
    "zero_shot",
]
