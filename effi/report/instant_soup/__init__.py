"""Figures of paper 2: what weak nets agree on, round by round."""

from effi.report.instant_soup.votes import agreement, vote_curves

__all__ = ["agreement", "vote_curves"]
