"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from effi import spec
from effi.early_bird.building import VISION
from effi.early_bird.groups import LANGUAGE
from effi.masks import RULES, Scope
from effi.models.language import TextSize
from effi.training import Training

PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images", "texts"),
    "models": spec.several(spec.one_of(*VISION, *LANGUAGE)),
    "ratios": spec.several(spec.between(0, 1)),
    "threshold": spec.between(0, 1),
    "threshold_language": spec.between(0, 1),
    "neurons_in": spec.at_least(1, int),
    "rule": spec.one_of(*RULES),
    "scope": spec.one_of(*get_args(Scope)),
    "only": spec.several(spec.text),
    "vision": spec.per({kind: spec.options_of(make) for kind, make in VISION.items()}),
    "language": spec.options_of(TextSize, "dropout"),
    "training": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
    "fine_tuning": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
}
