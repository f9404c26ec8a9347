"""Kernels for a GPU, each beside a plain-torch reference that computes the same; README.md has what each costs.

Triton is imported where a kernel is taken, by the modules of `effi.kernels.gpu`: without it torch computes all.
"""

from effi.kernels.dispatch import CROSSOVERS, Crossover, taken, takes, using

__all__ = ["CROSSOVERS", "Crossover", "taken", "takes", "using"]
