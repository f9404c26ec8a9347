"""Parameters that papermill puts into a notebook, held to those it has: papermill itself only warns and runs on."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from contextlib import suppress

from effi.errors import did_you_mean

MARK = "# Parameters"  # the first line of papermill's own cell, which follows the parameters cell


def watch() -> None:
    """From now on a cell of papermill's with an unknown name ends the notebook; nothing happens outside one."""
    from IPython.core.getipython import get_ipython  # absent from the command line's start

    shell = get_ipython()
    if shell is None:
        return

    def checked(lines: list[str]) -> list[str]:
        if not lines or lines[0].strip() != MARK:
            return lines
        return [*lines, *refusal(shell.user_ns["In"], "".join(lines))]

    shell.input_transformers_cleanup.append(checked)


def refusal(before: Sequence[str], injected: str) -> list[str]:
    """Code that raises for the first name that no cell before has set; none where all are known."""
    known = {name for cell in before for name in assigned(cell)}
    said = [
        f"this notebook has no parameter {name!r}{did_you_mean(name, sorted(known))}"
        for name in assigned(injected)
        if name not in known
    ]
    return [f"\nfrom effi.errors import ParameterError\nraise ParameterError({said[0]!r})\n"] if said else []


def assigned(cell: str) -> list[str]:
    """Names that a cell of literals sets."""
    with suppress(SyntaxError):
        nodes = ast.parse(cell).body
        targets = [node.targets[0] for node in nodes if isinstance(node, ast.Assign)]
        targets += [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []
