"""Notebooks and their parameters: found, read and checked without starting a kernel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effi import paths
from effi.errors import ParameterError, did_you_mean
from effi.workbook import own, values
from effi.workbook.values import Parameter

if TYPE_CHECKING:
    from effi.spec import Rule

Cell = Mapping[str, Any]
SCALES = ("smoke", "cpu", "hours", "gpu", "paper")


@dataclass(frozen=True)
class Notebook:
    """One notebook of the workbook; `paper` is the id that its records, claims and results go by."""

    paper: str
    path: Path
    title: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names a user may call it by: paper id, file name, number."""
        stem = self.path.stem
        return tuple(dict.fromkeys((self.paper, stem, stem.split("_")[0])))


def notebooks(folder: Path | None = None) -> list[Notebook]:
    """Every notebook of `folder` (default: the workbook's) in the order of their file names.

    Raises ParameterError where the package was installed without the workbook.
    """
    if folder is None and not paths.CLONED:
        raise ParameterError(
            "this reads the notebooks, which are in a clone of the repository and not in an installed package: clone "
            "it and run `make setup` there"
        )
    return [open_notebook(path) for path in sorted((folder or paths.notebooks_dir()).glob("*.ipynb"))]


def open_notebook(path: Path) -> Notebook:
    """One notebook of any folder; raises ParameterError if it is no readable notebook."""
    headings = [line for cell in cells(path) if cell["cell_type"] == "markdown" for line in source(cell).splitlines()]
    title = next((line[2:].strip() for line in headings if line.startswith("# ")), path.stem)
    return Notebook(_paper(path.stem), path, title)


def find(names: Sequence[str], folder: Path | None = None) -> list[Notebook]:
    """The notebooks called by `names` (paper id, file name or number); all of them for no names."""
    known = notebooks(folder)
    by_name = {name: notebook for notebook in known for name in notebook.names}
    for name in names:
        if name not in by_name:
            raise ParameterError(f"There is no paper {name!r}{did_you_mean(name, [n.paper for n in known])}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else known


def cells(path: Path) -> list[Cell]:
    """Cells as the notebook's JSON has them; nbformat would take longer to import than every notebook to read."""
    try:
        found: list[Cell] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParameterError(f"{path} cannot be read as a notebook ({error}); restore it from git.") from error
    return found


def source(cell: Cell) -> str:
    """Text of a cell, which the format keeps as one string or as a list of lines."""
    return "".join(cell["source"])


def tagged(path: Path, tag: str) -> int:
    """Position of the one cell that carries `tag`; raises ParameterError for none or several."""
    found = [i for i, cell in enumerate(cells(path)) if tag in cell.get("metadata", {}).get("tags", ())]
    if len(found) != 1:
        raise ParameterError(f"{path.name} needs one cell tagged {tag!r} and has {len(found)}; tag it in JupyterLab.")
    return found[0]


def parameters(notebook: Notebook) -> dict[str, Parameter]:
    """Name -> type, default and help of every line of the cell tagged `parameters`."""
    return values.parameters(source(cells(notebook.path)[tagged(notebook.path, "parameters")]), notebook.path.name)


def check(notebook: Notebook, given: Mapping[str, object]) -> dict[str, object]:
    """`given` with every value in its parameter's type; text is read as a literal where no text is wanted.

    Raises ParameterError for an unknown name, a value of another type, and a scale that does not exist. What a value
    means is not looked at: that is `hold_to_rules`.
    """
    checked = values.checked(given, parameters(notebook), notebook.paper)
    if (scale := checked.get("scale", SCALES[0])) not in SCALES:
        raise ParameterError(f"There is no scale {scale!r}{did_you_mean(scale, SCALES)}")
    return checked


def hold_to_rules(notebook: Notebook, given: Mapping[str, object]) -> None:
    """Hold `given` and the defaults of all others against the rules that the notebook asks, too, in its first cell.

    Raises ParameterError and DataError.
    """
    # torch is imported with it.
    from effi import spec

    defaults = {name: parameter.default for name, parameter in parameters(notebook).items()}
    own.check({**defaults, **given})
    spec.check(_rules(notebook.paper), {**defaults, **given})


def _rules(paper: str) -> Mapping[str, Rule]:
    """Parameter -> rule, of the paper's own room; none where it has no room yet."""
    if not (paths.PACKAGE / paper / "parameters.py").is_file():
        return {}
    if not (claims := paths.paper_file(paper)).is_file():
        raise ParameterError(f"{claims}, which holds the claims of {paper}, is missing; restore it from git.")
    rules: Mapping[str, Rule] = import_module(f"effi.{paper}.parameters").PARAMETERS
    return rules


def _paper(stem: str) -> str:
    """Paper id: the file name without its number, cut to the id of the claims file or the room that it begins with."""
    name = stem.lstrip("0123456789").lstrip("_")
    known = [path.stem for path in paths.paper_file("*").parent.glob("*.toml")]
    known += [path.parent.name for path in paths.PACKAGE.glob("*/parameters.py")]
    return max((paper for paper in known if name.startswith(paper)), key=len, default=name)
