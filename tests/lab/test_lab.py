"""JupyterLab as a reader meets it, in Chromium: START.md, a notebook run, closed and opened again, interrupted."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from effi import paths
from effi.records import store
from effi.workbook import Notebook, notebooks
from tests.campaign.bed import ARMS, PAPER, Bed, workbook
from tests.chromium import chromium
from tests.lab.reader import Reader, drawn, reading
from tests.lab.server import Server, serving

SMALL = f"notebooks/9_{PAPER}.ipynb"
# 48 steps an arm: long enough to be met in the middle on a busy machine, a checkpoint every quarter of a second.
REST = "rest_s: float = 0.0", "rest_s: float = 0.12"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
each = [pytest.param(one, id=one.paper, marks=pytest.mark.lab) for one in notebooks()]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with workbook() as made:
        small = made.root / SMALL
        notebook = json.loads(small.read_text().replace(*REST))
        small.write_text(json.dumps({**notebook, "metadata": KERNEL}))
        yield made


@pytest.fixture(scope="module")
def server(bed: Bed) -> Iterator[Server]:
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("no JupyterLab here: make setup")
    with serving(bed.root, bed.environment()) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def reader(browser: Browser, server: Server) -> Iterator[Reader]:
    with reading(browser, server) as begun:
        yield begun


def finished(file: Path) -> Counter[tuple[str, int]]:
    """How often each arm and seed was trained to its end."""
    return Counter((row["arm"], row["seed"]) for row in store.every(file) if row["status"] == "done")


@pytest.mark.parametrize("notebook", each)
def test_a_notebook_is_run_closed_in_the_middle_and_run_again(reader: Reader, bed: Bed, notebook: Notebook) -> None:
    file = paths.records_file(bed.root / "results", "smoke", notebook.paper)
    reader.begin()
    reader.open(notebook.title)
    stored, height = reader.dated(), reader.height()
    reader.run_all()
    assert re.fullmatch(r" ?\d+/\d+ arms and seeds.*", reader.bar())
    reader.until(lambda: finished(file))
    assert reader.dated() != stored
    reader.close()
    before = finished(file)
    reader.open(notebook.title)
    assert reader.dated() == stored  # what stands there again is not of this run, and says so
    reader.run_all()
    reader.wait()
    after = finished(file)
    assert reader.errors() == [] and reader.pictures() == drawn(notebook.path) and reader.dated() != stored
    assert set(after.values()) == {1} and 0 < len(before) < len(after)
    print(f"{notebook.path.name}: {height} pixels high as stored, {reader.height()} after this run")


def test_an_interrupt_keeps_what_is_finished_and_the_checkpoint_of_the_rest(reader: Reader, bed: Bed) -> None:
    file = paths.records_file(bed.root / "results", "smoke", PAPER)
    reader.page.goto(reader.server.page(SMALL))
    reader.ready()
    kept: list[Path] = []
    while not kept:  # an interrupt that comes between two arms finds no checkpoint
        reader.run_all()
        reader.until(lambda: finished(file) and list(file.parent.glob("checkpoints/*.safetensors")))
        reader.choose("Kernel", "Interrupt Kernel")
        reader.wait()
        before, kept = finished(file), list(file.parent.glob("checkpoints/*.safetensors"))
        assert "KeyboardInterrupt" in reader.errors()[-1]
    reader.run_all()
    reader.wait()
    after = finished(file)
    assert reader.errors() == [] and before <= after and set(after.values()) == {1} and len(after) == 2 * ARMS
    assert any("lost" in row["cost"]["phases"] for row in store.records(file))
