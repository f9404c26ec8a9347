"""Tables and figures of paper 2: what weak nets agree on, round by round, and what a sparse model keeps."""

from effi.report.instant_soup.kept import kept_table
from effi.report.instant_soup.votes import agreement, vote_curves

__all__ = ["agreement", "kept_table", "vote_curves"]
