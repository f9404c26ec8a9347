"""A disk that refuses a file of a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from effi.errors import RecordError
from effi.report import Table
from effi.report.saving import save
from tests.largest_file import largest_file


def test_a_refused_file_is_named_and_its_older_version_stays(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    save(file, "old")
    told = r"table\.csv could not be written \(File too large\); free space"
    with largest_file(1000), pytest.raises(RecordError, match=told):
        save(file, "new" * 1000)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with largest_file(1000), pytest.raises(RecordError, match=r"t\.csv could not be written"):
        Table("A table", ("a",), (("x" * 2000,),)).save(tmp_path / "t")
