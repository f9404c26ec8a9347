"""What has been trained on one's own data, also where the newest run was cut off before it came to ask for it."""

from __future__ import annotations

from pathlib import Path

from effi import paths
from effi.claims import Results
from effi.records import store


def finished(results: Path, scale: str, paper: str) -> Results:
    """Finished records of the newest run's data: it asks in stages, and may be cut off before it asked for all."""
    file = paths.records_file(results, scale, paper)
    asked = store.current(file)
    return Results(record for record in store.every(file) if asked and record["inputs"] == asked[-1]["inputs"])
