"""What a notebook shows of effi is what runs."""

from __future__ import annotations

import inspect

from effi.early_bird import Ticket, exact
from effi.report import source


def test_a_listing_is_the_text_of_its_functions() -> None:
    shown = repr(source(exact))
    assert shown == inspect.getsource(exact).rstrip()
    assert source(exact)._repr_markdown_() == f"```python\n{shown}\n```"


def test_methods_lose_their_indent_and_several_stand_apart() -> None:
    first, second = repr(source(Ticket.snapshot, exact)).split("\n\n\n")
    assert first.startswith("def snapshot(self") and "\n    if self.source" in first
    assert second == repr(source(exact))
