"""What a ticket search saw, as records keep it: snapshots, their places in epochs, and where the rules draw."""

from __future__ import annotations

import numpy as np

from effi.claims import Results

# Short names of the three detection rules, by the middle of their metrics' names.
RULES = {"consecutive": "R1", "queue": "R2", "code": "R3"}
NEVER = "never"


def chance(ratio: float) -> float:
    """Expected distance of two independent masks that prune the share `ratio`: 2p(1-p)."""
    return 2 * ratio * (1 - ratio)


def history(results: Results, arm: str, key: str) -> np.ndarray:
    """Histories of shape (seeds, length), cut to the shortest. Raises RecordError where a seed has none."""
    return np.array(results.history(arm, key), dtype=np.float64)


def positions(results: Results, arm: str) -> np.ndarray:
    """Epochs trained before each snapshot."""
    return history(results, arm, "snapshot")[0]


def of_seeds(drawn: int, seeds: int) -> str:
    """How many seeds drew, in brackets, where some but not all did; else nothing."""
    return f" ({drawn} of {seeds})" if 0 < drawn < seeds else ""


def drawn_shares(results: Results, arm: str, rule: str, ratio: float) -> list[float]:
    """Share of the training at the draw, of the seeds that draw; records hold more than 1 for never."""
    return [share for share in results.values(arm, f"share_{rule}_{ratio:g}") if share <= 1]
