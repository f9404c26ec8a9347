"""From the parameters of a notebook to what it will do: scale, seeds, device and data sets, checked."""

from effi.spec.budget import enough
from effi.spec.options import choose, options
from effi.spec.resolution import Spec, resolve
from effi.spec.rules import (
    Rule,
    at_least,
    between,
    check,
    data_sets,
    holding,
    in_epochs,
    in_steps,
    one_of,
    options_of,
    per,
    several,
    text,
)

__all__ = [
    "Rule",
    "Spec",
    "at_least",
    "between",
    "check",
    "choose",
    "data_sets",
    "enough",
    "holding",
    "in_epochs",
    "in_steps",
    "one_of",
    "options",
    "options_of",
    "per",
    "resolve",
    "several",
    "text",
]
