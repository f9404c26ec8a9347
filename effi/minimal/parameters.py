"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effi import spec
from effi.errors import ParameterError
from effi.minimal.variants import Variant
from effi.training import Training

PIXELS = 32  # every data set is brought to this many a side
DEFINING = ("mlp", "heads", "query_key", "value_output", "depth")


def _patches(name: str, value: Any) -> None:
    spec.at_least(1, int)(name, value)
    if PIXELS % value:
        raise ParameterError(f"{name}={value} does not divide {PIXELS} pixels; give 1, 2, 4, 8 or 16.")


def _variant(name: str, value: Any) -> None:
    spec.options_of(Variant, base={})(name, value)
    if named := [option for option in DEFINING if option in value]:
        raise ParameterError(f"{', '.join(named)} of {name} would relabel the arms; edit them in the notebook.")


PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images"),
    "patches": _patches,
    "only": spec.several(spec.text),
    "variant": _variant,
    "training": spec.options_of(Training, base={"epochs": 1}),
}
