"""Figures and tables of paper 5: what growing saves, with its source paid or not, and what the operator learns."""

from effi.report.ligo.curves import cost_curves
from effi.report.ligo.depth import depth_maps
from effi.report.ligo.elsewhere import transfer_table
from effi.report.ligo.savings import Saved, best_and_worst, recommendation, saved, savings_dots, savings_table
from effi.report.ligo.sweeps import growth_steps, source_steps

__all__ = [
    "Saved",
    "best_and_worst",
    "cost_curves",
    "depth_maps",
    "growth_steps",
    "recommendation",
    "saved",
    "savings_dots",
    "savings_table",
    "source_steps",
    "transfer_table",
]
