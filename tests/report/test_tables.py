"""One table in four forms."""

from __future__ import annotations

import csv
import html
import io
from dataclasses import replace
from pathlib import Path

import pytest

from effi.report import Table, save_tables
from effi.report.tables import BEGINNING, COLOURS, HELD, MARKS, MOST, TEXT_WIDTH

TABLE = Table(
    "Who won?",
    ("arm", "verdict"),
    (("a|b <c>", "✓ for"), ("d", "✗ against"), ("e", "○ open"), ("f", "– not run")),
    ("Three runs.",),
)


def test_text_is_aligned() -> None:
    assert str(TABLE).splitlines() == [
        "Who won?",
        "arm      verdict",
        "-------  ---------",
        "a|b <c>  ✓ for",
        "d        ✗ against",
        "e        ○ open",
        "f        – not run",
        "Three runs.",
    ]


def test_text_wraps_long_cells_within_the_width_and_loses_no_word() -> None:
    words = [f"word{i}" for i in range(150)]
    lines = Table("Long", ("short", "also short", "why"), (("x", "y " * 20, " ".join(words)),)).text().splitlines()
    assert max(map(len, lines)) <= TEXT_WIDTH
    assert [word for line in lines for word in line.split() if word.startswith("word")] == words


def test_markdown_escapes_pipes() -> None:
    markdown = TABLE.markdown()
    assert "| a\\|b <c> | ✓ for |" in markdown
    assert markdown.startswith("**Who won?**\n\n| arm | verdict |\n| --- | --- |")
    assert markdown.endswith("\n\nThree runs.\n")
    assert TABLE._repr_markdown_() == markdown


def test_html_escapes_and_colours_beside_the_word() -> None:
    page = TABLE._repr_html_()
    assert "a|b &lt;c&gt;" in page
    for here, colour in COLOURS.items():
        assert f'color:{colour};font-weight:bold;text-align:left">{MARKS[here]} {here}</td>' in page


def test_a_folded_table_opens_from_its_title_and_says_how_much_it_holds() -> None:
    page = replace(TABLE, folded=True).html()
    assert page.startswith("<details><summary><b>Who won?</b>: 4 lines</summary>\n<table>")
    assert page.count("Who won?") == 1 and page.endswith("<p>Three runs.</p>\n</details>")


@pytest.mark.parametrize("folded", [False, True])
def test_a_long_table_scrolls_in_itself_under_its_column_names(folded: bool) -> None:
    rows = tuple((str(i), "x") for i in range(MOST + 1))
    page = replace(TABLE, rows=rows, folded=folded).html()
    assert page.count("<b>Who won?</b>: 17 lines</") == page.count("Who won?") == page.count("max-height") == 1
    assert page.index("Who won?") < page.index("max-height") < page.index("</div>") < page.index("<p>Three runs.</p>")
    assert page.count(HELD) == len(TABLE.columns)
    short = replace(TABLE, rows=rows[1:], folded=folded).html()
    assert "max-height" not in short and HELD not in short


def test_long_cells_of_columns_that_fold_keep_their_first_words_in_sight_and_lose_none() -> None:
    words = " ".join(f"word<{i}>" for i in range(60))
    table = Table("Long", ("kept", "why"), ((words, words), ("x", "short")), folds=("why",))
    kept, why, *short = [cell.partition("</td>")[0] for cell in table.html().split("<td")[1:]]
    assert kept.endswith(html.escape(words)) and [cell.partition(">")[2] for cell in short] == ["x", "short"]
    first, rest = why.partition("<summary>")[2].removesuffix("</details>").split(" …</summary>\n")
    assert f"{first} {rest}" == html.escape(words) and len(html.unescape(first)) <= BEGINNING
    assert replace(table, folds=()).text() == table.text()


def test_a_cell_of_two_lines_opens_from_its_first_and_is_one_line_elsewhere() -> None:
    table = Table("Long", ("why",), (("A gist < this.\n" + 20 * "evidence ",),), folds=("why",))
    assert f"<details><summary>A gist &lt; this.</summary>\n{20 * 'evidence '}</details></td>" in table.html()
    assert "| A gist < this. evidence evidence" in table.markdown()


@pytest.mark.parametrize("colour", COLOURS.values())
def test_verdict_colours_are_readable_on_white(colour: str) -> None:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    luminance = sum(w * ((c + 0.055) / 1.055) ** 2.4 for w, c in ((0.2126, red), (0.7152, green), (0.0722, blue)))
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_without_columns_it_is_a_sentence() -> None:
    said = Table("Nothing yet.", (), (), ("Run it.",))
    assert said.text() == "Nothing yet.\nRun it."
    assert said.markdown() == "**Nothing yet.**\n\nRun it.\n"


def test_csv_reads_back() -> None:
    assert [tuple(row) for row in csv.reader(io.StringIO(TABLE.csv()))] == [TABLE.columns, *TABLE.rows]


def test_a_machine_gets_the_sheet_where_there_is_one() -> None:
    sheet = (("arm", "mean"), ("a", "0.123456"))
    assert Table("One", ("arm", "ours"), (("a", "0.1"),), sheet=sheet).csv() == "arm,mean\na,0.123456\n"


def test_saving_keeps_names_with_dots(tmp_path: Path) -> None:
    written = save_tables({"ticket-0.3": TABLE}, tmp_path / "new")
    assert [path.name for path in written] == ["ticket-0.3.csv", "ticket-0.3.md"]
    assert written[0].read_text(encoding="utf-8") == TABLE.csv()
    assert written[1].read_text(encoding="utf-8") == TABLE.markdown()


def test_a_column_without_a_name_and_without_cells_is_no_error() -> None:
    assert Table("Nothing", ("", "what"), ()).text() == "Nothing\n   what\n-  ----"
