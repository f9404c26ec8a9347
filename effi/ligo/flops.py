"""FLOPs as the paper counts them, in closed form: ELECTRA's counter, for which a backward pass costs one forward.

It takes an embedding as a product with one-hot vectors and a head on 15.6 % of the tokens of any text, so that its
numbers are no machine's: what a model executes is its own `train_flops`, with a backward pass of two forwards.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal, cast, get_args

from torch import nn

from effi.errors import ParameterError, did_you_mean
from effi.models.gpt import GPT
from effi.models.language import LanguageModel
from effi.models.vit import ViT

Charge = Literal["sequence", "batch", "ours"]
# Of the tokens, those whose logits are counted: ELECTRA's 20 of 128.
HEAD = 0.15625


@dataclass(frozen=True)
class Sizes:
    """Sizes of a Transformer that reads `tokens` at a time; `hidden` is the width of its feed-forward blocks.

    A text has a `vocabulary`; images have patches of so many values (`patch`) and `classes`. ParameterError for a size
    below 1, and for neither or both of a vocabulary and patches.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    tokens: int
    vocabulary: int = 0
    patch: int = 0
    classes: int = 0

    def __post_init__(self) -> None:
        if min(astuple(self)[:5]) < 1 or (self.vocabulary > 0) == (min(self.patch, self.classes) > 0):
            raise ParameterError(f"{self} is no Transformer; give sizes above 0, and a vocabulary or patch and classes")

    def block(self) -> int:
        """FLOPs of one layer's forward of one sequence; the lone 5 is the official code's: a LayerNorm of one unit."""
        width, hidden = self.width, self.hidden
        products = 2 * width * (4 * width + 2 * hidden) + 4 * width * self.tokens
        return self.tokens * (products + 10 * self.heads * self.tokens + 20 * width + 9 * hidden + 5)

    def embedding(self) -> int:
        """FLOPs of the forward of one sequence before the first layer.

        Of images only the products of patches count, our choice: what the paper counted for them is not available.
        """
        if self.patch:
            return 2 * self.tokens * self.patch * self.width
        return self.tokens * self.width * (2 * self.vocabulary + 2 * (self.tokens + 2) + 11)

    def head(self) -> float:
        """FLOPs of the forward of one sequence behind the last layer; of images the product with the classes alone."""
        if self.patch:
            return 2 * self.width * self.classes
        each = 2 * self.width * (self.vocabulary + self.width) + 14 * self.width + 7 * self.vocabulary
        return HEAD * self.tokens * each

    def step(self, batch: int) -> int:
        """FLOPs of a training step, forward and backward, of so many sequences."""
        return round(2 * batch * (self.layers * self.block() + self.embedding() + self.head()))


def bert(layers: int, width: int, *, tokens: int = 128, vocabulary: int = 30522) -> Sizes:
    """A model of the paper's text pairs (Table 4): heads of 64 units, feed-forward blocks four times as wide."""
    return Sizes(layers, width, width // 64, 4 * width, tokens, vocabulary)


def sizes(model: nn.Module, tokens: int | None = None) -> Sizes:
    """Sizes of a GPT, a language model of transformers or a ViT; texts are of `tokens`.

    ParameterError for any other model, and for a text model without `tokens`.
    """
    if isinstance(model, ViT):
        shape = model.shape
        heads = int(cast(int, next(model.each_block()).attention.heads))  # type: ignore[attr-defined]
        blocks = (shape.depth, shape.width, heads, shape.hidden)
        return Sizes(*blocks, shape.tokens, patch=shape.patch_dim, classes=shape.classes)
    if tokens is None:
        raise ParameterError("FLOPs of a text model are asked for without the length of its texts; give tokens")
    if isinstance(model, GPT):
        block, vocabulary = next(model.each_block()), model.embedding.num_embeddings
        hidden = cast(nn.Linear, block.mlp[0]).out_features
        return Sizes(
            len(model.blocks), block.attention.out.in_features, block.attention.heads, hidden, tokens, vocabulary
        )
    if isinstance(model, LanguageModel):
        return _configured(model, tokens)
    raise ParameterError(
        f"the paper's FLOPs of a {type(model).__name__} are not known; give a GPT, language model or ViT"
    )


def _configured(model: LanguageModel, tokens: int) -> Sizes:
    config = model.net.config
    hidden = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    blocks = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, hidden)
    return Sizes(*blocks, tokens, config.vocab_size)


# --- growth --------------------------------------------------------------------------------------------------


def growth_step(small: Sizes, large: Sizes, batch: int, charge: Charge = "sequence") -> int:
    """FLOPs of a step that learns the operator: a step of the large model, and its weights made of the small one's.

    The official code makes them once per "sequence"; "batch" counts the same once per step, as they are made, and
    "ours" so, but by `expansion`. ParameterError for another charge.
    """
    if charge not in get_args(Charge):
        raise ParameterError(f"growth is not charged by {charge!r}{did_you_mean(charge, get_args(Charge))}")
    made = expansion(small, large) if charge == "ours" else official_expansion(small, large)
    return large.step(batch) + 2 * large.layers * made * (batch if charge == "sequence" else 1)


def official_expansion(small: Sizes, large: Sizes) -> int:
    """FLOPs of making one large layer's weights, as the official code has them; it counts Q, K and V as one matrix."""
    narrow, wide, hidden, new = small.width, large.width, large.hidden, large.width - small.width
    mixed = 4 * wide**2 + 4 * wide * hidden + 8 * wide + hidden
    widened = 8 * narrow**2 + 4 * narrow * hidden + 2 * wide * hidden + 4 * narrow + 2 * wide + hidden
    return small.layers * mixed + new * widened


def expansion(small: Sizes, large: Sizes) -> int:
    """FLOPs of making one large layer's matrices: depth mixed first, then new columns, then new rows ([I; C])."""
    square = _expanded(small.layers, (small.width, large.width), (small.width, large.width))
    up = _expanded(small.layers, (small.hidden, large.hidden), (small.width, large.width))
    down = _expanded(small.layers, (small.width, large.width), (small.hidden, large.hidden))
    return 4 * square + up + down


def _expanded(layers: int, rows: tuple[int, int], columns: tuple[int, int]) -> int:
    """Two FLOPs per multiply-add of a matrix with so many rows and columns before and after."""
    (o1, o2), (i1, i2) = rows, columns
    return 2 * (layers * o1 * i1 + o1 * i1 * (i2 - i1) + (o2 - o1) * o1 * i2)
