"""Figures and tables of paper 4: what a model consists of, what fewer parameters save, what attention became."""

from effi.report.minimal.attention import attention_table
from effi.report.minimal.parts import stacked_parts
from effi.report.minimal.savings import savings_bars

__all__ = ["attention_table", "savings_bars", "stacked_parts"]
