"""Finished records with costs and histories, made up for tests."""

from __future__ import annotations

from typing import Any

from tests.claims import synthetic


def trained(
    arm: str, seed: int, accuracy: float, *, flops: float = 100.0, search: float = 0.0, **cost: Any
) -> dict[str, Any]:
    """A record of four epochs whose validation accuracy climbs to `accuracy`; search FLOPs come on top."""
    found = synthetic.record(arm, seed, test_accuracy=accuracy, parameters=flops, test_loss=1 - accuracy)
    phases = {"train": {"flops": flops, "seconds": flops / 10}, "search": {"flops": search, "seconds": search / 10}}
    found["cost"] |= {"flops": flops + search, "seconds": (flops + search) / 10, "phases": phases} | cost
    found["history"] = {"validation_accuracy": [accuracy - 0.3, accuracy - 0.2, accuracy - 0.1, accuracy]}
    return found


def runs() -> list[dict[str, Any]]:
    """Two data sets; "half" costs half of "dense" and loses one, two and three points."""
    records = []
    for data in ("d", "e"):
        for seed in range(3):
            records.append(trained(f"{data}/half", seed, 0.79, flops=50.0))
            records.append(trained(f"{data}/dense", seed, 0.80 + 0.01 * seed, peak_bytes=2_000_000))
    return records
