"""Functions of effi as a notebook shows them: their own text, so that it cannot grow old."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Listing:
    """Python source, coloured where Markdown is shown."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


def source(*functions: Callable[..., Any]) -> Listing:
    """The source of functions, methods or classes, one after the other."""
    return Listing("\n\n\n".join(textwrap.dedent(inspect.getsource(each)).rstrip() for each in functions))
