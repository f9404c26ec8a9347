"""The cell that papermill puts into a notebook behind its parameters: it is checked as `effi run` checks them."""

from __future__ import annotations

MARK = "# Parameters"  # the first line of papermill's cell
# Text, which the notebook runs: a room imports none behind it.
HELD = "\nimport effi.workbook.given\neffi.workbook.given.hold(In, globals())\n"


def watch() -> None:
    """From now on a cell of papermill's ends by checking what it gave; nothing happens outside a notebook."""
    from IPython.core.getipython import get_ipython  # absent from the command line's start

    if (shell := get_ipython()) is not None:
        shell.input_transformers_cleanup.append(_checked)


def _checked(lines: list[str]) -> list[str]:
    return [*lines, HELD] if lines and lines[0].strip() == MARK else lines
