"""Notebooks of a few cells, made up for tests."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

PARAMETERS = """scale: str = "smoke"  # smoke, cpu, gpu or paper
seeds: list[int] = []  # empty: those of the scale
results_dir = "results"
dry_run = False
width = 60
rate: float = 0.1
steps: int = None  # None: as the scale has it
names: list = []
options: dict = {}
note = "a # inside"  # shown as it is
"""


def cell(source: str, *tags: str) -> dict[str, object]:
    """A code cell that has not been executed."""
    content = {"source": source, "outputs": [], "execution_count": None}
    return {"cell_type": "code", "id": uuid4().hex[:8], "metadata": {"tags": list(tags)}, **content}


def markdown(source: str) -> dict[str, object]:
    """A cell of text, kept as a list of lines as the format allows."""
    lines = source.splitlines(keepends=True)
    return {"cell_type": "markdown", "id": uuid4().hex[:8], "metadata": {}, "source": lines}


def write(path: Path, *cells: str | dict[str, object], parameters: str = PARAMETERS) -> Path:
    """A notebook with a title, a parameters cell and code cells; gives back its path."""
    first = [markdown("Before\n# A tiny question\nand text"), cell(parameters, "parameters")]
    rest = [cell(each) if isinstance(each, str) else each for each in cells]
    notebook = {"cells": [*first, *rest], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook))
    return path
