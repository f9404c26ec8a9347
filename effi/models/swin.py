"""A Swin Transformer for small images: torchvision's blocks between merging layers of any factor.

Shapes: B batch, C channels, H, W image sides, h, w sides of the grid of tokens, N width of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from effi.errors import ParameterError
from effi.models.vit import patchify
from effi.seeds import seeded


class PatchMerging(nn.Module):
    """factor x factor tokens become one: unfold and one linear layer, BhwN -> B(h/factor)(w/factor)M."""

    def __init__(self, width: int, wider: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.reduction = nn.Linear(width * factor**2, wider)

    def forward(self, x_BhwN: Tensor) -> Tensor:
        side = x_BhwN.shape[1] // self.factor
        merged = patchify(x_BhwN.permute(0, 3, 1, 2), self.factor)
        return self.reduction(merged).unflatten(1, (side, -1))


class Swin(nn.Module):
    """Swin Transformer: images BCHW (float, normalised) -> logits (B, classes).

    `stem` is the first merging; `stages` holds stages and the mergings between them in turn. Stage i is 2^i `width`
    wide; every second block shifts its windows where the grid has more than one. Windows shrink to the grid.
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int,
        image_size: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        window: int,
        factors: Sequence[int],
        seed: int,
    ) -> None:
        super().__init__()
        self.sides = _sides(image_size, factors, window)
        widths = [width * 2**stage for stage in range(len(depths))]
        _check(widths, depths, heads, factors)
        self.stem = PatchMerging(channels, width, factors[0])
        parts: list[nn.Module] = []
        for stage, wide in enumerate(widths):
            if stage:
                parts.append(PatchMerging(widths[stage - 1], wide, factors[stage]))
            parts.append(_stage(wide, depths[stage], heads[stage], min(window, self.sides[stage])))
        self.stages = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)
        with seeded(seed):
            self.reset()

    def reset(self) -> None:
        """Draw all weights anew: layers as torch makes them, relative positions from a cut-off N(0, 0.02^2)."""
        for layer in self.modules():
            table = getattr(layer, "relative_position_bias_table", None)
            if isinstance(layer, nn.Linear | nn.LayerNorm):
                layer.reset_parameters()
            elif isinstance(table, nn.Parameter):
                nn.init.trunc_normal_(table, std=0.02)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x_BhwN = self.stages(self.stem(images_BCHW.permute(0, 2, 3, 1)))
        return self.head(self.norm(x_BhwN.mean((1, 2))))

    def forward_flops(self, batch: int) -> dict[str, int]:
        """FLOPs of one forward by part, two per multiply-add; norms, softmax and GELU are not counted."""
        flops = {"stem": _linear(self.stem.reduction, batch * self.sides[0] ** 2)}
        for index, part in enumerate(self.stages):
            tokens = batch * self.sides[(index + 1) // 2] ** 2
            if isinstance(part, PatchMerging):
                flops[f"stages.{index}"] = _linear(part.reduction, tokens)
            elif isinstance(part, nn.Sequential):
                blocks = (_block_flops(block, tokens).items() for block in part)
                flops |= {f"stages.{index}.{i}.{name}": n for i, items in enumerate(blocks) for name, n in items}
        return flops | {"head": _linear(self.head, batch)}

    def train_flops(self, batch: int) -> int:
        """FLOPs of forward and backward: three times the forward, but images need no gradient."""
        forward = self.forward_flops(batch)
        return 3 * sum(forward.values()) - forward["stem"]


def swin(
    classes: int = 10,
    *,
    channels: int = 3,
    image_size: int = 32,
    width: int = 96,
    depths: Sequence[int] = (2, 2, 6, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    window: int = 4,
    factors: Sequence[int] = (2, 2, 2, 1),
    seed: int = 0,
) -> Swin:
    """Swin-T of kentaroy47/vision-transformers-cifar10 (models/swin.py), 26,542,080 prunable weights at the defaults.

    Unlike there, every head has its own table of relative positions, and a grid of one window is not shifted.
    ParameterError for sizes that do not fit together.
    """
    return Swin(
        classes,
        channels=channels,
        image_size=image_size,
        width=width,
        depths=depths,
        heads=heads,
        window=window,
        factors=factors,
        seed=seed,
    )


def _stage(width: int, depth: int, heads: int, window: int) -> nn.Sequential:
    from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformerBlock

    attention = partial(ShiftedWindowAttention, qkv_bias=False)
    shifts = [window // 2 * (index % 2) for index in range(depth)]
    blocks = (
        SwinTransformerBlock(width, heads, [window, window], [shift, shift], attn_layer=attention) for shift in shifts
    )
    return nn.Sequential(*blocks)


def _sides(image_size: int, factors: Sequence[int], window: int) -> list[int]:
    """Side of every stage's grid; ParameterError where a factor or the window does not divide it."""
    sides, side = [], image_size
    for stage, factor in enumerate(factors):
        if side % factor or side // factor % min(window, side // factor):
            raise ParameterError(
                f"stage {stage} cannot divide a side of {side} by factor {factor} and windows of {window}: choose "
                "other factors, another window or resize the images"
            )
        side //= factor
        sides.append(side)
    return sides


def _check(widths: Sequence[int], depths: Sequence[int], heads: Sequence[int], factors: Sequence[int]) -> None:
    if not len(depths) == len(heads) == len(factors):
        raise ParameterError(
            f"Swin needs one depth, head count and factor per stage: got depths {tuple(depths)}, "
            f"heads {tuple(heads)}, factors {tuple(factors)}"
        )
    if any(width % count for width, count in zip(widths, heads, strict=True)):
        raise ParameterError(f"heads {tuple(heads)} must divide the widths of their stages, {tuple(widths)}")


def _linear(layer: nn.Linear, rows: int) -> int:
    return 2 * rows * layer.weight.numel()


def _block_flops(block: Any, tokens: int) -> dict[str, int]:
    """FLOPs of one Swin block by its layers' own sizes, so that slim blocks count less."""
    attention, mlp = block.attn, block.mlp
    mixing = 2 * tokens * attention.window_size[0] * attention.window_size[1] * attention.proj.in_features
    return {
        "attn.qkv": _linear(attention.qkv, tokens),
        "attn.scores": mixing,
        "attn.mix": mixing,
        "attn.proj": _linear(attention.proj, tokens),
        "mlp": _linear(mlp[0], tokens) + _linear(mlp[3], tokens),
    }
