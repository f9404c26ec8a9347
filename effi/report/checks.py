"""One printed line for every claim that arithmetic settles: what, ours, expected, and whether they agree."""

from __future__ import annotations


def check(what: str, ours: float, expected: float, *, tolerance: float = 0.0) -> str:
    """ "what | ours a | expected b | ok", or "differs by c" when they are further apart than `tolerance`."""
    gap = abs(ours - expected)
    word = "ok" if gap <= tolerance else f"differs by {_shown(gap)}"
    bound = f" within {tolerance:g}" if tolerance and gap <= tolerance else ""
    return f"{what} | ours {_shown(ours)} | expected {_shown(expected)} | {word}{bound}"


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
