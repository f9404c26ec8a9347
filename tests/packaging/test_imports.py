"""What imports, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RACE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import effi, effi.cost, effi.data, effi.records, effi.training
print((time.perf_counter() - start) / (middle - start))
"""


def printed(code: str) -> str:
    """What a fresh Python prints that runs the code."""
    # Compiled once: else a shell that forbids it makes our modules dearer than those that set-up compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "transformers"])
def test_the_libraries_of_the_papers_import(name: str) -> None:
    assert int(printed(f"import {name}; print({name}.__version__)").partition(".")[0]) >= 0


LIGHT = """
import sys
import effi, effi.errors, effi.paths, effi.cli, effi.cli.screen, effi.workbook, effi.workbook.plan
from effi import workbook
workbook.notebooks()
heavy = {"torch", "numpy", "scipy", "pandas", "matplotlib", "transformers", "papermill", "nbformat", "joblib"}
print(sorted(heavy & set(sys.modules)))
"""


def test_what_only_looks_at_notebooks_loads_no_library_of_numbers() -> None:
    assert printed(LIGHT) == "[]\n"


@pytest.mark.slow
def test_effi_costs_little_beside_torch() -> None:
    # The least of three: a busy machine slows one import at times, not always the same one.
    assert min(float(printed(RACE)) for _ in range(3)) <= 1.5
