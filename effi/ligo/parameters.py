"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effi import spec
from effi.errors import ParameterError
from effi.ligo.operator import Growth
from effi.ligo.recipes import Ligo
from effi.models.language import TextSize
from effi.training import Training

SIZE = {"width": 64, "depth": 1, "heads": 1, "hidden": 1}
SIZES = {name: spec.options_of(TextSize, base=SIZE) for name in ("small", "large")}


def _in_steps(name: str, given: Any) -> None:
    """Options of a training that the notebook counts in steps, of which arms take shares."""
    if isinstance(given, dict) and given.get("epochs") is not None:
        raise ParameterError(f"{name} is counted in steps here; give steps instead of epochs.")
    spec.options_of(Training, base={"steps": 1})(name, given)


PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images", "corpus", "texts"),
    "only": spec.several(spec.text),
    "kinds": spec.several(spec.one_of("gpt", "vit", "bert")),
    "sizes": spec.per({kind: spec.per(SIZES) for kind in ("gpt", "vit", "bert")}),
    "source": spec.between(0, 10),
    "growth": spec.options_of(Ligo, base={}),
    "operator": spec.options_of(Growth, base={}),
    "training": _in_steps,
}
