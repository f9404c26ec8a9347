"""Every table of one run, rebuilt from what lies on disk."""

from __future__ import annotations

from pathlib import Path

from effi import paths
from effi.claims import judge, measures, papers
from effi.records import store
from effi.report.arms import arms_table
from effi.report.costs import cost_table, matched_table
from effi.report.judgements import claims_table, evidence_table
from effi.report.tables import Table


def source_tables(paper: str) -> dict[str, Table]:
    """Numbers of other sources kept in the paper's file, each with its source and status."""
    return {
        name: Table(
            f"{table['title']} ({table['status']})",
            tuple(table["columns"]),
            tuple(tuple(map(str, row)) for row in table["rows"]),
            (f"Source: {table['source']}",),
        )
        for name, table in papers.load(paper).tables.items()
    }


def derive(results_dir: str | Path, scale: str, paper: str) -> dict[str, Table]:
    """Tables "claims" and "evidence", and where the paper's baseline has run "arms", "cost" and "matched".

    Metrics, score, baseline and price per GPU hour are those of the paper's file.
    """
    records = store.current(paths.records_file(results_dir, scale, paper))
    rows, shown = judge(paper, records), papers.load(paper).report
    tables = {"claims": claims_table(rows), "evidence": evidence_table(rows)}
    baseline = shown["baseline"]
    if any(measures.variant(arm) == baseline for arm in measures.by_arm(records)):
        tables["arms"] = arms_table(records, shown["metrics"])
        price, score = shown["price_per_gpu_hour"], shown["score"]
        tables["cost"] = cost_table(records, baseline=baseline, price=price, metric=score)
        tables["matched"] = matched_table(records, baseline=baseline)
    return tables
