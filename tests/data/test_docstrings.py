"""Docstrings are read, not run; their libraries' names are hidden; train and test share no file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from effi.data import docstrings, files
from effi.errors import DataError

ENTRY = files.manifest()["docstrings"]
FILL = "and this sentence goes on until it is long enough to be kept."


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> files.Entry:
    """Two libraries of made-up functions; importing either fails."""
    for library in ("effialpha", "effibeta"):
        for module in range(12):
            place = tmp_path / library / f"part{module}.py"
            place.parent.mkdir(exist_ok=True)
            functions = (
                f'def f{k}():\n    """{library} function {module} {k} of NumPy, np.array and sp_linalg {FILL}"""\n'
                for k in range(5)
            )
            place.write_text("raise SystemExit\n" + "".join(functions))
        (tmp_path / library / "__init__.py").write_text("raise SystemExit")
        (tmp_path / library / "template.py").write_text("{{ no python }}")
        (tmp_path / library / "tests").mkdir()
        (tmp_path / library / "tests" / "test_a.py").write_text(f'"""A test that documents nothing {FILL}"""')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(docstrings, "TRAIN", 20)
    monkeypatch.setattr(docstrings, "TEST", 10)
    return dataclasses.replace(ENTRY, classes=("effialpha", "effibeta"))


def test_they_are_read_without_importing_their_library(libraries: files.Entry) -> None:
    source = docstrings.read(libraries, Path())
    assert source.train.labels.bincount().tolist() == [20, 20]
    assert source.test.labels.bincount().tolist() == [10, 10]
    assert not {"effialpha", "effibeta"} & sys.modules.keys()
    assert all(text.startswith("effialpha") for text in source.train.texts[:20])


def test_names_are_hidden(libraries: files.Entry) -> None:
    text = docstrings.read(libraries, Path()).train.texts[0]
    assert text.endswith(f"of library, library.array and library_linalg {FILL}")


def test_no_file_gives_to_both_parts_and_no_test_is_read(libraries: files.Entry) -> None:
    source = docstrings.read(libraries, Path())
    modules = [{tuple(text.split()[:3]) for text in part.texts} for part in (source.train, source.test)]
    assert not modules[0] & modules[1]
    assert not any("test that documents" in text for text in source.train.texts)


def test_the_order_is_fixed_and_the_checksum_is_of_the_content(libraries: files.Entry, tmp_path: Path) -> None:
    first, again = (docstrings.read(libraries, Path()) for _ in range(2))
    assert (first.train.texts, first.checksum) == (again.train.texts, again.checksum)
    for module in (tmp_path / "effibeta").glob("part*.py"):
        module.write_text(module.read_text().replace("function", "method"))
    assert docstrings.read(libraries, Path()).checksum != first.checksum


def test_a_library_that_is_not_there(libraries: files.Entry) -> None:
    with pytest.raises(DataError, match="docstrings needs effigamma, which is not installed"):
        docstrings.read(dataclasses.replace(libraries, classes=("effialpha", "effigamma")), Path())


def test_the_installed_libraries_have_enough() -> None:
    source = docstrings.read(dataclasses.replace(ENTRY, classes=("numpy", "scipy")), Path())
    assert source.train.labels.bincount().tolist() == [docstrings.TRAIN] * 2
    assert source.test.labels.bincount().tolist() == [docstrings.TEST] * 2
    assert not set(source.train.texts) & set(source.test.texts)
    assert not [text for text in source.train.texts if "numpy" in text.lower() or "scipy" in text.lower()]
