"""A table of text: stable under nbval, the same in a terminal, in Markdown, in HTML and on disk."""

from __future__ import annotations

import csv
import html
import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from effi.claims import Here
from effi.report.saving import save

# Okabe and Ito's green, vermilion and grey, darkened until text on white is readable (contrast above 4.5).
COLOURS: dict[Here, str] = {"for": "#007A59", "against": "#B34700", "open": "#5F6368", "not run": "#757575"}
MARKS: dict[Here, str] = {"for": "✓", "against": "✗", "open": "○", "not run": "–"}
TEXT_WIDTH = 160
LEAST_WIDTH = 16
LONG, BEGINNING = 90, 50  # characters of a cell that may be folded, and those that stay in sight
MOST = 16  # rows of a table that does not scroll in itself
# Column names that stay in sight, on the ground of JupyterLab (where it trusts a notebook), of the site, or of a page.
HELD = "position:sticky;top:0;background:var(--jp-layout-color0,var(--color-background-primary,Canvas));"


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; notes stand below. Without columns it is a sentence or two.

    `sheet` is what a machine gets in the place of columns and rows, its first row the columns. In HTML a table that is
    `folded` opens from its title, a long cell of a column among `folds` from its first line, or first words, and one of
    more than MOST rows scrolls in itself.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    sheet: tuple[tuple[str, ...], ...] = ()
    folded: bool = False
    folds: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns for a terminal, long cells and notes wrapped so that a line fits TEXT_WIDTH."""
        rows = (self.columns, *self.rows)
        widths = _fitting([max(1, *(len(row[i]) for row in rows)) for i in range(len(self.columns))])
        blocks = [[textwrap.wrap(*each) or [""] for each in zip(row, widths, strict=True)] for row in rows]
        lines = [*_aligned(blocks[0], widths), "  ".join("-" * width for width in widths)] if widths else []
        for row in blocks[1:]:
            lines += _aligned(row, widths)
        title, notes = textwrap.wrap(self.title, TEXT_WIDTH), (textwrap.wrap(note, TEXT_WIDTH) for note in self.notes)
        return "\n".join([*title, *lines, *itertools.chain.from_iterable(notes)])

    def markdown(self) -> str:
        """Pipe table with its title above and its notes below."""
        rows = [self.columns, ("---",) * len(self.columns), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
        table = ["\n".join(lines)] if self.columns else []
        return "\n\n".join([f"**{self.title}**", *table, *self.notes]) + "\n"

    def html(self) -> str:
        """Table whose verdicts are coloured beside their word."""
        long, title = len(self.rows) > MOST, f"<b>{html.escape(self.title)}</b>"
        style = f"{HELD if long else ''}text-align:left"
        head = "".join(f'<th style="{style}">{html.escape(column)}</th>' for column in self.columns)
        body = "".join(f"<tr>{self._html_row(row)}</tr>\n" for row in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in self.notes)
        caption = "" if self.folded or long else f"<caption>{title}</caption>"
        table = f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"
        whole, line = f"{_scrolled(table) if long else table}\n{notes}", f"{title}: {len(self.rows)} lines"
        if self.folded:
            return _folded(line, whole)
        return f"<p>{line}</p>\n{whole}" if long else whole

    def _html_row(self, row: Sequence[str]) -> str:
        return "".join(_html_cell(cell, column in self.folds) for cell, column in zip(row, self.columns, strict=True))

    def csv(self) -> str:
        """The sheet, or columns and rows, without title and notes."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(self.sheet or [self.columns, *self.rows])
        return buffer.getvalue()

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write path.csv and path.md, and say where; the folder is made when absent."""
        path = Path(path)
        written = path.with_name(path.name + ".csv"), path.with_name(path.name + ".md")
        for file, content in zip(written, (self.csv(), self.markdown()), strict=True):
            save(file, content)
        return written

    def __repr__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return self.html()


def _fitting(widths: list[int]) -> list[int]:
    """Widths cut until they and the gaps of two fit TEXT_WIDTH, so that the highest cells stay low."""
    least, cut = [min(width, LEAST_WIDTH) for width in widths], list(widths)
    while sum(cut) > TEXT_WIDTH - 2 * (len(cut) - 1) and cut != least:
        open_to_cut = [i for i in range(len(cut)) if cut[i] > least[i]]
        cut[min(open_to_cut, key=lambda i: widths[i] / (cut[i] - 1))] -= 1
    return cut


def _aligned(row: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Lines of one row whose cells may be several lines high."""
    lines = []
    for i in range(max(map(len, row))):
        cells = (cell[i] if i < len(cell) else "" for cell in row)
        padded = (text.ljust(width) for text, width in zip(cells, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
    return lines


def _html_cell(cell: str, folds: bool) -> str:
    style = "text-align:left"
    for here, mark in MARKS.items():
        if cell.startswith(f"{mark} "):
            style = f"color:{COLOURS[here]};font-weight:bold;text-align:left"
    return f'<td style="{style}">{_shortened(cell) if folds else html.escape(cell)}</td>'


def _shortened(cell: str) -> str:
    """The first line, or first words, that open the others; a cell that is not long as it is."""
    if len(cell) <= LONG:
        return html.escape(cell)
    first, _, rest = cell.partition("\n")
    if not rest:
        words = textwrap.wrap(cell, BEGINNING)[0]
        first, rest = f"{words} …", cell[len(words) :].lstrip()
    return _folded(html.escape(first), html.escape(rest))


def _scrolled(content: str) -> str:
    """HTML of at most 26 em that scrolls in itself, by the keyboard, too; the class lets a page print all of it."""
    return f'<div class="scrolls" tabindex="0" style="max-height:26em;overflow:auto">{content}</div>'


def _folded(line: str, content: str) -> str:
    """HTML that opens from a line, itself HTML."""
    return f"<details><summary>{line}</summary>\n{content}</details>"


def save_tables(tables: Mapping[str, Table], folder: str | Path) -> list[Path]:
    """Write every table as <name>.csv and <name>.md into the folder."""
    return [path for name, table in tables.items() for path in table.save(Path(folder) / name)]
