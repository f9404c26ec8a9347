"""All interpreted_NAME.py pass under Triton's interpreter, on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: its kernels have no interpreter")
FILES = sorted(Path(__file__).parent.glob("interpreted_*.py"))


@pytest.mark.slow
def test_kernels_compute_what_their_references_do() -> None:
    assert FILES
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    # Workers of the tests around this one would take these for theirs.
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *map(str, FILES), "-p", "no:xdist", "-q", "--durations=5"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
