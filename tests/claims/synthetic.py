"""Records and paper files made up for tests."""

from __future__ import annotations

from typing import Any

from effi.claims.papers import Paper, parse

REPORT = {
    "baseline": "old",
    "headline": ["C1"],
    "score": "loss",
    "margin": "loss",
    "metrics": ["loss"],
    "price_per_gpu_hour": 1.0,
}
FULL = {"training": {"epochs": 10}}


def record(arm: str, seed: int = 0, *, settings: dict[str, Any] = FULL, **metrics: float) -> dict[str, Any]:
    """A finished record of the smoke scale with the given metrics."""
    return {
        "paper": "made_up",
        "scale": "cpu",
        "arm": arm,
        "seed": seed,
        "status": "done",
        "error": None,
        "metrics": metrics,
        "history": {},
        "cost": {"flops": 0, "seconds": 0.0, "peak_bytes": None, "joules": None, "phases": {}, "side_by_side": 1},
        "settings": settings,
    }


def arm(name: str, values: list[float], metric: str = "loss", **options: Any) -> list[dict[str, Any]]:
    """One record per value, seeds from 0."""
    return [record(name, seed, **{metric: value}, **options) for seed, value in enumerate(values)]


def paper(*tests: dict[str, Any], fair: list[dict[str, Any]] | str = "the same", **content: Any) -> Paper:
    """A paper of one claim, for the data set d, whose full protocol is 10 epochs and 3 seeds."""
    claim = {"id": "C1", "text": "It works", "place": "Sec. 1", "paper": "not available"}
    return parse(
        {
            "id": "made_up",
            "title": "A paper",
            "citation": "Nobody",
            "datasets": ["d"],
            "full": {"training.epochs": 10, "seeds": 3},
            "margins": {"loss": {"other": 1.0}},
            "report": REPORT,
            "claims": [{**claim, "as_in_the_paper": list(tests), "fair": fair}],
            **content,
        }
    )
