"""What is on disk against what its records give: every saved table derived anew and compared line by line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from effi import paths, report
from effi.cli import front_page
from effi.errors import RecordError
from effi.records import store
from effi.workbook import SCALES, notebooks


def verify(results_dir: str = "results") -> list[Path]:
    """Files that are what their records give; RecordError names the first that is missing or differs, and the line.

    Records that are torn, emptied or edited are told as that, before any table is. With the workbook's own results
    the generated part of README.md is held to them, too.
    """
    for scale, paper in runs(results_dir):
        store.records(paths.records_file(results_dir, scale, paper), whole=True)
    checked = [file for scale, paper in runs(results_dir) for file in _tables(results_dir, scale, paper)]
    if not checked:
        raise RecordError(f"{paths.results(results_dir)} holds no records; run something first.")
    if paths.results(results_dir) == paths.results():
        if not front_page.is_fresh():
            raise RecordError(f"{paths.readme().name} does not show the results on disk; run `effi report`.")
        checked.append(paths.readme())
    return checked


def runs(results_dir: str) -> Iterator[tuple[str, str]]:
    """(scale, paper) of every run that has records."""
    for scale in SCALES:
        for notebook in notebooks():
            if paths.records_file(results_dir, scale, notebook.paper).exists():
                yield scale, notebook.paper


def _tables(results_dir: str, scale: str, paper: str) -> Iterator[Path]:
    for name, table in report.derive(results_dir, scale, paper).items():
        for suffix, fresh in (("csv", table.csv()), ("md", table.markdown())):
            file = paths.run_dir(results_dir, scale, paper) / f"{name}.{suffix}"
            _compare(file, fresh)
            yield file


def _compare(file: Path, fresh: str) -> None:
    try:
        held = file.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{file} cannot be read ({error.strerror}); run its notebook again.") from error
    lines = zip_longest(held.split("\n"), fresh.split("\n"), fillvalue="nothing")
    for number, (on_disk, derived) in enumerate(lines, start=1):
        if on_disk != derived:
            raise RecordError(f"{file}, line {number}: holds {on_disk!r}, but the records give {derived!r}.")
