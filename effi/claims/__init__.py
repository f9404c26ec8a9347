"""What a run says of a paper's claims: papers' files, measures, statistics, results, judging."""

from effi.claims.evidence import Evidence
from effi.claims.judging import (
    HERE,
    JUDGED,
    ClaimRow,
    Here,
    Judgement,
    Tally,
    count,
    judge,
    look,
    tally,
)
from effi.claims.results import Pair, Results

__all__ = [
    "HERE",
    "JUDGED",
    "ClaimRow",
    "Evidence",
    "Here",
    "Judgement",
    "Pair",
    "Results",
    "Tally",
    "count",
    "judge",
    "look",
    "tally",
]
