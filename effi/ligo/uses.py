"""What the weights of a model do with its residual stream; who keeps a function treats each use in its own way."""

from __future__ import annotations

from typing import Literal

from torch import nn

from effi.ligo.pieces import Piece, pieces
from effi.models.gpt import TiedEmbedding

Use = Literal["table", "write", "read", "norm", "scale", "other"]

# Layers of transformers whose norms follow the sum with the residual stream; ours say so in `order`.
_POST = ("BertLayer", "RobertaLayer", "TransformerBlock")


def uses(model: nn.Module) -> dict[str, Use]:
    """Family of pieces -> its use.

    "table": rows that are put on the residual stream, such as embeddings; "write": layers whose sums are, and their
    biases; "read": layers that read it, or what the transform of a masked-language head writes, and their biases;
    "norm": LayerNorms; "scale": a LayerScale; "other": what does none of these. Errors as `effi.ligo.pieces.forms`.
    """
    found = pieces(model)
    matrices = {piece.module: _of_matrix(model, piece) for piece in found if piece.into is not None}
    return {piece.family: matrices.get(piece.module) or _of_vector(model, piece) for piece in found}


def tied(model: nn.Module) -> bool:
    """Whether the head multiplies by the embedding's own matrix."""
    if any(isinstance(module, TiedEmbedding) for module in model.modules()):
        return True
    words = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return any(isinstance(module, nn.Linear) and id(module.weight) in words for module in model.modules())


def norms_follow(model: nn.Module) -> bool:
    """Whether norms follow the sum with the residual stream (post-LN), as in BERT, instead of preceding the layers."""
    return any(type(each).__name__ in _POST or getattr(each, "order", "") == "post" for each in model.modules())


def raw(model: nn.Module) -> set[str]:
    """Families that read the residual stream itself, as no norm is before them."""
    use = uses(model)
    normed = {piece.layer is None for piece in pieces(model) if use[piece.family] == "norm"}
    return {
        piece.family
        for piece in pieces(model)
        if use[piece.family] == "read" and piece.into == "width" and (piece.layer is None) not in normed
    }


def _owner(model: nn.Module, piece: Piece) -> nn.Module:
    return model.get_submodule(piece.name.rpartition(".")[0])


def _of_matrix(model: nn.Module, piece: Piece) -> Use:
    if piece.into in ("width", "head"):
        is_table = piece.out == "" and not isinstance(_owner(model, piece), nn.Linear)
        return "table" if is_table else "read"
    return "write" if piece.out == "width" else "other"


def _of_vector(model: nn.Module, piece: Piece) -> Use:
    if isinstance(_owner(model, piece), nn.LayerNorm):
        return "norm"
    return "scale" if piece.out == "width" else "other"
