"""What models are worth on other tasks: the small one, the grown one before and after its training, and scratch."""

from __future__ import annotations

from effi.claims import Results, stats
from effi.errors import RecordError
from effi.report.tables import Table

# Column -> arm, and what its record calls the points.
COLUMNS = {
    "the small model": ("ligo", "source_transfer"),
    "right after growth": ("ligo", "grown_transfer"),
    "grown and trained": ("ligo", "transfer"),
    "from scratch": ("scratch", "transfer"),
}


def transfer_table(results: Results, group: str) -> Table:
    """Points after fine-tuning, a row a task: mean [95 % interval] over seeds. RecordError where none was tried."""
    tasks = _tasks(results, group)
    if not tasks:
        raise RecordError(f"{group}: no other task was tried; name some with tasks, such as tasks=['sst2'].")
    rows = [
        (task, *(_cell(results, f"{group}/{arm}", f"{moment}/{task}") for arm, moment in COLUMNS.values()))
        for task in tasks
    ]
    return Table(f"{group}: points on other tasks after fine-tuning on them", ("task", *COLUMNS), tuple(rows))


def _tasks(results: Results, group: str) -> list[str]:
    """Tasks that scratch was tried on."""
    records = results.seeds(f"{group}/scratch").values() if f"{group}/scratch" in results else ()
    names = dict.fromkeys(name for record in records for name in record["metrics"])
    return [name.removeprefix("transfer/") for name in names if name.startswith("transfer/")]


def _cell(results: Results, arm: str, metric: str) -> str:
    """Mean and interval, of the seeds that tell it; the small model of a checkpoint is not tried."""
    records = results.seeds(arm).values() if arm in results else ()
    values = [record["metrics"][metric] for record in records if metric in record["metrics"]]
    return stats.measured(stats.interval(values), len(values), "", 1) if values else "not tried"
