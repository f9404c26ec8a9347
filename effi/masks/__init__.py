"""Which weights live: a Mask is parameter name -> kept (True). Masks from scores, compared, packed, held, stored."""

from effi.masks.compare import distance, layer_sparsity, overlap, sparsity, stability
from effi.masks.fit import Mask
from effi.masks.holding import Held, hold
from effi.masks.merge import intersection, union, vote
from effi.masks.packing import distance_matrix, pack, packed_distance, unpack
from effi.masks.prunable import Part, parts, prunable
from effi.masks.select import Scope, everything, magnitude, pruned_count, random, random_like, smallest
from effi.masks.storage import encode, file_formats, formats

__all__ = [
    "Held",
    "Mask",
    "Part",
    "Scope",
    "distance",
    "distance_matrix",
    "encode",
    "everything",
    "file_formats",
    "formats",
    "hold",
    "intersection",
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
    "smallest",
    "sparsity",
    "stability",
    "union",
    "unpack",
    "vote",
]
