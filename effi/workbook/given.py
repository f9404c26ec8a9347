"""Parameters that papermill puts into a notebook, held to those it has: papermill itself only warns and runs on."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from effi.errors import ParameterError
from effi.workbook import values
from effi.workbook.values import Parameter

WHO = "this notebook"


def hold(cells: Sequence[str], names: dict[str, Any]) -> None:
    """Put what papermill's cell, the last of `cells`, gave into the types of the parameters cell before it.

    papermill's command line hands over lists and dictionaries as text. `names` are the notebook's. ParameterError for
    a name that it does not have, and for a value of another type.
    """
    *before, injected = cells
    given = {name: names[name] for name in assigned(injected)}
    names.update(values.checked(given, next(_of_literals(before), {}), WHO))


def _of_literals(cells: Sequence[str]) -> Iterator[dict[str, Parameter]]:
    """What each cell that holds literals says; the first such is the parameters cell."""
    for cell in cells:
        with suppress(ParameterError, SyntaxError):
            if found := values.parameters(cell, WHO):
                yield found


def assigned(cell: str) -> list[str]:
    """Names that a cell sets."""
    nodes = (node for node in ast.parse(cell).body if isinstance(node, ast.Assign))
    return [target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)]
