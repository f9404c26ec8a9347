"""Finished records with costs and histories, made up for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.claims import synthetic


def trained(
    arm: str, seed: int, accuracy: float, *, flops: float = 100.0, search: float = 0.0, **cost: Any
) -> dict[str, Any]:
    """A record of four epochs whose validation accuracy climbs to `accuracy`; search FLOPs come on top."""
    scores = {"validation_accuracy": accuracy, "test_accuracy": accuracy, "test_loss": 1 - accuracy}
    found = synthetic.record(arm, seed, parameters=flops, **scores)
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


def searched(
    arm: str, seed: int, ratios: Sequence[float] = (0.1, 0.3), *, epochs: int = 4, accuracy: float = 0.8
) -> dict[str, Any]:
    """A dense record whose masks settle: snapshots t and u are (1/2)^min(t, u) - (1/2)^max(t, u) of chance apart."""
    found = trained(arm, seed, accuracy)
    at = 0.5 ** np.arange(epochs + 1)
    history = {"snapshot": list(range(epochs + 1)), "learning_rate": [0.1 * 0.5**e for e in range(epochs)]}
    for ratio in ratios:
        heat = 2 * ratio * (1 - ratio) * np.abs(at[:, None] - at)
        found["metrics"] |= {f"found_consecutive_{ratio:g}": 1 + seed, f"found_queue_{ratio:g}": epochs}
        found["metrics"] |= {f"found_code_{ratio:g}": -1, f"closest_{ratio:g}": heat[-1, -2]}
        history |= {f"heat_{ratio:g}": heat.ravel().tolist(), f"final_distance_{ratio:g}": heat[:, -1].tolist()}
        history |= {f"distance_{ratio:g}": np.diagonal(heat, 1).tolist()}
        history |= {f"layer_sparsity_{ratio:g}": [ratio / 2 + 0.01 * seed, ratio, 1.5 * ratio - 0.01 * seed]}
    found["history"] |= history
    return found
