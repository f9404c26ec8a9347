"""What a run says of a paper's claims: papers' files, measures, statistics, results, judging."""

from effi.claims.judging import JUDGED, ClaimRow, Evidence, Judgement, combine, count, judge
from effi.claims.results import Pair, Results

__all__ = ["JUDGED", "ClaimRow", "Evidence", "Judgement", "Pair", "Results", "combine", "count", "judge"]
