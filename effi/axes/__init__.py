"""The named axes of a Transformer's weights: removing heads and neurons is selecting on an axis."""

from effi.axes import tables as tables
from effi.axes.depth import Layered, depth, layered
from effi.axes.description import Units, describe
from effi.axes.gates import Gates, with_gates
from effi.axes.selection import axes, mask_units, restore, slim, units

__all__ = [
    "Gates",
    "Layered",
    "Units",
    "axes",
    "depth",
    "describe",
    "layered",
    "mask_units",
    "restore",
    "slim",
    "units",
    "with_gates",
]
