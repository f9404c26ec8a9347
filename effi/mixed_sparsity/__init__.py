"""Mixed Sparsity Training: where weights may live, how many of them when, which ones move, and what a step costs."""

from effi.mixed_sparsity.densities import erdos_renyi, uniform
from effi.mixed_sparsity.evolution import Evolution, Evolved, Turnover, drop_fraction, evolve, turnover
from effi.mixed_sparsity.flops import Accounting, GPTSize, Stretch, solve
from effi.mixed_sparsity.listener import MixedSparsity, Schedule, first_mask, survival
from effi.mixed_sparsity.schedule import Phases

__all__ = [
    "Accounting",
    "Evolution",
    "Evolved",
    "GPTSize",
    "MixedSparsity",
    "Phases",
    "Schedule",
    "Stretch",
    "Turnover",
    "drop_fraction",
    "erdos_renyi",
    "evolve",
    "first_mask",
    "solve",
    "survival",
    "turnover",
    "uniform",
]
