"""A paper's result in a few words, for the top of its notebook."""

from __future__ import annotations

from pathlib import Path

from effi import claims, paths
from effi.claims import papers
from effi.records import store


def headline(results_dir: str | Path, scale: str, paper: str) -> str:
    """Verdict counts and the claims that the paper's file names as its headline, or that nothing was run yet."""
    file = paths.records_file(results_dir, scale, paper)
    if not file.exists():
        return f"No results at {scale} scale yet: make reproduce."
    rows = claims.judge(paper, store.current(file))
    chosen = [row for row in rows if row.claim.id in papers.load(paper).report["headline"]]
    counts = ", ".join(f"{number} {state}" for state, number in claims.count(rows).items())
    lines = [f"{row.claim.id} {row.claim.text}. Fair verdict: {row.fair.state}. {row.fair.why}" for row in chosen]
    return "\n".join([f"At {scale} scale, as the paper tested them: {counts}.", *lines])
