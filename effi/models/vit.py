"""A plain Vision Transformer with explicit choices where papers differ.

Shapes: B batch, C channels, T tokens (patches, plus one for a class token), P = C patch^2 patch dimension, N width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.models.attention import SelfAttention
from effi.seeds import seeded


@dataclass(frozen=True)
class ViTShape:
    """Sizes and choices of a ViT; `hidden` = 0 leaves the feed-forward blocks out.

    `without_mlp` says what becomes of a block's second half once its MLP is gone: "norm" deletes it with its skip and
    leaves LN(x), "residual" deletes only the MLP: x + LN(x), "plain" leaves nothing of it, LayerNorm included.
    `init`: "glorot" has tables from N(0, 0.02^2) and zero biases, "torch" tables from N(0, 1) and layers as made.
    """

    image_size: int
    patch_size: int
    channels: int
    classes: int
    width: int = 60
    depth: int = 6
    hidden: int = 256
    norm: Literal["pre", "post", "none"] = "pre"
    final_norm: bool = False
    skip: bool = True
    without_mlp: Literal["norm", "residual", "plain"] = "norm"
    pool: Literal["mean", "cls"] = "mean"
    positions: Literal["none", "sincos", "learned"] = "sincos"
    stem_bias: bool = True
    attention_bias: bool = True
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    init: Literal["glorot", "torch"] = "glorot"

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ParameterError(
                f"image size {self.image_size} is not a multiple of patch size {self.patch_size}; "
                "choose a patch size that divides it or resize the images"
            )

    @property
    def norms(self) -> int:
        """LayerNorms of a block."""
        halved = not self.hidden and self.without_mlp == "plain"
        return 0 if self.norm == "none" else 1 if halved else 2

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens(self) -> int:
        return self.patches + (self.pool == "cls")

    @property
    def patch_dim(self) -> int:
        return self.channels * self.patch_size**2


def patchify(images_BCHW: Tensor, patch: int) -> Tensor:
    """BCHW -> BTP, patches in row order, each flattened channel first."""
    batch, channels, height, width = images_BCHW.shape
    grid = images_BCHW.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)


def sincos_positions(patches: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine table (patches, width), Vaswani et al. 2017 on each image axis; a rest stays zero."""
    side, quarter = int(patches**0.5), width // 4
    frequency = 10000.0 ** -(torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (row, column)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)
    return nn.functional.pad(table, (0, width - table.shape[1]))


class BlockAttention(Protocol):
    """What a block asks of its attention module: BTN -> BTN, weights drawn on demand, FLOPs of one forward by part."""

    def __call__(self, x_BTN: Tensor, /) -> Tensor: ...

    def reset(self) -> None: ...

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]: ...


class FeedForward(nn.Sequential):
    """The MLP of a block: one hidden GELU layer, both layers biased, BTN -> BTN."""

    def __init__(self, width: int, hidden: int, *, dropout: float = 0.0) -> None:
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)]
        super().__init__(*layers, *([nn.Dropout(dropout)] if dropout else []))

    @property
    def hidden(self) -> int:
        """How many neurons there are now."""
        return cast(nn.Linear, self[0]).out_features


class Block(nn.Module):
    """Attention, then the MLP if there is one; else what `without_mlp` says."""

    def __init__(self, shape: ViTShape, attention: BlockAttention) -> None:
        super().__init__()
        self.order, self.skip, self.without_mlp = shape.norm, shape.skip, shape.without_mlp
        self.norm1 = nn.LayerNorm(shape.width) if shape.norms else nn.Identity()
        self.attention = attention
        self.norm2 = nn.LayerNorm(shape.width) if shape.norms > 1 else nn.Identity()
        self.mlp = FeedForward(shape.width, shape.hidden, dropout=shape.dropout) if shape.hidden else None

    def _branch(self, x_BTN: Tensor, norm: nn.Module, inner: Callable[[Tensor], Tensor]) -> Tensor:
        if self.order == "post":
            return norm(x_BTN + inner(x_BTN) if self.skip else inner(x_BTN))
        changed = inner(norm(x_BTN))
        return x_BTN + changed if self.skip else changed

    def forward(self, x_BTN: Tensor) -> Tensor:
        x_BTN = self._branch(x_BTN, self.norm1, self.attention)
        if self.mlp is not None:
            return self._branch(x_BTN, self.norm2, self.mlp)
        if self.order == "pre" and self.skip and self.without_mlp == "residual":
            return x_BTN + self.norm2(x_BTN)
        return self.norm2(x_BTN)


class ViT(nn.Module):
    """Vision Transformer: images BCHW (float, normalised) -> logits (B, classes).

    `attention` makes the attention module of one block; by default the ordinary multi-head one with `heads` heads.
    Weights are drawn from the "init" stream of `seed`; attention modules draw their own in `reset()`.
    """

    positions: Tensor | None

    def __init__(
        self,
        shape: ViTShape,
        *,
        heads: int = 1,
        attention: Callable[[], BlockAttention] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shape = shape
        ordinary = partial(SelfAttention, shape.width, heads, bias=shape.attention_bias, dropout=shape.dropout)
        make: Callable[[], BlockAttention] = attention or ordinary
        self.stem = nn.Linear(shape.patch_dim, shape.width, bias=shape.stem_bias)
        self.cls = nn.Parameter(torch.zeros(1, 1, shape.width)) if shape.pool == "cls" else None
        self.blocks = nn.ModuleList(Block(shape, make()) for _ in range(shape.depth))
        self.final_norm = nn.LayerNorm(shape.width) if shape.final_norm else nn.Identity()
        self.head = nn.Linear(shape.width, shape.classes)
        self._make_positions()
        self.embedding_dropout = nn.Dropout(shape.embedding_dropout)
        with seeded(seed):
            self.reset()

    def each_block(self) -> Iterator[Block]:
        """The blocks in order, with their own type, which nn.ModuleList does not keep."""
        return (cast(Block, block) for block in self.blocks)

    def _make_positions(self) -> None:
        kind, size = self.shape.positions, (1, self.shape.tokens, self.shape.width)
        if kind == "learned":
            self.positions = nn.Parameter(torch.zeros(size))
        elif kind == "sincos":
            table = torch.zeros(size)
            table[:, -self.shape.patches :] = sincos_positions(self.shape.patches, self.shape.width)
            self.register_buffer("positions", table)
        else:
            self.positions = None

    def reset(self) -> None:
        """Draw all weights anew, as the shape's `init` says."""
        if self.shape.init == "torch":
            self._reset_as_torch()
        else:
            self._reset_as_glorot()

    def _reset_as_glorot(self) -> None:
        """Glorot uniform, zero biases, positions and class token from N(0, 0.02^2)."""
        mlps = [layer for block in self.each_block() if block.mlp is not None for layer in block.mlp]
        for layer in (self.stem, *mlps, self.head):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for table in (self.cls, self.positions):
            if isinstance(table, nn.Parameter):
                nn.init.normal_(table, std=0.02)
        for block in self.each_block():
            block.attention.reset()

    def _reset_as_torch(self) -> None:
        """Every layer as torch makes it, positions and class token from N(0, 1)."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.LayerNorm):
                layer.reset_parameters()
        for table in (self.cls, self.positions):
            if isinstance(table, nn.Parameter):
                nn.init.normal_(table)

    def tokens(self, images_BCHW: Tensor) -> Tensor:
        """Embedded patches with class token and positions, BTN: what the first block reads.

        Under autocast both are cast to the stem's type: fp32 tables would keep the whole residual stream in fp32, and
        every linear layer would convert it anew.
        """
        x_BTN = self.stem(patchify(images_BCHW, self.shape.patch_size))
        if self.cls is not None:
            x_BTN = torch.cat([self.cls.to(x_BTN.dtype).expand(len(x_BTN), -1, -1), x_BTN], 1)
        if self.positions is not None:
            x_BTN = x_BTN + self.positions.to(x_BTN.dtype)
        return self.embedding_dropout(x_BTN)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x_BTN = self.tokens(images_BCHW)
        for block in self.blocks:
            x_BTN = block(x_BTN)
        x_BTN = self.final_norm(x_BTN)
        return self.head(x_BTN.mean(1) if self.shape.pool == "mean" else x_BTN[:, 0])

    def forward_flops(self, batch: int) -> dict[str, int]:
        """FLOPs of one forward by part, two per multiply-add; norms, softmax and GELU are not counted."""
        shape, tokens = self.shape, batch * self.shape.tokens
        flops = {"stem": 2 * batch * shape.patches * shape.patch_dim * shape.width}
        for index, block in enumerate(self.each_block()):
            inner = block.attention.forward_flops(batch, shape.tokens)
            flops |= {f"blocks.{index}.attention.{name}": value for name, value in inner.items()}
            if block.mlp is not None:
                flops[f"blocks.{index}.mlp"] = 4 * tokens * shape.width * block.mlp.hidden
        return flops | {"head": 2 * batch * shape.width * shape.classes}

    def train_flops(self, batch: int) -> int:
        """FLOPs of forward and backward: three times the forward, but images need no gradient."""
        forward = self.forward_flops(batch)
        return 3 * sum(forward.values()) - forward["stem"]
