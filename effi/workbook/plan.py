"""What a run would take, said before it runs: the notebook up to its cell tagged `run`, with one step per arm."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from effi.errors import NotebookError, ParameterError
from effi.workbook import scratch
from effi.workbook.batch import prepare, start
from effi.workbook.notebook import Cell, cells, find, tagged

ASK = "import json\nprint(json.dumps(run.plan()))"


def dry_run(
    name: str,
    scale: str = "paper",
    parameters: Mapping[str, object] | None = None,
    folder: Path | None = None,
    *,
    pace: float | None = None,
) -> list[dict[str, Any]]:
    """One row per arm, from the notebook's `run.plan()`: trainings, steps, flops, peak_bytes, seconds_per_step, hours.

    With a `pace`, FLOPs a second, no step is made: time is FLOPs by it. Nothing is recorded. Raises ParameterError and
    DataError before anything runs, and for a mistake that a cell finds; NotebookError for any other failure of a cell.
    """
    from effi.cost import PACE  # torch is imported with it

    (notebook,) = find([name], folder)
    with scratch.folder() as place:
        job = prepare(notebook, scale, {**(parameters or {}), "dry_run": True}, str(place))
        shortened = place / notebook.path.name
        shortened.write_text(json.dumps(_shortened(notebook.path)), encoding="utf-8")
        surroundings = {PACE: "" if pace is None else repr(pace)}
        child = start(replace(job, notebook=replace(notebook, path=shortened)), surroundings=surroundings)
        child.process.wait()
        outcome = child.outcome()
        if outcome.error:
            kind = ParameterError if outcome.mistake else NotebookError
            raise kind(f"{notebook.paper}: {outcome.error}")
        rows: list[dict[str, Any]] = json.loads(_printed(job.output))
        return rows


def makespan(rows: Iterable[Mapping[str, Any]], workers: int) -> float:
    """Hours until all trainings of a plan have ended on so many workers, each taking the next as soon as it is free."""
    free = [0.0] * workers
    for row in rows:
        for _ in range(row["trainings"]):
            heapq.heapreplace(free, free[0] + row["hours"] / row["trainings"])
    return max(free)


def _shortened(path: Path) -> dict[str, object]:
    """The notebook up to its cell tagged `run`, and a cell that asks for the plan."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    kept = cells(path)[: tagged(path, "run") + 1]
    ask: Cell = {
        "cell_type": "code",
        "source": ASK,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "id": "plan",
    }
    return {**notebook, "cells": [*kept, ask]}


def _printed(path: Path) -> str:
    """What the last cell of an executed notebook printed."""
    return "".join("".join(out["text"]) for out in cells(path)[-1]["outputs"] if out.get("name") == "stdout")
