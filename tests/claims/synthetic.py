"""Records and paper files made up for tests."""

from __future__ import annotations

import re
from typing import Any

from effi.claims.papers import Paper, parse

REPORT = {
    "baseline": "old",
    "method": ["new"],
    "headline": [],
    "score": "loss",
    "margin": "loss",
    "metrics": ["loss"],
    "price_per_gpu_hour": 1.0,
}
FULL = {"training": {"epochs": 10}}
WORDS = {name: name for name in ("loss", "size", "test", "train", "slope", "p", "closest_*")}


def fields(arm: str) -> dict[str, Any]:
    """What a record says of itself: "d/vit/eb-0.3" is the variant "eb" of the ratio 0.3; a check is none."""
    *group, name = _split(arm)
    found = re.fullmatch(r"(.+)-(0\.\d+)", name)
    variant, ratio = (found[1], float(found[2])) if found else (name, None)
    if group == ["check"]:
        return dict.fromkeys(("dataset", "model", "variant", "ratio"))
    return {"dataset": group[0], "model": "/".join(group[1:]) or None, "variant": variant, "ratio": ratio}


def _split(arm: str) -> list[str]:
    """Parts of an arm whose data set may be a path: "folder:/my/data/new"."""
    path, _, name = arm.rpartition("/")
    return [path, name] if arm.startswith("folder:") else arm.split("/")


def record(arm: str, seed: int = 0, *, settings: dict[str, Any] = FULL, **metrics: float) -> dict[str, Any]:
    """A finished record of the cpu scale with the given metrics."""
    return {
        "paper": "made_up",
        "scale": "cpu",
        "arm": arm,
        **fields(arm),
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
    claim = {"id": "C1", "kind": "trained", "text": "It works", "place": "Sec. 1", "paper": "not available"}
    return parse(
        {
            "id": "made_up",
            "title": "A paper",
            "citation": "Nobody",
            "datasets": ["d"],
            "full": {"training.epochs": 10, "seeds": 3},
            "margins": {"loss": {"other": 1.0}},
            "words": WORDS,
            "report": REPORT,
            "claims": [{**claim, "as_in_the_paper": list(tests), "fair": fair}],
            **content,
        }
    )
