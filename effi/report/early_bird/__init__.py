"""Figures and tables of paper 1: what a ticket search saw, and what became of it."""

from effi.report.early_bird.distances import distance_curves, stability_curves
from effi.report.early_bird.heat import heat_maps
from effi.report.early_bird.layers import layer_bars, survival

__all__ = ["distance_curves", "heat_maps", "layer_bars", "stability_curves", "survival"]
