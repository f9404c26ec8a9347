"""Sizes of the pairs that are compared: the paper's, and smaller ones whose heads are as wide in both models, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from effi.ligo.settings import Kind, Model, Pair
from effi.models.language import TextSize


class Sizes(NamedTuple):
    """Width, layers and heads of a small and of a large model; feed-forward blocks are four times as wide."""

    small: tuple[int, int, int]
    large: tuple[int, int, int]


LITTLE: Mapping[Kind, Sizes] = {
    "gpt": Sizes((64, 2, 4), (96, 4, 6)),
    "bert": Sizes((64, 2, 4), (96, 4, 6)),
    "vit": Sizes((48, 4, 3), (96, 4, 6)),
}
# Of other scales; GPT2-Base to Medium, BERT-Small to Base, DeiT-S to B, which grows in width alone (Table 4).
PAIRS: Mapping[str, Mapping[Kind, Sizes]] = {
    "smoke": dict.fromkeys(("gpt", "bert", "vit"), Sizes((16, 2, 2), (24, 4, 3))),
    "gpu": {
        "gpt": Sizes((256, 6, 4), (384, 12, 6)),
        "bert": Sizes((256, 6, 4), (384, 12, 6)),
        "vit": Sizes((96, 6, 3), (192, 6, 6)),
    },
    "paper": {
        "gpt": Sizes((768, 12, 12), (1024, 24, 16)),
        "bert": Sizes((512, 6, 8), (768, 12, 12)),
        "vit": Sizes((384, 12, 6), (768, 12, 12)),
    },
}
PATCHES = {"smoke": 2, "gpu": 4, "paper": 16}


def pair(kind: Kind, scale: str, given: Mapping[str, Mapping[str, Any]] | None = None) -> Pair:
    """The pair of a scale; `given` has options of TextSize for "small" and "large" that take the place of its own.

    New weights of a narrow GPT are wider, 0.02 sqrt(768 / width). ParameterError for sizes that do not fit.
    """
    sizes, full = PAIRS.get(scale, LITTLE)[kind], scale == "paper"
    own: dict[str, Any] = {"patch": PATCHES.get(scale, 8), "dropout": 0.1 if full else 0.0, "full": full}
    made = []
    for which, (width, layers, heads) in sizes._asdict().items():
        size = replace(TextSize(width, layers, heads, 4 * width), **(given or {}).get(which, {}))
        made.append(Model(kind, size, std=0.02 * (768 / size.width) ** 0.5, **own))
    return Pair(*made)
