"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping

from effi import spec
from effi.early_bird.detector import RULES
from effi.models.language import TextSize
from effi.models.swin import swin
from effi.models.vision import cifar_vit
from effi.training import Training

PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images", "texts"),
    "models": spec.several(spec.one_of("vit", "swin", "gpt2", "roberta", "minilm")),
    "ratios": spec.several(spec.between(0, 1)),
    "threshold": spec.between(0, 1),
    "threshold_language": spec.between(0, 1),
    "rule": spec.one_of(*RULES),
    "scope": spec.one_of("global", "tensor"),
    "only": spec.several(spec.text),
    "vision": spec.per({"vit": spec.options_of(cifar_vit), "swin": spec.options_of(swin)}),
    "language": spec.options_of(TextSize, "dropout"),
    "training": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
    "fine_tuning": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
}
