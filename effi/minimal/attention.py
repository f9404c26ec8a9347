"""Attention with matrices merged, tied or dropped (Sec. 3-5).

Shapes: B batch, T tokens, N width, H heads, D = N / H head width. Row vectors as in the paper: logits X Wqk X^T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.models.attention import attend, glorot_rows, join_heads, split_heads

QueryKey = Literal["separate", "collapsed", "tied", "mirrored", "gram"]
ValueOutput = Literal["separate", "merged", "dropped", "averaged"]
Mixing = Literal["softmax", "linear", "uniform", "fixed"]
Init = Literal["sane", "glorot", "unscaled", "mimetic"]

SYMMETRIC = ("tied", "mirrored", "gram")
SYMMETRIC_FORM: Mapping[QueryKey, QueryKey] = {"separate": "tied", "collapsed": "mirrored"}
SCORED = ("softmax", "linear")
PROJECTED = ("separate", "merged")
SELF_LOGIT = 2.6


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

    place: Tensor
    lower: Tensor
    triangle: nn.Parameter | None

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
            query_key = SYMMETRIC_FORM.get(query_key, query_key)
        _check(width, heads, query_key, value_output, mixing, tokens)
        self.width, self.heads, self.init = width, heads, init
        self.query_key, self.value_output, self.mixing = query_key, value_output, mixing
        self.scale = (width if score_scale == "width" else width // heads) ** -0.5
        self.sizes = self._projections()
        self.projection = nn.Linear(width, sum(self.sizes), bias=bias) if self.sizes else None
        self.out = nn.Linear(width, width, bias=bias) if value_output == "separate" else nn.Identity()
        self._make_triangle()
        self.rows = nn.Parameter(torch.zeros(heads, tokens, tokens)) if mixing == "fixed" and tokens else None
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
        assert self.triangle is not None, self.query_key
        full = self.triangle[:, self.place]
        return full * self.lower if self.query_key == "gram" else full

    def _parts(self, x_BTN: Tensor) -> tuple[tuple[Tensor, Tensor] | None, Tensor]:
        """(query, key), None where no score is computed, and value, each BHTD."""
        parts = self._projected(x_BTN)
        scored = self._query_key(x_BTN, parts)
        if self.value_output in PROJECTED:
            return scored, split_heads(next(parts), self.heads)
        if self.value_output == "averaged":
            return scored, x_BTN.unsqueeze(-3).expand(*x_BTN.shape[:-2], self.heads, *x_BTN.shape[-2:])
        return scored, split_heads(x_BTN, self.heads)

    def _projected(self, x_BTN: Tensor) -> Iterator[Tensor]:
        """The projections in the order of `sizes`; a single one is not split, which would copy its gradient."""
        if self.projection is None:
            return iter(())
        stacked = self.projection(x_BTN)
        return iter(stacked.split(self.sizes, -1) if len(self.sizes) > 1 else (stacked,))

    def _query_key(self, x_BTN: Tensor, parts: Iterator[Tensor]) -> tuple[Tensor, Tensor] | None:
        if self.mixing not in SCORED:
            return None
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
        scored, value = self._parts(x_BTN)
        if scored is not None:
            return self._scores(*scored)
        shape = (*value.shape[:-1], value.shape[-2])
        return value.new_zeros(shape) if self.rows is None else self.rows.expand(shape)

    def _scores(self, query_BHTD: Tensor, key_BHTD: Tensor) -> Tensor:
        return (query_BHTD * self.scale) @ key_BHTD.transpose(-2, -1)

    def weights(self, x_BTN: Tensor) -> Tensor:
        """Rows with which tokens are mixed, BHTT; they sum to one unless the mixing is "linear"."""
        logits = self.logits(x_BTN)
        return logits if self.mixing == "linear" else logits.softmax(-1)

    def forward(self, x_BTN: Tensor) -> Tensor:
        alike = self.query_key == "collapsed" and self.value_output == "averaged" and self.mixing == "softmax"
        if alike and self.heads > 1:
            return self._multi_query(x_BTN)
        scored, value = self._parts(x_BTN)
        if scored is not None:
            linear = self.mixing == "linear"
            mixed = self._scores(*scored) @ value if linear else attend(*scored, value, self.scale)
        elif self.rows is not None:
            mixed = self.rows.softmax(-1) @ value
        else:
            mixed = value.mean(-2, keepdim=True).expand_as(value)
        return self.out(mixed.mean(-3) if self.value_output == "averaged" else join_heads(mixed))

    def _multi_query(self, x_BTN: Tensor) -> Tensor:
        """All heads read the tokens as keys and values: H T queries of one head, so that no head has a copy of X."""
        (stacked,) = self._projected(x_BTN)
        query_B1QN = stacked.unflatten(-1, (self.heads, -1)).flatten(-3, -2).unsqueeze(-3)  # heads of a token in a row
        tokens_B1TN = x_BTN.unsqueeze(-3)
        mixed = attend(query_B1QN, tokens_B1TN, tokens_B1TN, self.scale)
        return mixed.squeeze(-3).unflatten(-2, (-1, self.heads)).mean(-2)

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
        raise ParameterError(f"width {width} is not a multiple of heads {heads}; choose heads that divide it")
    for value, known in ((query_key, QueryKey), (value_output, ValueOutput), (mixing, Mixing)):
        if value not in get_args(known):
            raise ParameterError(f"{value!r} is none of {', '.join(get_args(known))}")
    if value_output == "merged" and heads > 1:
        raise ParameterError("Wv Wo has no single product for more than one head (Sec. 3); use heads=1")
    if mixing == "fixed" and tokens is None:
        raise ParameterError("mixing='fixed' learns one row a token; pass tokens=")


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
    elif isinstance(attention.out, nn.Linear):
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
    assert full.projection is not None and merged.projection is not None and isinstance(full.out, nn.Linear)
    target["query"].copy_(source["key"].T @ source["query"])
    if full.projection.bias is not None:
        merged.projection.bias[:n] = full.projection.bias[:n] @ source["key"]
    if merged.value_output == "merged":
        target["value"].copy_(full.out.weight @ source["value"])
        if full.out.bias is not None:
            merged.projection.bias[n:] = full.out(full.projection.bias[2 * n :])
    elif "value" in target:
        target["value"].copy_(source["value"])
        if full.projection.bias is not None:
            merged.projection.bias[n:] = full.projection.bias[2 * n :]
        merged.out.load_state_dict(full.out.state_dict())
