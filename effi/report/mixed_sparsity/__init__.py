"""Figures and tables of paper 3: what sparse training saves on paper and by the clock, and how its masks move."""

from effi.report.mixed_sparsity.cold_start import cold_start, moves
from effi.report.mixed_sparsity.course import sparsity_course
from effi.report.mixed_sparsity.equal_loss import equal_loss, equal_loss_ratios, equal_loss_table
from effi.report.mixed_sparsity.exchanged import exchanged
from effi.report.mixed_sparsity.ledger import ledger_bars, ledger_table
from effi.report.mixed_sparsity.losses import loss_curves
from effi.report.mixed_sparsity.masks import attention_masks, weight_masks
from effi.report.mixed_sparsity.seconds import seconds_table
from effi.report.mixed_sparsity.turnover import turnover_curves

__all__ = [
    "attention_masks",
    "cold_start",
    "equal_loss",
    "equal_loss_ratios",
    "equal_loss_table",
    "exchanged",
    "ledger_bars",
    "ledger_table",
    "loss_curves",
    "moves",
    "seconds_table",
    "sparsity_course",
    "turnover_curves",
    "weight_masks",
]
