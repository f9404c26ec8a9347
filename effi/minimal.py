"""Reducing the Transformer Architecture to a Minimum (Bermeitinger et al., KDIR 2024, arXiv 2410.13732).

Shapes: B batch, T tokens, N width, H heads, D = N / H head width. Row vectors as in the paper: logits X Wqk X^T.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from effi import evaluation
from effi.data import Dataset, normalise
from effi.evaluation import Loss
from effi.models.attention import attend, glorot_rows, join_heads, split_heads
from effi.models.vit import ViT, ViTShape
from effi.seeds import generator, seeded
from effi.stats import slope
from effi.training import History

QueryKey = Literal["separate", "collapsed", "tied", "mirrored", "gram"]
ValueOutput = Literal["separate", "merged", "dropped", "averaged"]
Mixing = Literal["softmax", "linear", "uniform", "fixed"]
Init = Literal["sane", "glorot", "unscaled", "mimetic"]

SYMMETRIC = ("tied", "mirrored", "gram")
SCORED = ("softmax", "linear")
PROJECTED = ("separate", "merged")
SELF_LOGIT = 2.6
SATURATED = 0.2


class Attention(nn.Module):
    """Self-attention of Sec. 3-5 with matrices merged, tied or dropped; BTN -> BTN.

    query_key: "separate" Wq, Wk; "collapsed" one free Wqk (N x N a head, Sec. 3); "tied" Wk := Wq (Sec. 5, what the
    paper ran); "mirrored" a symmetric Wqk and "gram" Wqk = T T^T, T lower-triangular, each one D x D matrix a head that
    reads the head's slice of the input (the paper names both at H = 1, where the slice is everything).
    value_output: "separate" Wv, Wo; "merged" one Wvo; "dropped" neither, head h mixes its slice of X (the paper at
    H = 1); "averaged" neither, every head mixes all of X and the mean is taken.
    symmetric: the symmetric form of `query_key`: separate -> tied, collapsed -> mirrored.
    mixing: "softmax"; controls: "linear" scores without softmax, "uniform" token mean, "fixed" learned but
    input-independent rows (needs `tokens`). score_scale: "head" 1/sqrt(D) as in Keras, or "width" 1/sqrt(N).
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        query_key: QueryKey = "separate",
        value_output: ValueOutput = "separate",
        symmetric: bool = False,
        bias: bool = True,
        init: Init = "sane",
        mixing: Mixing = "softmax",
        score_scale: Literal["head", "width"] = "head",
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        if symmetric:
            query_key = {"separate": "tied", "collapsed": "mirrored"}.get(query_key, query_key)
        _check(width, heads, query_key, value_output, mixing, tokens)
        self.width, self.heads, self.init = width, heads, init
        self.query_key, self.value_output, self.mixing = query_key, value_output, mixing
        self.scale = (width if score_scale == "width" else width // heads) ** -0.5
        self.sizes = self._projections()
        self.projection = nn.Linear(width, sum(self.sizes), bias=bias) if self.sizes else None
        self.out = nn.Linear(width, width, bias=bias) if value_output == "separate" else nn.Identity()
        self._make_triangle()
        self.rows = nn.Parameter(torch.zeros(heads, tokens, tokens)) if mixing == "fixed" else None
        self.reset()

    @property
    def symmetric(self) -> bool:
        return self.query_key in SYMMETRIC

    def _projections(self) -> list[int]:
        """Rows of the stacked projection: query, key, value in this order, as far as the variant has them."""
        n = self.width
        scores = {"separate": [n, n], "collapsed": [self.heads * n], "tied": [n]}.get(self.query_key, [])
        values = [n] if self.value_output in PROJECTED else []
        return ([] if self.mixing not in SCORED else scores) + values

    def _make_triangle(self) -> None:
        """The D (D + 1) / 2 free numbers a head of "mirrored" and "gram", and where each stands in the matrix."""
        self.triangle = None
        if self.query_key in ("mirrored", "gram") and self.mixing in SCORED:
            d = self.width // self.heads
            row, column = torch.tril_indices(d, d)
            place = torch.zeros(d, d, dtype=torch.long)
            place[row, column] = torch.arange(len(row))
            self.register_buffer("place", torch.maximum(place, place.T), persistent=False)
            self.register_buffer("lower", torch.tril(torch.ones(d, d)), persistent=False)
            self.triangle = nn.Parameter(torch.zeros(self.heads, len(row)))

    def matrix(self) -> Tensor:
        """The symmetric Wqk of "mirrored" or the lower-triangular T of "gram", (H, D, D)."""
        full = self.triangle[:, self.place]
        return full * self.lower if self.query_key == "gram" else full

    def _parts(self, x_BTN: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Query, key (None where no score is computed) and value, each BHTD."""
        parts: Iterator[Tensor] = iter(
            self.projection(x_BTN).split(self.sizes, -1) if self.projection is not None else ()
        )
        query, key = self._query_key(x_BTN, parts)
        if self.value_output in PROJECTED:
            return query, key, split_heads(next(parts), self.heads)
        if self.value_output == "averaged":
            return query, key, x_BTN.unsqueeze(-3).expand(*x_BTN.shape[:-2], self.heads, *x_BTN.shape[-2:])
        return query, key, split_heads(x_BTN, self.heads)

    def _query_key(self, x_BTN: Tensor, parts: Iterator[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        if self.mixing not in SCORED:
            return None, None
        if self.query_key == "separate":
            return split_heads(next(parts), self.heads), split_heads(next(parts), self.heads)
        if self.query_key == "tied":
            query = split_heads(next(parts), self.heads)
            return query, query
        if self.query_key == "collapsed":
            query = split_heads(next(parts), self.heads)
            return query, x_BTN.unsqueeze(-3).expand_as(query)
        slices = split_heads(x_BTN, self.heads)
        query = slices @ self.matrix()
        return query, query if self.query_key == "gram" else slices

    def logits(self, x_BTN: Tensor) -> Tensor:
        """Scaled scores before the softmax, BHTT; "fixed" gives its learned table, "uniform" zeros."""
        query, key, value = self._parts(x_BTN)
        if query is not None:
            return (query * self.scale) @ key.transpose(-2, -1)
        shape = (*value.shape[:-1], value.shape[-2])
        return value.new_zeros(shape) if self.rows is None else self.rows.expand(shape)

    def weights(self, x_BTN: Tensor) -> Tensor:
        """Rows with which tokens are mixed, BHTT; they sum to one unless the mixing is "linear"."""
        logits = self.logits(x_BTN)
        return logits if self.mixing == "linear" else logits.softmax(-1)

    def forward(self, x_BTN: Tensor) -> Tensor:
        query, key, value = self._parts(x_BTN)
        if self.mixing == "softmax":
            mixed = attend(query, key, value, self.scale)
        elif self.mixing == "linear":
            mixed = ((query * self.scale) @ key.transpose(-2, -1)) @ value
        elif self.mixing == "uniform":
            mixed = value.mean(-2, keepdim=True).expand_as(value)
        else:
            mixed = self.rows.softmax(-1) @ value
        return self.out(mixed.mean(-3) if self.value_output == "averaged" else join_heads(mixed))

    def reset(self) -> None:
        """Draw the weights anew from torch's generator, in the manner of `init`.

        "glorot": uniform, as in Keras. "sane": the same, but symmetric forms are scaled so that LayerNormed tokens
        start with a mean self-logit of 2.6 ("tied", "gram") or a logit deviation of 0.8 ("mirrored").
        "unscaled": N(0, 1) in the score matrices, the fault of a public reimplementation. "mimetic": Wqk near +I and
        Wv Wo near -I (Trockman & Kolter, ICML 2023).
        """
        for module in (self.projection, self.out):
            if isinstance(module, nn.Linear):
                glorot_rows(module.weight, self.width)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.rows is not None:
            nn.init.normal_(self.rows)
        self._reset_scores()
        if self.init == "mimetic":
            _mimic(self)

    @torch.no_grad()
    def _reset_scores(self) -> None:
        d = self.width // self.heads
        if self.triangle is not None:
            std = {"unscaled": 1.0, "glorot": d**-0.5}.get(self.init, _sane_std(self.query_key, d))
            self.triangle.normal_(std=std)
        elif self.init == "unscaled":
            for part in self.named_rows():
                if part in ("query", "key"):
                    self.named_rows()[part].normal_()
        elif self.init == "sane" and self.query_key == "tied" and self.mixing in SCORED:
            self.named_rows()["query"].mul_(math.sqrt(SELF_LOGIT / math.sqrt(d)))

    def named_rows(self) -> dict[str, Tensor]:
        """Views of the stacked projection by role: those of query, key and value that the variant has."""
        if self.projection is None:
            return {}
        scores = len(self.sizes) - (self.value_output in PROJECTED)
        roles = ["query", "key"][:scores] + ["value"] * (len(self.sizes) - scores)
        return dict(zip(roles, self.projection.weight.split(self.sizes), strict=True))

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]:
        """FLOPs of one forward, two per multiply-add; softmax and means are not counted."""
        values = 2 * batch * tokens**2 * self.width * (self.heads if self.value_output == "averaged" else 1)
        scores = 2 * batch * tokens**2 * self.width * (self.heads if self.query_key == "collapsed" else 1)
        triangle = 2 * batch * tokens * self.width**2 // self.heads if self.triangle is not None else 0
        linear = 2 * batch * tokens * self.width
        return {
            "projection": linear * sum(self.sizes) + triangle,
            "scores": scores if self.mixing in SCORED else 0,
            "mix": 0 if self.mixing == "uniform" else values,
            "out": linear * self.width if isinstance(self.out, nn.Linear) else 0,
        }


def _check(width: int, heads: int, query_key: str, value_output: str, mixing: str, tokens: int | None) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}; choose heads that divide it")
    for value, known in ((query_key, QueryKey), (value_output, ValueOutput), (mixing, Mixing)):
        if value not in known.__args__:
            raise ValueError(f"{value!r} is none of {', '.join(known.__args__)}")
    if value_output == "merged" and heads > 1:
        raise ValueError("Wv Wo has no single product for more than one head (Sec. 3); use heads=1")
    if mixing == "fixed" and tokens is None:
        raise ValueError("mixing='fixed' learns one row a token; pass tokens=")


def _sane_std(query_key: str, d: int) -> float:
    """Entry deviation that gives LayerNormed tokens a mean self-logit of 2.6 ("gram") or a logit sd of 0.8."""
    if query_key == "gram":
        return math.sqrt(SELF_LOGIT / (math.sqrt(d) * (d + 1) / 2))
    return 0.8 / math.sqrt(d)


def _near_identity(n: int, share: float, sign: int) -> Tensor:
    """share Z + sign share I with Z ~ N(0, 1/N)."""
    return share * torch.randn(n, n) / math.sqrt(n) + sign * share * torch.eye(n)


def _factor(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best left (N, rank) and right (rank, N) factors of a matrix, singular values shared evenly."""
    u, s, vh = torch.linalg.svd(matrix)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vh[:rank]


@torch.no_grad()
def _mimic(attention: Attention) -> None:
    """Set Wqk to 0.7 Z + 0.7 I and Wvo to 0.4 Z - 0.4 I, as far as the variant can hold them."""
    n, d, rows = attention.width, attention.width // attention.heads, attention.named_rows()
    if attention.triangle is not None:
        near = (0.7**0.5 if attention.query_key == "gram" else 0.7) * torch.eye(d)
        attention.triangle.copy_(near[tuple(torch.tril_indices(d, d))].expand(attention.heads, -1))
    for head in range(attention.heads if "query" in rows else 0):
        wqk = _near_identity(n, 0.7, +1)
        if attention.query_key == "collapsed":
            rows["query"][head * n : (head + 1) * n] = wqk.T
            continue
        left, right = _factor(wqk, d)
        rows["query"][head * d : (head + 1) * d] = left.T
        if "key" in rows:
            rows["key"][head * d : (head + 1) * d] = right
    if attention.value_output == "merged":
        rows["value"].copy_(_near_identity(n, 0.4, -1).T)
    elif attention.value_output == "separate":
        left, right = _factor(_near_identity(n, 0.4, -1), n)
        rows["value"].copy_(left.T)
        attention.out.weight.copy_(right.T)


def score_matrix(attention: Attention) -> Tensor:
    """The matrix Wqk that each head really applies, x Wqk x^T, without biases and scale: (H, N, N)."""
    n, h, d = attention.width, attention.heads, attention.width // attention.heads
    if attention.triangle is not None:
        small = attention.matrix()
        small = small @ small.mT if attention.query_key == "gram" else small
        full = small.new_zeros(h, n, n)
        for head, block in enumerate(small):
            full[head, head * d : (head + 1) * d, head * d : (head + 1) * d] = block
        return full
    rows = attention.named_rows()
    query = rows["query"].unflatten(0, (h, -1))
    if attention.query_key == "collapsed":
        return query.mT
    return query.mT @ rows.get("key", rows["query"]).unflatten(0, (h, -1))


@torch.no_grad()
def copy_merged(full: Attention, merged: Attention) -> None:
    """Give `merged` the function of `full`, both with one head: Wqk = Wq Wk^T and, if merged, Wvo = Wv Wo (Sec. 3).

    The key bias and constants of a row cancel in the softmax, so one bias on the query side is exact; a merged Wvo
    keeps bv Wo + bo, since rows of attention sum to one.
    """
    n, source, target = full.width, full.named_rows(), merged.named_rows()
    target["query"].copy_(source["key"].T @ source["query"])
    values = target.get("value")
    if full.projection.bias is not None:
        merged.projection.bias[:n] = full.projection.bias[:n] @ source["key"]
    if merged.value_output == "merged":
        values.copy_(full.out.weight @ source["value"])
        if full.out.bias is not None:
            merged.projection.bias[n:] = full.out(full.projection.bias[2 * n :])
    elif values is not None:
        values.copy_(source["value"])
        if full.projection.bias is not None:
            merged.projection.bias[n:] = full.projection.bias[2 * n :]
        merged.out.load_state_dict(full.out.state_dict())


class Start(NamedTuple):
    """How attention begins: deviation of the logits, entropy of the rows in nats, mean weight of a token on itself."""

    logit_sd: float
    entropy: float
    self_weight: float


@torch.no_grad()
def start(attention: Attention, x_BTN: Tensor) -> Start:
    """Measure attention on tokens and warn when it begins saturated: entropy below a fifth of log T.

    Saturated rows have no gradient; the one-head T T^T row of the public reimplementation fails for this reason.
    """
    logits, weights = attention.logits(x_BTN), attention.weights(x_BTN)
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean().item()
    own = weights.diagonal(dim1=-2, dim2=-1).mean().item()
    if entropy < SATURATED * math.log(x_BTN.shape[-2]):
        warnings.warn(
            f"attention starts saturated (entropy {entropy:.2f} of {math.log(x_BTN.shape[-2]):.2f} nats, weight on "
            f"itself {own:.2f}) and will hardly train; use init='sane'",
            stacklevel=2,
        )
    return Start(logits.std().item(), entropy, own)


@torch.no_grad()
def diagnose(model: ViT, images_BCHW: Tensor) -> list[dict[str, float]]:
    """Per layer: what the learned Wqk looks like and what attention does with the tokens of these images."""
    x_BTN, rows = model.tokens(images_BCHW), []
    for block in model.blocks:
        read = block.norm1(x_BTN) if model.shape.norm == "pre" else x_BTN
        begun = block.attention.weights(read)
        x_BTN = block(x_BTN)
        rows.append(_matrix_facts(score_matrix(block.attention)) | _weight_facts(begun) | _token_facts(x_BTN))
    return rows


def _matrix_facts(wqk_HNN: Tensor) -> dict[str, float]:
    """Symmetric fraction |(W + W^T) / 2|^2 / |W|^2, share of negative eigenvalues, effective rank exp(entropy)."""
    symmetric = (wqk_HNN + wqk_HNN.mT) / 2
    eigenvalues = torch.linalg.eigvalsh(symmetric.double())
    floor = 1e-6 * eigenvalues.abs().amax(-1, keepdim=True)
    singular = torch.linalg.svdvals(wqk_HNN.double())
    share = singular / singular.sum(-1, keepdim=True)
    rank = (-(share * share.clamp_min(1e-30).log()).sum(-1)).exp()
    return {
        "symmetric_fraction": (symmetric.square().sum() / wqk_HNN.square().sum()).item(),
        "negative_share": (eigenvalues < -floor).double().mean().item(),
        "effective_rank": rank.mean().item(),
    }


def _weight_facts(weights_BHTT: Tensor) -> dict[str, float]:
    """Entropy in nats, weight on itself, share of tokens that weigh themselves most."""
    own = weights_BHTT.diagonal(dim1=-2, dim2=-1)
    return {
        "entropy": -(weights_BHTT * weights_BHTT.clamp_min(1e-30).log()).sum(-1).mean().item(),
        "self_weight": own.mean().item(),
        "most_similar_to_itself": (own >= weights_BHTT.amax(-1)).float().mean().item(),
    }


def _token_facts(x_BTN: Tensor) -> dict[str, float]:
    """Mean cosine between different tokens of an image: 1 is rank collapse (Dong et al. 2021)."""
    unit = nn.functional.normalize(x_BTN, dim=-1)
    cosines, tokens = unit @ unit.mT, x_BTN.shape[-2]
    off_diagonal = (cosines.sum((-2, -1)) - tokens) / (tokens * (tokens - 1))
    return {"token_similarity": off_diagonal.mean().item()}


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
    without_mlp: Literal["norm", "residual"] = "norm"
    positions: Literal["none", "sincos", "learned"] = "sincos"
    pool: Literal["mean", "cls"] = "mean"
    final_norm: bool = False
    stem_bias: bool = True
    attention_bias: bool = True
    dropout: float = 0.0

    def shape(self, image_shape: tuple[int, int, int], patch_size: int, classes: int) -> ViTShape:
        """Sizes of the ViT for images (C, H, W), H = W."""
        sizes = {"image_size": image_shape[1], "patch_size": patch_size, "channels": image_shape[0], "classes": classes}
        names = {field.name for field in fields(self)} & {field.name for field in fields(ViTShape)}
        shared = {name: getattr(self, name) for name in names - {"hidden"}}
        return ViTShape(**sizes, hidden=self.hidden if self.mlp else 0, **shared)

    def model(self, image_shape: tuple[int, int, int], patch_size: int, classes: int, *, seed: int) -> ViT:
        """The ViT of this variant with weights of `seed`."""
        shape = self.shape(image_shape, patch_size, classes)
        options = {name: getattr(self, name) for name in ("query_key", "value_output", "init", "mixing", "score_scale")}
        attention = partial(
            Attention, self.width, self.heads, bias=self.attention_bias, tokens=shape.tokens, **options
        )
        return ViT(shape, attention=attention, seed=seed)

    def parameters(self, patch_dim: int, classes: int = 10) -> int:
        """Trainable parameters in closed form: (pN + N) + S (attention + 4N + 2NF + N + F) + (cN + c)."""
        return sum(self.parts(patch_dim, classes).values())

    def parts(self, patch_dim: int, classes: int = 10) -> dict[str, int]:
        """The parameters by part. Not for learned positions or "fixed" mixing, whose tables count tokens."""
        n, f = self.width, self.hidden
        scores, values = self._attention_weights()
        norms = (0 if self.norm == "none" else 4 * n * self.depth) + 2 * n * self.final_norm
        return {
            "stem": (patch_dim + self.stem_bias) * n + n * (self.pool == "cls"),
            "query, key": self.depth * scores,
            "value, output": self.depth * values,
            "MLP": self.depth * (2 * n * f + n + f) if self.mlp else 0,
            "norms": norms,
            "head": (n + 1) * classes,
        }

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


def sizes(model: ViT, data: Dataset) -> dict[str, float]:
    """Parameters P, overdetermination ratio Q on the training images, and forward FLOPs of one image."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "parameters": count,
        "q_ratio": overdetermination(len(data.train), len(data.classes), count),
        "flops_per_image": sum(model.forward_flops(1).values()),
    }


def outcome(model: ViT, history: History, data: Dataset, kind: Loss = "cross_entropy") -> dict[str, float]:
    """Every metric of one training: last and best epoch (effi.evaluation.outcome), and the model's sizes."""
    return evaluation.outcome(model, history, data, kind) | sizes(model, data)


def layers(model: ViT, data: Dataset, images: int = 256) -> dict[str, list[float]]:
    """Name -> a value per layer of what `diagnose` finds on validation images, under names that begin with layer_."""
    rows = diagnose(model, normalise(data.validation.images[:images], data.mean, data.std))
    return {f"layer_{name}": [row[name] for row in rows] for name in rows[0]}


def savings(seconds: Mapping[str, float], sized: Mapping[str, Mapping[str, float]], baseline: str) -> dict[str, float]:
    """Seconds, parameters and FLOPs of every arm relative to `baseline`, and the slope of time on parameters (C11).

    A slope of 1 is the paper's proportional saving, 0 no saving at all.
    """
    time = {name: value / seconds[baseline] for name, value in seconds.items()}
    share = {name: value["parameters"] / sized[baseline]["parameters"] for name, value in sized.items()}
    flops = {name: value["flops_per_image"] / sized[baseline]["flops_per_image"] for name, value in sized.items()}
    ratios = {"time": time, "parameters": share, "flops": flops}
    named = {f"{what}_ratio/{name}": value for what, values in ratios.items() for name, value in values.items()}
    return {"slope": slope([share[name] for name in seconds], [time[name] for name in seconds]).mean} | named


def merging_error(width: int = 60, depth: int = 6, tokens: int = 16, seed: int = 0) -> dict[str, float]:
    """C12 in float64: largest difference between a stack and A_S ... A_1 X (Wvo_1 ... Wvo_S), bare and as trained.

    "difference" is without residuals and norms, where the product is exact; "difference_with_residual" with both.
    """
    result = {}
    for name, norm, skip in (("difference", "none", False), ("difference_with_residual", "pre", True)):
        variant = Variant(mlp=False, width=width, depth=depth, norm=norm, skip=skip, attention_bias=False)
        model = variant.model((1, 32, 32), 8, 10, seed=seed).double()
        x_BTN = torch.randn(2, tokens, width, dtype=torch.float64, generator=generator(seed, "tokens"))
        result[name] = (stack(model, x_BTN) - merged_stack(model, x_BTN)).abs().max().item()
    return result


@torch.no_grad()
def stack(model: ViT, x_BTN: Tensor) -> Tensor:
    """Tokens after all blocks."""
    for block in model.blocks:
        x_BTN = block(x_BTN)
    return x_BTN


@torch.no_grad()
def merged_stack(model: ViT, x_BTN: Tensor) -> Tensor:
    """A_S ... A_1 X (Wvo_1 ... Wvo_S) with the A_s of intermediate tokens, one head, no biases (Sec. 3)."""
    width = x_BTN.shape[-1]
    mix, value, current = None, torch.eye(width, dtype=x_BTN.dtype), x_BTN
    for block in model.blocks:
        weights = block.attention.weights(current)[:, 0]
        wvo = block.attention.named_rows()["value"].T @ block.attention.out.weight.T
        mix = weights if mix is None else weights @ mix
        value, current = value @ wvo, weights @ current @ wvo
    return mix @ x_BTN @ value


def totals(patch_dim: int = 192) -> dict[str, int]:
    """C13: parameters of 6 and 12 encoders with and without MLP, at the sizes that the printed totals imply."""
    return {
        f"parameters_{'mlp' if mlp else 'nomlp'}_{depth}": Variant(mlp=mlp, depth=depth).parameters(patch_dim)
        for depth in (6, 12)
        for mlp in (True, False)
    }


@torch.no_grad()
def growth_order(depth: int = 2, width: int = 12, factor: float = 10.0, seed: int = 0) -> dict[str, float]:
    """C14: the polynomial order of a bare stack with linear scores, from how its output grows with its input."""
    bare = Variant(mlp=False, width=width, depth=depth, norm="none", skip=False, attention_bias=False)
    model = replace(bare, mixing="linear").model((1, 32, 32), 8, 10, seed=seed).double()
    x_BTN = torch.randn(2, 16, width, dtype=torch.float64, generator=generator(seed, "tokens"))
    ratio = stack(model, factor * x_BTN) / stack(model, x_BTN)
    return {"order": math.log(ratio.median().item(), factor)}


def noise_start(query_key: QueryKey, init: Init, *, width: int = 64, tokens: int = 16, seed: int = 0) -> Start:
    """How one-head attention begins on LayerNormed noise; no warning, since this is the study of bad starts."""
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attention = Attention(width, query_key=query_key, init=init)
        return start(attention, nn.functional.layer_norm(torch.randn(64, tokens, width), (width,)))
