"""`effi verify | report | compare`: what is on disk against what records give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effi import paths
from effi.claims.stats import welch
from effi.cli import front_page
from effi.cli.screen import idle_kernels
from effi.cli.verification import verify
from effi.errors import EffiError, RecordError
from effi.records import records
from tests.cli.conftest import RESULTS, Said, keep

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
    lines[1] = lines[1].replace("For", "Certain")
    file.write_text("\n".join(lines))
    said = effi("verify")
    assert said.status == 2 and f"{file}, line 2: holds 'C1" in said.err and "Certain" in said.err


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


def test_report_rewrites_its_parts_only(effi: Effi, root: Path) -> None:
    assert effi("report").status == 0
    page = paths.readme().read_text()
    assert page.startswith("Above\n<!-- results:begin -->\n") and page.endswith("\n<!-- findings:end -->\nBelow\n")
    assert "\n<!-- results:end -->\nBetween\n<!-- findings:begin -->\n" in page and "\nold\n" not in page
    (paper,) = [line for line in page.splitlines() if line.startswith("- **")]
    worth = "a direction, by short runs on a part of the data"
    assert paper == f"- **A tiny question** *A made-up paper*, at cpu scale ({worth})."
    saving, loss = "50.0 % of the FLOPs, 0.1 points [0.1, 0.2]", "10.0 % of the FLOPs, -5.0 points [-5.0, -4.9]"
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    link = "[A tiny question](notebooks/1_made_up.ipynb)"
    assert [link, "cpu", "1 for", "1 for", f"d/half: {saving}", f"d/thin: {loss}"] in rows
    counts = ["**1**: 1 trained", "0", "0", "0", "1 reproduced"]
    assert all(["made_up, cpu scale", read, *counts] in rows for read in ("as in the paper", "fair"))
    picture = paths.results() / "verdicts.png"
    assert "(results/verdicts.png)" in page and picture.read_bytes().startswith(b"\x89PNG")
    assert effi("report").status == 0 and paths.readme().read_text() == page


def test_only_the_highest_scale_of_a_paper_stands_on_the_front_page(root: Path) -> None:
    file = paths.records_file("results", "gpu", "made_up")
    keep(file, arms=(("dense", 0.8, 100.0), ("half", 0.7, 50.0)), scale="gpu")
    found = front_page.parts()
    assert "*A made-up paper*, at gpu scale (on the whole data)." in found["findings"]
    assert "| gpu | 1 against | 1 against |" in found["results"] and "cpu" not in "".join(found.values())


def test_the_front_page_says_what_is_no_method_of_the_paper(root: Path) -> None:
    file, test = paths.paper_file("made_up"), 'rule = "bound", metric = "parameters", a = "d/half", target = 1'
    fair = f'fair = [{{ {test}, beside = "half in place of thin" }}]'
    file.write_text(file.read_text().replace('fair = "the same"', fair))
    assert (
        " Fair judges 'Half is as good as dense' on what the paper does not do: half in place of thin."
        in front_page.parts()["findings"]
    )


def test_the_front_page_links_the_notebook_as_it_ran(root: Path) -> None:
    place = paths.run_dir("results", "cpu", "made_up") / "1_made_up.ipynb"
    place.write_text("{}")
    assert "[A tiny question](results/cpu/made_up/1_made_up.ipynb)" in front_page.parts()["results"]


def test_the_front_page_tells_the_leading_findings_that_the_records_show(root: Path) -> None:
    file = paths.paper_file("made_up")
    test = '{ rule = "ordering", metric = "test_accuracy", a = "{dataset}/%s", b = "{dataset}/dense" }'
    told = {"F1": ("Half is better.", "half"), "F2": ("Thin is better.", "thin")}
    added = (
        f'[[findings]]\nid = "{name}"\ntext = "{text}"\ntests = [{test % arm}]\n' for name, (text, arm) in told.items()
    )
    file.write_text(file.read_text().replace("headline = []", 'headline = ["F1", "F2"]') + "\n".join(added))
    start = root / "START.md"
    start.write_text("<!-- start:begin -->\n<!-- start:end -->\n")
    carried = "on d half gains 0.1 points [0.1, 0.2] of test accuracy over dense, n=3"
    assert f" of the data).\n  - Half is better. *{carried}.*\n\n" in front_page.parts()["findings"]
    front_page.write()
    assert "**[A tiny question](notebooks/1_made_up.ipynb)** *At cpu scale: a direction" in start.read_text()
    assert "of the data.*\n\n- Half is better.\n" in start.read_text()


def test_where_it_loses_names_the_method_and_no_control(root: Path) -> None:
    arms = (("dense", 0.8, 100.0), ("thin", 0.75, 10.0), ("control", 0.5, 10.0))
    keep(paths.records_file("results", "cpu", "made_up"), arms=arms)
    first = front_page.parts()["results"]
    assert "d/thin: 10.0 % of the FLOPs" in first and "control" not in first


def test_report_without_results_says_so(root: Path) -> None:
    paths.records_file("results", "cpu", "made_up").unlink()
    told = "No results yet: `make reproduce` makes them."
    assert front_page.parts() == {"results": told, "findings": told}


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "results"), ("<!-- results:end --> <!-- results:begin -->", "results"), (RESULTS, "findings")],
)
def test_report_wants_all_markers(root: Path, text: str, name: str) -> None:
    paths.readme().write_text(text)
    with pytest.raises(EffiError, match=f"README.md lacks a generated part; put the lines <!-- {name}:begin -->"):
        front_page.write()
    assert paths.readme().read_text() == text and not (paths.results() / "verdicts.png").exists()


def test_models_of_one_data_set_are_held_to_their_own_baseline(root: Path) -> None:
    arms = (("vit/dense", 0.9, 100.0), ("vit/eb", 0.9, 50.0), ("swin/dense", 0.8, 200.0), ("swin/eb", 0.8, 50.0))
    keep(paths.records_file("results", "cpu", "made_up"), arms=arms)
    change = "0.0 points [0.0, 0.1]"
    said = f"d/swin/eb: 25.0 % of the FLOPs, {change}; d/vit/eb: 50.0 % of the FLOPs, {change}"
    assert said in front_page.parts()["results"]


def test_without_a_baseline_no_saving_is_told(root: Path) -> None:
    keep(paths.records_file("results", "cpu", "made_up"), arms=(("half", 0.8, 50.0),))
    assert "| not available | not available |" in front_page.parts()["results"]


def test_counts_add_up_to_the_claims_in_every_row(root: Path) -> None:
    keep(paths.records_file("results", "cpu", "made_up"), arms=(("dense", 0.8, 100.0),))
    rows = [
        line.strip("| ").split(" | ")
        for line in front_page.parts()["findings"].splitlines()
        if "| made_up, cpu" in line
    ]
    assert [row[2:] for row in rows] == 2 * [["0", "0", "0", "**1**: 1 trained", "1 not reached"]]


def test_the_front_page_names_the_score(root: Path) -> None:
    assert "with its change in test accuracy." in front_page.parts()["results"]


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


def rewritten(path: Path, change: Callable[[int, dict[str, Any]], dict[str, Any] | None]) -> Path:
    """Records as an older version left them, without checksums, each changed or left out."""
    kept = [change(number, each) for number, each in enumerate(records(path))]
    lines = [{key: value for key, value in each.items() if key != "checksum"} for each in kept if each]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_gate_counts_records_and_values_and_passes_over_what_only_one_side_has(effi: Effi, root: Path) -> None:
    def change(number: int, record: dict[str, Any]) -> dict[str, Any]:
        more = {"train_seconds": number, **({"new": 1.0} if number else {})}
        return record | {"metrics": record["metrics"] | more, "paper": "made_up" if number else "other"}

    ours = paths.records_file("results", "cpu", "made_up")
    number = len(records(ours))
    said = effi("compare", rewritten(keep(root / "a.jsonl"), change), ours, "--bits")
    # Four metrics and four epochs of a history each.
    assert said == Said(
        0,
        f"{number - 1} records and {8 * (number - 1)} values compared, all of the same bits\n"
        "only on one side and passed over: keys 1, records 2\n",
        "",
    )


def test_the_gate_names_every_difference_and_fails(effi: Effi, root: Path) -> None:
    def change(number: int, record: dict[str, Any]) -> dict[str, Any] | None:
        if number == 0:
            metrics = record["metrics"] | {"test_loss": record["metrics"]["test_loss"] + 1e-15}
            return record | {"metrics": metrics, "settings": {"training": {"epochs": 7}}}
        if number == 1:
            return record | {"status": "failed", "error": "nan", "metrics": {}, "history": {}}
        return None if number == 2 else record

    ours = paths.records_file("results", "cpu", "made_up")
    said = effi("compare", ours, rewritten(keep(root / "b.jsonl"), change), "--bits")
    first, second, third = (f"{record['arm']} seed {record['seed']}" for record in records(ours)[:3])
    told = said.out.splitlines()
    assert said.status == 1 and said.err == ""
    assert told[0] == f"{third}: was done, now is missing"
    assert told[1].startswith(f"{first}: metrics test_loss was ")
    assert told[-1] == "of other settings, so that other bits are no wonder: records 1"
    assert told[2] == f"{second}: was done, now is failed (nan)" and "values compared, 3 differ" in told[3]


def test_the_gate_wants_the_same_arms(effi: Effi, root: Path) -> None:
    other = rewritten(keep(root / "b.jsonl"), lambda _, record: record | {"scale": "gpu"})
    said = effi("compare", paths.results(), other, "--bits")
    assert said.status == 2 and "share no paper, scale, arm and seed" in said.err


@pytest.mark.parametrize(
    ("metric", "place", "sentence"),
    [
        ("speed", "results", "share no arm with speed; compare other results"),
        ("test_los", "results", "did you mean test_loss?"),
        ("test_loss", "nowhere.jsonl", "holds no finished records"),
    ],
)
def test_compare_wants_something_to_compare(effi: Effi, root: Path, metric: str, place: str, sentence: str) -> None:
    said = effi("compare", paths.results(), root / place, "--metric", metric)
    assert said.status == 2 and sentence in said.err


def test_the_page_on_which_jupyterlab_opens_is_held_to_the_results(root: Path) -> None:
    start = root / "START.md"
    start.write_text("Words.\n<!-- start:begin -->\n<!-- start:end -->\n")
    assert not front_page.is_fresh()
    front_page.write()
    said = start.read_text()
    assert "**[A tiny question](notebooks/1_made_up.ipynb)** *At cpu scale: a direction" in said
    assert "of the data.*\n\n- Nothing is sure yet.\n" in said
    assert front_page.is_fresh()
    start.write_text(said.replace("Nothing is", "All is"))
    assert not front_page.is_fresh()
    start.write_text("no markers")
    with pytest.raises(EffiError, match=r"START\.md lacks a generated part"):
        front_page.write()


def test_kernels_that_were_asked_for_and_never_computed_are_told() -> None:
    def record(asked: dict[str, object], *computed: str) -> dict[str, object]:
        return {"parameters": {"patches": 4, **asked}, "provenance": {"kernels": [*computed]} if computed else {}}

    both = {"training": {"kernels": ["adamw"]}, "fine_tuning": {"kernels": ["cudnn", "adamw"], "epochs": 1}}
    assert idle_kernels([record(both), record(both, "cudnn")]) == ["adamw"]
    assert idle_kernels([record({"training": {"epochs": 3}}, "selection")]) == []
