"""What a notebook shows of effi is what runs."""

from __future__ import annotations

import inspect

from effi.early_bird import Ticket, exact
from effi.report import source


def test_a_listing_is_the_text_of_its_functions() -> None:
    shown = repr(source(exact))
    assert shown == inspect.getsource(exact).rstrip()
    line = f"<details><summary>Source, lines: {len(shown.splitlines())}</summary>"
    # Without blank lines around it the fence would be text of HTML.
    assert source(exact)._repr_markdown_() == f"{line}\n\n```python\n{shown}\n```\n\n</details>"


def test_methods_lose_their_indent_and_several_stand_apart() -> None:
    first, second = repr(source(Ticket.snapshot, exact)).split("\n\n\n")
    assert first.startswith("def snapshot(self") and "\n    if self.source" in first
    assert second == repr(source(exact))
