"""Functions of effi as a notebook shows them: their own text, so that it cannot grow old."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Listing:
    """Python source; where Markdown is shown it is coloured, and opens from a line that says how long it is."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        line = f"Source, lines: {len(self.text.splitlines())}"
        return f"<details><summary>{line}</summary>\n\n```python\n{self.text}\n```\n\n</details>"


def source(*functions: Callable[..., Any]) -> Listing:
    """The source of functions, methods or classes, one after the other."""
    return Listing("\n\n\n".join(textwrap.dedent(inspect.getsource(each)).rstrip() for each in functions))
