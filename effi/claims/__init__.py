"""What a run says of a paper's claims: papers' files, measures, statistics, judging."""

from effi.claims.judging import ClaimRow, Judgement, Outcome, combine, count, judge

__all__ = ["ClaimRow", "Judgement", "Outcome", "combine", "count", "judge"]
