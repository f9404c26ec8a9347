"""A short part of the campaign, and the page that the whole one writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign import disk, downloads, inputs, kills
from tests.campaign.bed import Bed, workbook
from tests.campaign.rows import FAILED, Broken, Fault, Row, expect, page, section, tried

# The whole of it is for a machine that does nothing else; here others may work, and 60 s become many.
pytestmark = pytest.mark.timeout(900)
SHORT = ("a parameter that does not exist", "a symbolic link out of the folder", "a table of 2 GB", "patches=0")


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with workbook() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", disk.KINDS)
def test_a_full_disk_is_told_and_loses_nothing(bed: Bed, name: str) -> None:
    try:
        assert "free space" in disk.kind(bed, name)
    except Broken as broken:
        if "not done" in str(broken):
            pytest.skip(str(broken))
        raise


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
def test_a_killed_run_comes_to_the_same_bits(bed: Bed) -> None:
    campaign = kills.Campaign(bed, "killed", 1)
    assert campaign.run().startswith("1 kill") and campaign.rounds >= 1


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


def test_the_page_counts_what_holds_and_replaces_a_section(tmp_path: Path) -> None:
    file, order = tmp_path / "page.md", ("First", "Second")
    page(file, "Second", section("Second", "Note.", [Row("a | b", "<seen>", True, 1.4)]), order)
    page(file, "First", section("First", "Note.", [Row("c", "not so", False, 2.0)]), order)
    once = file.read_text()
    assert once.index("## First") < once.index("## Second")
    assert "2 faults: 1 hold, 1 " in once and f"| c | not so | {FAILED} | 2 |" in once
    assert "| a \\| b | &lt;seen> | holds | 1 |" in once
    page(file, "First", section("First", "Note.", [Row("c", "now so", True, 2.0)]), order)
    assert "2 faults: 2 hold." in file.read_text() and "not so" not in file.read_text()
