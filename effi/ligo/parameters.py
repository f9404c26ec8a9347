"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping

from effi import spec
from effi.ligo.operator import Growth
from effi.ligo.recipes import Ligo
from effi.models.language import TextSize
from effi.training import Training

SIZE = {"width": 64, "depth": 1, "heads": 1, "hidden": 1}
SIZES = {name: spec.options_of(TextSize, base=SIZE) for name in ("small", "large")}

PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images", "corpus", "texts"),
    "only": spec.several(spec.text),
    "kinds": spec.several(spec.one_of("gpt", "vit", "bert")),
    "sizes": spec.per({kind: spec.per(SIZES) for kind in ("gpt", "vit", "bert")}),
    "source": spec.between(0, 10),
    "growth": spec.options_of(Ligo, base={}),
    "operator": spec.options_of(Growth, base={}),
    "tasks": spec.several(spec.text),
    "training": spec.in_steps(spec.options_of(Training, base={"steps": 1})),
}
