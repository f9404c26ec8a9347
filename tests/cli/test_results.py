"""`effi verify | report | compare`: what is on disk against what records give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effi import paths
from effi.claims.stats import welch
from effi.cli import front_page
from effi.cli.verification import verify
from effi.errors import EffiError, RecordError
from tests.cli.conftest import Said, keep

Effi = Callable[..., Said]


def test_verify_holds_every_table_and_the_front_page(effi: Effi, root: Path) -> None:
    assert effi("report").status == 0
    said = effi("verify")
    assert said.status == 0
    tables = list(paths.run_dir("results", "cpu", "made_up").glob("*.csv"))
    assert {"claims.csv", "cost.csv"} <= {table.name for table in tables}
    assert said.out == f"{2 * len(tables) + 1} files are what their records give\n"


def test_verify_names_the_first_line_that_differs(effi: Effi, root: Path) -> None:
    file = paths.run_dir("results", "cpu", "made_up") / "claims.csv"
    lines = file.read_text().split("\n")
    lines[1] = lines[1].replace("reproduced", "certain")
    file.write_text("\n".join(lines))
    said = effi("verify")
    assert said.status == 2 and f"{file}, line 2: holds 'C1" in said.err and "certain" in said.err


def test_verify_names_a_table_that_is_missing_or_cut(root: Path) -> None:
    file = paths.run_dir("results", "cpu", "made_up") / "cost.md"
    whole = file.read_text()
    file.write_text(whole[: whole.rindex("\n", 0, -2)])
    with pytest.raises(RecordError, match=r"cost.md, line \d+: holds 'nothing'"):
        verify()
    file.unlink()
    with pytest.raises(RecordError, match=r"cost.md cannot be read \(No such file or directory\); run its notebook"):
        verify()


def test_verify_notices_a_record_that_came_later(root: Path) -> None:
    keep(paths.records_file("results", "cpu", "made_up"), gain=0.05)
    with pytest.raises(RecordError, match="but the records give"):
        verify()


def test_verify_notices_an_old_front_page(effi: Effi, root: Path) -> None:
    said = effi("verify")
    assert said.status == 2 and "README.md does not show the results on disk; run `effi report`" in said.err


def test_verify_wants_records(root: Path) -> None:
    with pytest.raises(RecordError, match="elsewhere holds no records"):
        verify("elsewhere")


def test_report_rewrites_its_part_only(effi: Effi, root: Path) -> None:
    assert effi("report").status == 0
    page = paths.readme().read_text()
    assert page.startswith("Above\n<!-- results:begin -->\n") and page.endswith("\n<!-- results:end -->\nBelow\n")
    assert "old" not in page
    row = next(line for line in page.splitlines() if line.startswith("| A made-up paper"))
    title, scale, paper, fair, saving, loss, link = row.strip("| ").split(" | ")
    assert (title, scale, paper, fair) == ("A made-up paper", "cpu", "1 / 0 / 0", "1 / 0 / 0")
    assert saving == "d/half: 50.0 % of the FLOPs, 0.1 points"
    assert loss == "d/thin: 10.0 % of the FLOPs, -5.0 points"
    assert link == "[1_made_up.ipynb](notebooks/1_made_up.ipynb)"
    picture = paths.results() / "verdicts.png"
    assert "(results/verdicts.png)" in page and picture.read_bytes().startswith(b"\x89PNG")
    assert effi("report").status == 0 and paths.readme().read_text() == page


def test_report_without_results_says_so(root: Path) -> None:
    paths.records_file("results", "cpu", "made_up").unlink()
    assert front_page.block() == "No results yet: `make reproduce` makes them."


@pytest.mark.parametrize("text", ["", "<!-- results:begin -->", "<!-- results:end --> <!-- results:begin -->"])
def test_report_wants_both_markers(root: Path, text: str) -> None:
    paths.readme().write_text(text)
    with pytest.raises(EffiError, match=r"README.md has no generated part; put the lines <!-- results:begin -->"):
        front_page.write()
    assert paths.readme().read_text() == text and not (paths.results() / "verdicts.png").exists()


def test_models_of_one_data_set_are_held_to_their_own_baseline(root: Path) -> None:
    arms = (("vit/dense", 0.9, 100.0), ("vit/eb", 0.9, 50.0), ("swin/dense", 0.8, 200.0), ("swin/eb", 0.8, 50.0))
    keep(paths.records_file("results", "cpu", "made_up"), arms=arms)
    assert "d/swin/eb: 25.0 % of the FLOPs, 0.0 points; d/vit/eb: 50.0 % of the FLOPs, 0.0 points" in front_page.block()


def test_without_a_baseline_no_saving_is_told(root: Path) -> None:
    keep(paths.records_file("results", "cpu", "made_up"), arms=(("half", 0.8, 50.0),))
    assert "| not available | not available |" in front_page.block()


def test_the_front_page_names_the_score(root: Path) -> None:
    assert "interval of the change in test accuracy stays above the margin" in front_page.block()


def test_compare_gives_means_difference_and_p(effi: Effi, root: Path) -> None:
    other = keep(root / "other" / "cpu" / "made_up" / "records.jsonl", gain=0.02)
    said = effi("compare", paths.results(), other, "--metric", "test_accuracy")
    assert said.status == 0
    dense = next(line for line in said.out.splitlines() if "d/dense" in line)
    # Accuracies 80.0, 80.1, 80.2 against 82.0, 82.1, 82.2 %.
    assert "2.0 points" in dense and "80.1 % [79.9, 80.3], n=3" in dense
    assert welch([80.0, 80.1, 80.2], [82.0, 82.1, 82.2]) < 0.001 and "<0.001" in dense


def test_compare_shows_every_metric_that_both_hold(effi: Effi, root: Path) -> None:
    other = keep(root / "other.jsonl")
    said = effi("compare", paths.results(), other)
    for metric in ("test accuracy (%)", "test loss", "training FLOPs", "training time (s)"):
        assert metric in said.out
    assert "joules" not in said.out


@pytest.mark.parametrize(
    ("metric", "place", "sentence"),
    [("speed", "results", "share no arm with speed"), ("test_loss", "nowhere.jsonl", "holds no finished records")],
)
def test_compare_wants_something_to_compare(effi: Effi, root: Path, metric: str, place: str, sentence: str) -> None:
    said = effi("compare", paths.results(), root / place, "--metric", metric)
    assert said.status == 2 and sentence in said.err
