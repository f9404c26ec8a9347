"""How far a run is, under the notebook's cell: one bar that is redrawn in place."""

from __future__ import annotations

import html
import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")


class Bar:
    """A bar with what is settled of a total and a line of words; nothing is shown before the first call."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, settled: int, total: int, words: str) -> None:
        """Draw it, or draw it anew in its place."""
        from IPython.display import display

        content = _drawn(settled, total, words)
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _drawn(settled: int, total: int, words: str) -> dict[str, str]:
    said = f"{settled}/{total} arms and seeds{' | ' * bool(words)}{words}"
    bar = f'<progress value="{settled}" max="{max(total, 1)}" style="width: 16em"></progress>'
    return {"text/plain": said, "text/html": f"{bar} {html.escape(said)}"}
