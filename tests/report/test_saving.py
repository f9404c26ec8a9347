"""A disk that refuses a file of a report."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from effi.errors import RecordError
from effi.report import Table
from effi.report.saving import save


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file of this process may be longer than 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
def test_a_refused_file_is_named_and_its_older_version_stays(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    save(file, "old")
    with pytest.raises(RecordError, match=r"table\.csv could not be written \(File too large\); free space"):
        save(file, "new" * 1000)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(RecordError, match=r"t\.csv could not be written"):
        Table("A table", ("a",), (("x" * 2000,),)).save(tmp_path / "t")
