"""Histories compared: everything in them but the seconds is the same bits twice."""

from __future__ import annotations

from effi.training import History


def learnt(history: History) -> dict[str, list[float]]:
    """The curves, but for the seconds."""
    return {name: curve for name, curve in history.curves.items() if name != "seconds"}
