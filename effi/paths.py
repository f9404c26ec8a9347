"""Where things lie: the only module that joins path strings; and how a file is written whole."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# What of data/ is needed everywhere; setup.py puts it there when it builds a package.
CARRIED = PACKAGE / "carried"
# A clone of the repository; a package that was installed without one has no files but its own.
CLONED = not CARRIED.is_dir()
ROOT = PACKAGE.parent if CLONED else Path.cwd()


def results(results_dir: str | Path = "results") -> Path:
    """Folder of all results; a relative name is meant from the root of the clone, without one from the caller."""
    return ROOT / Path(results_dir).expanduser()


def run_dir(results_dir: str | Path, scale: str, paper: str) -> Path:
    """Folder of one paper at one scale: records, tables, figures, the executed notebook."""
    return results(results_dir) / scale / paper


def records_file(results_dir: str | Path, scale: str, paper: str) -> Path:
    """Append-only store of one paper at one scale."""
    return run_dir(results_dir, scale, paper) / "records.jsonl"


def place(records: Path) -> tuple[Path, str, str]:
    """Folder of results, scale and paper of an append-only store: the inverse of `records_file`."""
    return records.parents[2], records.parents[1].name, records.parents[0].name


def figures_dir(results_dir: str | Path, scale: str, paper: str) -> Path:
    """Folder of one run's PNG files."""
    return run_dir(results_dir, scale, paper) / "figures"


def bench_dir(results_dir: str | Path = "results") -> Path:
    """Folder of benchmark records."""
    return results(results_dir) / "bench"


def bench_file(results_dir: str | Path, name: str) -> Path:
    """Rows of one benchmark."""
    return bench_dir(results_dir) / f"{name}.jsonl"


def data_dir() -> Path:
    """Folder of the manifest, the papers' numbers and data sets kept with the workbook."""
    return ROOT / "data"


def manifest() -> Path:
    """Every data set with files, checksums, licence and source."""
    return _facts() / "manifest.toml"


def paper_file(paper: str) -> Path:
    """Claims and printed numbers of one paper."""
    return _facts() / "papers" / f"{paper}.toml"


def _facts() -> Path:
    return data_dir() if CLONED else CARRIED


def notebooks_dir() -> Path:
    """Folder of the five notebooks."""
    return ROOT / "notebooks"


def readme() -> Path:
    """The first page; a part of it is generated from results."""
    return ROOT / "README.md"


def replace(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
