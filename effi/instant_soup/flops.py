"""FLOPs as a sparse machine would count them: of each matrix only the weights alive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from effi import masks
from effi.cost import forward_flops
from effi.masks import Mask
from effi.training import Step


class SparseFlops:
    """Counts a step of training for `fit(paper_flops=...)`; no dense kernel runs faster for it.

    The three products of a matrix count by its density, everything else whole. `example` is a batch as the model reads
    it, `names` the weights that may be pruned.
    """

    def __init__(self, model: nn.Module, example: Tensor, names: Sequence[str]) -> None:
        flops = forward_flops(model, example)
        whole = sum(flops.values())
        self.parts: dict[tuple[str, ...], float] = {}
        for path, count in flops.items():
            if inside := tuple(name for name in names if name.startswith(f"{path}.")):
                self.parts[inside] = count / whole
        self._mask: Mask | None = None
        self._share = 1.0

    def __call__(self, step: Step, executed: int) -> int:
        """FLOPs of a step whose dense kernels executed so many."""
        if step.mask is not self._mask:
            self._mask, self._share = step.mask, self.share(step.mask or {})
        return round(executed * self._share)

    def share(self, mask: Mapping[str, Tensor]) -> float:
        """Share of the dense FLOPs under a mask."""
        return 1 - sum(part * _sparsity(mask, names) for names, part in self.parts.items())


def _sparsity(mask: Mapping[str, Tensor], names: Sequence[str]) -> float:
    own = {name: mask[name] for name in names if name in mask}
    return masks.sparsity(own) if own else 0.0
