"""Figures and tables of paper 1: what a ticket search saw, and what became of it."""

from effi.report.early_bird.distances import distance_curves, stability_curves
from effi.report.early_bird.draws import draw_bars
from effi.report.early_bird.heat import heat_maps
from effi.report.early_bird.layers import layer_bars, survival
from effi.report.early_bird.strictness import strictness
from effi.report.early_bird.tables import (
    TIMED,
    bytes_table,
    draws_table,
    looking_table,
    seeds_table,
    thresholds_table,
    time_table,
)
from effi.report.early_bird.tradeoff import PANELS, tradeoff, with_gains

__all__ = [
    "PANELS",
    "TIMED",
    "bytes_table",
    "distance_curves",
    "draw_bars",
    "draws_table",
    "heat_maps",
    "layer_bars",
    "looking_table",
    "seeds_table",
    "stability_curves",
    "strictness",
    "survival",
    "thresholds_table",
    "time_table",
    "tradeoff",
    "with_gains",
]
