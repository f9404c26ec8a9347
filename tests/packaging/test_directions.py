"""The rooms of effi: imports point one way, the way data flow, and there are few doors at the top."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from effi import paths
from effi.workbook import notebooks

# A room may import from those to its left.
SHARED = "errors paths seeds kernels data models masks axes cost training spec"
BEHIND = "own_loop records claims report workbook advice bench cli"
# With the rooms of the first two papers 20; those of papers to come are on top of that.
AT_MOST = 19


@cache
def papers() -> set[str]:
    """Rooms of papers; between themselves they share nothing."""
    return {notebook.paper for notebook in notebooks()}


def level(room: str) -> int:
    """Place in the order; all papers stand in one place."""
    order = [*SHARED.split(), "papers", *BEHIND.split()]
    return order.index("papers" if room in papers() else room)


def entries() -> list[str]:
    """Rooms and modules at the top level of effi."""
    found = (path for path in paths.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return sorted(path.stem for path in found if path.stem != "__init__")


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree without those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from running(child)


def imported(source: str, package: str) -> set[str]:
    """Modules and members of effi that a text imports, those inside functions included."""
    found: set[str] = set()
    for node in running(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "effi"}


def module(path: Path) -> str:
    """Dotted name of a file of effi."""
    return ".".join(path.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__")


def edges() -> dict[str, set[str]]:
    """Module -> modules of effi that it imports, itself left out; a name of a package stands for its __init__."""
    files = {module(path): path for path in paths.PACKAGE.rglob("*.py")}
    found = {}
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        names = imported(path.read_text(encoding="utf-8"), package)
        known = {each if each in files else each.rpartition(".")[0] for each in names}
        found[name] = {each for each in known if each in files and each not in (name, "effi")}
    return found


def room(name: str) -> str:
    """The room that a module stands in."""
    return name.split(".")[1]


EDGES = edges()


def test_what_counts_as_an_import() -> None:
    text = (
        "import effi.data.text\nfrom . import b\nfrom effi import cost\ndef f():\n    from effi.seeds import seeded\n"
    )
    silent = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import effi.cli\nimport torch\n"
    wanted = {"effi.data.text", "effi.masks.b", "effi.cost", "effi.seeds.seeded"}
    assert imported(text + silent, "effi.masks") == wanted
    assert "effi.errors" in EDGES["effi.spec.rules"] and "effi.workbook.batch" in EDGES["effi.workbook.plan"]


def test_every_room_has_its_place_and_they_are_few() -> None:
    shared = {*SHARED.split(), *BEHIND.split()}
    assert set(entries()) - papers() == shared and len(shared) <= AT_MOST


@pytest.mark.parametrize("name", entries())
def test_imports_point_to_the_left(name: str) -> None:
    inside = {each: EDGES[each] for each in EDGES if each != "effi" and room(each) == name}
    wrong = [
        f"{each} imports {target}"
        for each, targets in inside.items()
        for target in targets
        if room(target) != name and level(room(target)) >= level(name)
    ]
    assert wrong == []


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of a circle, from one back to itself; none without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_seen() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}}) == []


def test_there_is_no_circle_of_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for name, targets in EDGES.items():
        if name != "effi":
            rooms.setdefault(room(name), set()).update({room(each) for each in targets} - {room(name)})
    assert circle(rooms) == []


def test_there_is_no_circle_of_modules() -> None:
    # A package and the modules inside it know each other: a module counts as importing only what it names.
    leaves = {name: {each for each in targets if not name.startswith(f"{each}.")} for name, targets in EDGES.items()}
    assert circle(leaves) == []
