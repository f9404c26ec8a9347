"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping

from effi import spec
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.schedule import Phases
from effi.models.language import TextSize
from effi.training import Training

SIZE = {"width": 64, "depth": 1, "heads": 1, "hidden": 1}


PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("corpus", "texts"),
    "only": spec.several(spec.text),
    "ratio": spec.between(0, 1),
    "size": spec.options_of(TextSize, base=SIZE),
    "phases": spec.options_of(Phases, base={"ultra": 0.8}),
    "evolution": spec.options_of(Evolution, base={}),
    "attention": spec.options_of(Pattern),
    "training": spec.in_steps(spec.options_of(Training, base={"steps": 1})),
}
