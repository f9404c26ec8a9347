"""Which weights live: a Mask is parameter name -> kept (True). From scores; compared, watched, packed, held, stored."""

from effi.masks.compare import distance, layer_sparsity, overlap, sparsity, stability
from effi.masks.detector import RULES, Rule, TicketDetector, first_draw
from effi.masks.fit import Mask
from effi.masks.holding import Held, hold
from effi.masks.merge import intersection, union, vote
from effi.masks.packing import distance_matrix, pack, packed_distance, unpack
from effi.masks.prunable import Part, parts, prunable, sizes
from effi.masks.select import Scope, everything, largest, magnitude, pruned_count, random, random_like, smallest
from effi.masks.storage import encode, file_formats, formats

__all__ = [
    "RULES",
    "Held",
    "Mask",
    "Part",
    "Rule",
    "Scope",
    "TicketDetector",
    "distance",
    "distance_matrix",
    "encode",
    "everything",
    "file_formats",
    "first_draw",
    "formats",
    "hold",
    "intersection",
    "largest",
    "layer_sparsity",
    "magnitude",
    "overlap",
    "pack",
    "packed_distance",
    "parts",
    "prunable",
    "pruned_count",
    "random",
    "random_like",
    "sizes",
    "smallest",
    "sparsity",
    "stability",
    "union",
    "unpack",
    "vote",
]
