"""Tables and figures of paper 2: what weak nets agree on, what a sparse model keeps, and how close it comes."""

from effi.report.instant_soup.kept import kept_table
from effi.report.instant_soup.told import cosine, cosine_table, matching_table
from effi.report.instant_soup.votes import agreement, vote_curves

__all__ = ["agreement", "cosine", "cosine_table", "kept_table", "matching_table", "vote_curves"]
