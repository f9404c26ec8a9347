"""Figures and tables of paper 4: what a model consists of, what fewer parameters save, what attention became."""

from effi.report.minimal.parts import stacked_parts

__all__ = ["stacked_parts"]
