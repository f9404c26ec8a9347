"""A short part of the campaign, and the page that the whole one writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.campaign import disk, downloads, inputs, kills
from tests.campaign.bed import Bed, workbook
from tests.campaign.rows import FAILED, Fault, NotDone, Row, Section, expect, page, tried

# The whole of it is for a machine that does nothing else; here others may work, and 60 s become many.
pytestmark = pytest.mark.timeout(900)
# One that is seen before torch is imported, one after; what the rooms refuse is told by their own tests.
SHORT = ("a parameter that does not exist", "a symbolic link out of the folder")


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with workbook() as made:
        yield made


@pytest.fixture(scope="module")
def killed() -> Iterator[Future[kills.Campaign]]:
    """A killed run that goes on, beside the other tests, for it takes as long as all of them."""
    with workbook(seeds=1, page=False) as made, ThreadPoolExecutor(1) as beside:
        yield beside.submit(_killed, made)


def _killed(bed: Bed) -> kills.Campaign:
    campaign = kills.Campaign(bed, "killed", wanted=0, rest_s=0.0)
    with bed.start(*bed.small("killed", 0.3)) as command:
        while not list((bed.root / "killed").rglob("checkpoints/*.safetensors")) and command.process.poll() is None:
            time.sleep(0.1)
        campaign.kill(command, "everything")
    assert list((bed.root / "killed").rglob("checkpoints/*.safetensors")), "no training was met"
    campaign.round("killed")
    return campaign


@pytest.mark.slow
@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize("name", disk.KINDS)
def test_a_full_disk_is_told_and_loses_nothing(bed: Bed, name: str) -> None:
    try:
        assert "free space" in disk.kind(bed, name)
    except NotDone as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("done", SHORT)
def test_bad_input_is_one_sentence(bed: Bed, done: str) -> None:
    faults = {fault.done: fault for fault in inputs.faults(bed)}
    row = tried(faults[done])
    assert row.held, row.seen


@pytest.mark.slow
def test_half_a_download_is_told_and_tried_again(bed: Bed) -> None:
    row = tried(next(downloads.faults(bed)))
    assert row.held, row.seen


@pytest.mark.slow
def test_a_killed_run_comes_to_the_same_bits(killed: Future[kills.Campaign]) -> None:
    campaign = killed.result()
    assert campaign.kills["everything"] == 1 and campaign.rounds == 1


def test_forty_bad_inputs_each_of_their_own() -> None:
    names = [bad.done for bad in inputs.BAD]
    assert len(set(names)) == len(names) >= 40


def test_a_row_holds_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        expect(False, "two rows")
        return ""

    assert tried(Fault("a", lambda: "seen"))[:3] == ("a", "seen", True)
    assert tried(Fault("b", broken))[:3] == ("b", "two rows", False)
    assert "ZeroDivisionError" in tried(Fault("c", lambda: str(1 // 0))).seen
    assert "ZeroDivisionError" in capsys.readouterr().err


def row(done: str, seen: str, held: bool = True) -> Row:
    return Row(done, seen, held, 1.4, "today, 2.0")


def test_the_page_counts_what_holds_and_names_what_was_not_run(tmp_path: Path) -> None:
    file, order = tmp_path / "page.md", ("First", "Second")
    first, second = (
        Section("First", "Note.", "A machine", ("c", "d")),
        Section("Second", "Note.", "A machine", ("a | b",)),
    )
    page(file, second, [row("a | b", "<seen>")], order)
    page(file, first, [row("c", "not so", False)], order)
    once = file.read_text()
    assert once.index("## First") < once.index("## Second") and once.count("**Not run:**</span> d.") == 1
    assert f"3 faults: 1 hold, 1 {FAILED}, 1 not run." in once and f"| c | not so | {FAILED} | 1 | today, 2.0 |" in once
    assert "| a \\| b | &lt;seen> | holds | 1 | today, 2.0 |" in once


def test_a_part_that_is_run_again_leaves_the_other_rows(tmp_path: Path) -> None:
    file, place = tmp_path / "page.md", Section("First", "Note.", "A machine", ("c", "d"))
    page(file, place, [row("c", "not so", False), row("d", "so")], ("First",))
    page(file, place, [row("c", "now so")], ("First",))
    text = file.read_text()
    assert "2 faults: 2 hold." in text and "not so" not in text and "Not run" not in text
    page(file, place._replace(machine="Another"), [row("c", "so there")], ("First",))
    assert "2 faults: 1 hold, 1 not run." in file.read_text() and "**Not run:**</span> d." in file.read_text()
