"""Every table of one run, rebuilt from what lies on disk."""

from __future__ import annotations

from pathlib import Path

from effi.claims import Results, judge, papers
from effi.report.arms import arms_table
from effi.report.costs import cost_table, matched_table
from effi.report.judgements import claims_table, evidence_table
from effi.report.tables import Table
from effi.report.trades import validation_of


def source_tables(paper: str) -> dict[str, Table]:
    """Numbers of other sources kept in the paper's file, each with its source and status."""
    return {
        name: Table(
            f"{table['title']} ({table['status']})",
            tuple(table["columns"]),
            tuple(tuple(map(str, row)) for row in table["rows"]),
            (f"Source: {table['source']}",),
            folded=True,
        )
        for name, table in papers.load(paper).tables.items()
    }


def derive(results_dir: str | Path, scale: str, paper: str) -> dict[str, Table]:
    """Tables "claims" and "evidence", and where the paper's baseline has run "arms", "cost" and "matched".

    Metrics, score, baseline and price per GPU hour are those of the paper's file.
    """
    results, loaded = Results.read(results_dir, scale, paper), papers.load(paper)
    rows, shown, baseline = judge(loaded, results), loaded.report, loaded.report["baseline"]
    tables = {"claims": claims_table(rows), "evidence": evidence_table(rows)}
    if results.where(variant=baseline):
        tables["arms"] = arms_table(results, shown["metrics"])
        tables["cost"] = cost_table(
            results,
            baseline=baseline,
            price=shown["price_per_gpu_hour"],
            metric=shown["score"],
            timing=shown.get("timing", ""),
        )
        tables["matched"] = matched_table(results, baseline=baseline, metric=validation_of(shown["score"]))
    return tables
