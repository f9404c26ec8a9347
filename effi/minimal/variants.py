"""The models of the comparison, and their parameters in closed form (Tables 1-3, Eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal

from effi.minimal.attention import Attention, Init, Mixing, QueryKey, ValueOutput
from effi.models.vit import ViT, ViTShape


@dataclass(frozen=True)
class Variant:
    """One model of the comparison: a cell of Tables 1-3 or a control. Defaults are the full model of the totals."""

    mlp: bool = True
    heads: int = 1
    query_key: QueryKey = "separate"
    value_output: ValueOutput = "separate"
    depth: int = 6
    width: int = 60
    hidden: int = 256
    init: Init = "sane"
    mixing: Mixing = "softmax"
    score_scale: Literal["head", "width"] = "head"
    norm: Literal["pre", "post", "none"] = "pre"
    skip: bool = True
    without_mlp: Literal["norm", "residual", "plain"] = "norm"
    positions: Literal["none", "sincos", "learned"] = "sincos"
    pool: Literal["mean", "cls"] = "mean"
    final_norm: bool = False
    stem_bias: bool = True
    attention_bias: bool = True
    dropout: float = 0.0

    def shape(self, image_shape: tuple[int, int, int], patch_size: int, classes: int) -> ViTShape:
        """Sizes of the ViT for images (C, H, W), H = W."""
        channels, side, _ = image_shape
        names = {field.name for field in fields(self)} & {field.name for field in fields(ViTShape)}
        shared = {name: getattr(self, name) for name in names - {"hidden"}}
        hidden = self.hidden if self.mlp else 0
        return ViTShape(side, patch_size, channels, classes, hidden=hidden, **shared)

    def model(self, image_shape: tuple[int, int, int], patch_size: int, classes: int, *, seed: int) -> ViT:
        """The ViT of this variant with weights of `seed`."""
        shape = self.shape(image_shape, patch_size, classes)
        options = {name: getattr(self, name) for name in ("query_key", "value_output", "init", "mixing", "score_scale")}
        attention = partial(Attention, self.width, self.heads, bias=self.attention_bias, tokens=shape.tokens, **options)
        return ViT(shape, attention=attention, seed=seed)

    def parameters(self, patch_dim: int, classes: int = 10) -> int:
        """Trainable parameters in closed form: (pN + N) + S (attention + 4N + 2NF + N + F) + (cN + c)."""
        return sum(self.parts(patch_dim, classes).values())

    def parts(self, patch_dim: int, classes: int = 10) -> dict[str, int]:
        """The parameters by part. Not for learned positions or "fixed" mixing, whose tables count tokens."""
        n, f = self.width, self.hidden
        scores, values = self._attention_weights()
        each = 0 if self.norm == "none" else 1 if self._halved else 2
        norms = 2 * n * (each * self.depth + self.final_norm)
        return {
            "stem": (patch_dim + self.stem_bias) * n + n * (self.pool == "cls"),
            "query, key": self.depth * scores,
            "value, output": self.depth * values,
            "MLP": self.depth * (2 * n * f + n + f) if self.mlp else 0,
            "norms": norms,
            "head": (n + 1) * classes,
        }

    @property
    def _halved(self) -> bool:
        """Whether a block has only one of its LayerNorms."""
        return not self.mlp and self.without_mlp == "plain"

    def attention_parameters(self) -> int:
        """Weights and biases of one attention module: 4 (N^2 + N) unchanged, N^2 + N for the minimum."""
        return sum(self._attention_weights())

    def _attention_weights(self) -> tuple[int, int]:
        """(query and key, value and output) of one module, biases included."""
        n, d = self.width, self.width // self.heads
        row = n + self.attention_bias
        triangles = self.heads * d * (d + 1) // 2 if self.query_key in ("mirrored", "gram") else 0
        scores = {"separate": 2 * n, "collapsed": self.heads * n, "tied": n}.get(self.query_key, 0) * row
        return scores + triangles, {"separate": 2 * n, "merged": n}.get(self.value_output, 0) * row


def overdetermination(examples: int, outputs: int, parameters: int) -> float:
    """Q = K M / P: constraints per trainable parameter; the paper wants Q > 1 (Eq. 12)."""
    return examples * outputs / parameters


def matched(variant: Variant, target: int, patch_dim: int, classes: int = 10) -> Variant:
    """The variant with its width changed (MLP ratio kept) so that its parameter count is nearest to `target`."""
    ratio, step = variant.hidden / variant.width, variant.heads
    candidates = (
        replace(variant, width=width, hidden=round(ratio * width)) for width in range(step, 1024 + step, step)
    )
    return min(candidates, key=lambda v: abs(v.parameters(patch_dim, classes) - target))


def totals(patch_dim: int = 192) -> dict[str, int]:
    """C13: parameters of 6 and 12 encoders with and without MLP, at the sizes that the printed totals imply."""
    return {
        f"parameters_{'mlp' if mlp else 'nomlp'}_{depth}": Variant(mlp=mlp, depth=depth).parameters(patch_dim)
        for depth in (6, 12)
        for mlp in (True, False)
    }
