"""What lives and dies together: single weights, or blocks of them, whose layers then multiply by live ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from effi.errors import ParameterError
from effi.masks import Mask
from effi.mixed_sparsity.blocks import (
    BlockSparseEmbedding,
    BlockSparseLinear,
    Norm,
    block_scores,
    check_parting,
    whole_mask,
)
from effi.models.gpt import TiedEmbedding

BlockSparse = BlockSparseLinear | BlockSparseEmbedding


class Granularity(Protocol):
    """How matrices part into units that live or die as one; a mask of units has the shape of their scores."""

    @property
    def weights(self) -> int:
        """Weights of a unit."""

    def scores(self, matrices: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What ranks the units of weights, or of their gradients, by absolute value."""

    def whole(self, units: Mask) -> Mask:
        """The mask of weights of a mask of units."""

    def follow(self, units: Mask) -> None:
        """From now on these units live."""

    def expect(self, gradients: bool) -> None:
        """Whether the next backward pass is to make gradients of units that do not live, too."""


class Singles:
    """Every weight for itself: dense layers compute all of them, and all gradients."""

    weights = 1

    def scores(self, matrices: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The matrices themselves."""
        return matrices

    def whole(self, units: Mask) -> Mask:
        """The mask itself."""
        return units

    def follow(self, units: Mask) -> None:
        """Layers know no mask."""

    def expect(self, gradients: bool) -> None:
        """All gradients are always there."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of size x size weights, ranked by a norm, in `layers` by the names of their weights."""

    layers: Mapping[str, BlockSparse]
    size: int
    norm: Norm = "l1"

    @classmethod
    def of(cls, model: nn.Module, names: Sequence[str], size: int, norm: Norm = "l1") -> Blocks:
        """Those of a model, whose layers are exchanged for block-sparse ones over the same parameters.

        ParameterError for a matrix that does not part, and for one of another layer than a linear or a tied embedding;
        the model is then as it was.
        """
        layers = {name: _block_sparse(model, name, size) for name in names}
        for name, layer in layers.items():
            model.set_submodule(_path(name), layer)
        return cls(layers, size, norm)

    @property
    def weights(self) -> int:
        """Weights of a block."""
        return self.size**2

    def scores(self, matrices: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Norms of blocks."""
        return block_scores(matrices, self.size, norm=self.norm)

    def whole(self, units: Mask) -> Mask:
        """The mask of weights."""
        return whole_mask(units, self.size)

    def follow(self, units: Mask) -> None:
        """Layers multiply by these blocks alone."""
        for name, kept in units.items():
            self.layers[name].set_mask(kept)

    def expect(self, gradients: bool) -> None:
        """Layers make all gradients in the next backward pass, or those of live blocks."""
        for layer in self.layers.values():
            layer.dense_gradient = gradients


def _path(name: str) -> str:
    return name.rpartition(".")[0]


def _block_sparse(model: nn.Module, name: str, size: int) -> BlockSparse:
    layer = model.get_submodule(_path(name))
    check_parting(name, model.get_parameter(name).shape, size)
    if isinstance(layer, TiedEmbedding):
        return BlockSparseEmbedding(layer, size)
    if not isinstance(layer, nn.Linear):
        raise ParameterError(
            f'"{name}" is the matrix of a {type(layer).__name__}, which has no products to spare: prune blocks of '
            "linear layers and of a tied embedding, or single weights"
        )
    return BlockSparseLinear(layer, size)
