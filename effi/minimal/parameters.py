"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from effi import spec
from effi.errors import ParameterError
from effi.minimal.variants import Variant
from effi.training import Training
from effi.training.objectives import Loss

PIXELS = 32  # every data set is brought to this many a side
HEADS = 4  # of the arms that have most
DEFINING = ("mlp", "heads", "query_key", "value_output", "depth")


def patch_pixels(patches: int, pixels: int) -> int:
    """Pixels a side of one of `patches` patches a side of an image; ParameterError when they do not divide it."""
    spec.at_least(1, int)("patches", patches)
    if pixels % patches:
        *fitting, last = (str(count) for count in range(1, pixels + 1) if pixels % count == 0)
        raise ParameterError(f"patches={patches} does not divide {pixels} pixels; give {', '.join(fitting)} or {last}.")
    return pixels // patches


def _patches(name: str, value: Any) -> None:
    patch_pixels(value, PIXELS)


def _variant(name: str, value: Any) -> None:
    spec.options_of(Variant, base={})(name, value)
    if named := [option for option in DEFINING if option in value]:
        raise ParameterError(f"{', '.join(named)} of {name} would relabel the arms; edit them in the notebook.")
    if (width := value.get("width", HEADS)) % HEADS:
        raise ParameterError(f"width={width} of {name} is cut into up to {HEADS} heads; give a multiple of {HEADS}.")


PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images"),
    "patches": _patches,
    "only": spec.several(spec.text),
    "variant": _variant,
    "training": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
    "loss": spec.one_of(*get_args(Loss)),
}
