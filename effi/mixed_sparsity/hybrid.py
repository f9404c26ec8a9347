"""Attention under a pattern of positions, exact and differentiable, in plain torch: no T x T scores on any device.

The keys of a query are a few kinds, each in reach of one batched product: a window of near keys in one piece, strided
keys with tokens ordered by residue, summaries side by side. Their scores stand beside each other under one softmax.

Shapes: B batch, H heads, T tokens, D head width. Heads lie one behind the other as R rows, each padded to whole blocks;
the K rows of keys and values have `front` more before the first head. C scores stand in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from effi.errors import ParameterError
from effi.kernels import hybrid, takes
from effi.mixed_sparsity.positions import HeadSplit, Pattern
from effi.models.gpt import causal_attention

BLOCK, SHORTEST = 64, 16  # queries that share a window: fewer waste fewer scores, more make better matrix products
SCORES = 2**20  # that a CPU makes at once, so that they stay in its cache


@dataclass(frozen=True)
class HybridAttention:
    """softmax(scale q k^T) v over the pairs of a pattern, for `GPT.attention`: equal to a dense mask, and faster.

    Texts may be shorter than the window, and of any length. Type and device are those of the inputs. On a GPU
    `effi.kernels.using("attention")` has FlexAttention compute it. ParameterError for an odd number of heads that are
    to be split.
    """

    pattern: Pattern | HeadSplit

    def __call__(self, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float) -> Tensor:
        if isinstance(self.pattern, HeadSplit):
            return _by_half(self.pattern, q_BHTD, k_BHTD, v_BHTD, scale)
        if self.pattern.kind == "causal":
            return causal_attention(q_BHTD, k_BHTD, v_BHTD, scale)
        fits = q_BHTD.shape[-1] >= hybrid.NARROWEST
        if fits and takes("attention", q_BHTD.device, q_BHTD.shape[-2]):
            return hybrid.attend(self.pattern.kind, self.pattern.size, q_BHTD, k_BHTD, v_BHTD, scale)
        layout = Layout.of(self.pattern, q_BHTD.shape[-2])
        # Autocast would make the softmax float32 on a GPU, which no product with the values takes.
        with torch.autocast(q_BHTD.device.type, enabled=False):
            mixed: Tensor = _Attention.apply(q_BHTD, k_BHTD, v_BHTD, scale, layout)
        return mixed

    def scores(self, tokens: int) -> int:
        """How many scores are made for a head, those that are masked included; the pattern has fewer.

        Of heads that are split the mean, rounded up.
        """
        if isinstance(self.pattern, HeadSplit):
            return -(-sum(HybridAttention(pattern).scores(tokens) for pattern in self.pattern.patterns) // 2)
        if self.pattern.kind == "causal":
            return tokens**2
        layout = Layout.of(self.pattern, tokens)
        return layout.tokens * layout.columns


def _by_half(split: HeadSplit, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float) -> Tensor:
    if q_BHTD.shape[1] % 2:
        raise ParameterError(f"{q_BHTD.shape[1]} heads have no half to attend otherwise; use an even number of heads")
    halves = zip(*(x_BHTD.chunk(2, 1) for x_BHTD in (q_BHTD, k_BHTD, v_BHTD)), strict=True)
    mixed = [HybridAttention(each)(q, k, v, scale) for each, (q, k, v) in zip(split.patterns, halves, strict=True)]
    return torch.cat(mixed, 1)


# --- kinds of keys -------------------------------------------------------------------------------------------


class Keys(Protocol):
    """Some keys of every query: products of rows (R, D) with them, and the pairs among these that do not count."""

    @property
    def columns(self) -> int:
        """Scores of a query."""

    def score(self, a_RD: Tensor, b_KD: Tensor, out_RC: Tensor) -> None:
        """Write a b^T."""

    def close(self, scores_RC: Tensor) -> None:
        """Write -inf where the pattern has no pair."""

    def mix(self, weights_RC: Tensor, b_KD: Tensor, out_RD: Tensor) -> None:
        """Add weights b: mixed values, or gradients of queries."""

    def spread(self, weights_RC: Tensor, a_RD: Tensor, out_KD: Tensor) -> None:
        """Add weights^T a: gradients of keys or values."""


@dataclass(frozen=True)
class Near:
    """For each `block` of queries the keys of that block and `back` before it; a query sees `window` of them.

    `blocks` is the number of each head. The keys of several blocks overlap in memory, so that they need no copy.
    """

    block: int
    back: int
    window: int
    blocks: int

    @property
    def columns(self) -> int:
        """Scores of a query."""
        return self.back + self.block

    def score(self, a_RD: Tensor, b_KD: Tensor, out_RC: Tensor) -> None:
        """Write a b^T."""
        torch.bmm(self._rows(a_RD), self._keys(b_KD), out=self._rows(out_RC))

    def close(self, scores_RC: Tensor) -> None:
        """Write -inf outside the window, and before the first token, where the rows are those of another head."""
        scores = scores_RC.unflatten(0, (-1, self.blocks, self.block))
        queries, keys = (torch.arange(first, self.block, device=scores.device) for first in (0, -self.back))
        apart = queries[:, None] - keys
        scores += _closed((apart < 0) | (apart >= self.window), scores)
        for index in range(min(self.back // self.block, self.blocks)):
            scores[:, index, :, : self.back - index * self.block] = -math.inf

    def mix(self, weights_RC: Tensor, b_KD: Tensor, out_RD: Tensor) -> None:
        """Add weights b."""
        _add(self._rows(out_RD), self._rows(weights_RC), self._keys(b_KD).mT)

    def spread(self, weights_RC: Tensor, a_RD: Tensor, out_KD: Tensor) -> None:
        """Add weights^T a, a block of keys at a time, as windows overlap."""
        weights, a = self._rows(weights_RC), self._rows(a_RD)
        for start in range(0, self.columns, self.block):
            out = self._rows(out_KD[start : start + len(a_RD)])
            _add(out, weights[..., start : start + self.block].mT, a)

    def _rows(self, rows: Tensor) -> Tensor:
        """Rows by block."""
        return rows.unflatten(0, (-1, self.block))

    def _keys(self, b_KD: Tensor) -> Tensor:
        """Keys by block, (blocks, D, C)."""
        return b_KD.unfold(0, self.columns, self.block)


@dataclass(frozen=True)
class Strided:
    """The keys at a distance that is a multiple of `stride`: attention among the `columns` tokens of each residue.

    The query's own key is left out unless `diagonal`. `front` rows of keys are before those of the first head.
    """

    stride: int
    columns: int
    diagonal: bool
    front: int = 0

    def score(self, a_RD: Tensor, b_KD: Tensor, out_RC: Tensor) -> None:
        """Write a b^T."""
        # What is transposed lies in one piece: products in bf16 would copy it element by element.
        b = self._by_residue(b_KD[self.front :]).contiguous()
        self._by_residue(out_RC).copy_(self._by_residue(a_RD) @ b.mT)

    def close(self, scores_RC: Tensor) -> None:
        """Write -inf behind each query."""
        later = torch.ones(self.columns, self.columns, dtype=torch.bool, device=scores_RC.device)
        scores = self._by_residue(scores_RC)
        scores += _closed(later.triu(1 if self.diagonal else 0), scores)

    def mix(self, weights_RC: Tensor, b_KD: Tensor, out_RD: Tensor) -> None:
        """Add weights b."""
        self._by_residue(out_RD).add_(self._by_residue(weights_RC) @ self._by_residue(b_KD[self.front :]))

    def spread(self, weights_RC: Tensor, a_RD: Tensor, out_KD: Tensor) -> None:
        """Add weights^T a."""
        out = self._by_residue(out_KD[self.front :])
        out += self._by_residue(weights_RC).contiguous().mT @ self._by_residue(a_RD)

    def _by_residue(self, rows: Tensor) -> Tensor:
        """Rows as (heads, stride, columns, ...)."""
        return rows.unflatten(0, (-1, self.columns, self.stride)).transpose(1, 2)


@dataclass(frozen=True)
class Summaries:
    """The last key of each of the `columns` blocks of a head that are before the query's own block."""

    block: int
    columns: int

    def score(self, a_RD: Tensor, b_KD: Tensor, out_RC: Tensor) -> None:
        """Write a b^T."""
        torch.bmm(self._by_head(a_RD), self._keys(b_KD).mT, out=self._by_head(out_RC))

    def close(self, scores_RC: Tensor) -> None:
        """Write -inf for the own block and later ones."""
        later = torch.ones(self.columns, self.columns, dtype=torch.bool, device=scores_RC.device).triu()
        scores = scores_RC.unflatten(0, (-1, self.columns, self.block))
        scores += _closed(later, scores)[:, None]

    def mix(self, weights_RC: Tensor, b_KD: Tensor, out_RD: Tensor) -> None:
        """Add weights b."""
        _add(self._by_head(out_RD), self._by_head(weights_RC), self._keys(b_KD))

    def spread(self, weights_RC: Tensor, a_RD: Tensor, out_KD: Tensor) -> None:
        """Add weights^T a."""
        out = self._keys(out_KD)
        out += self._by_head(weights_RC).mT @ self._by_head(a_RD)

    def _by_head(self, rows: Tensor) -> Tensor:
        """Rows as (heads, tokens, ...)."""
        return rows.unflatten(0, (-1, self.columns * self.block))

    def _keys(self, b_KD: Tensor) -> Tensor:
        """Summaries as (heads, columns, D)."""
        return b_KD.unflatten(0, (-1, self.columns, self.block))[:, :, -1]


def _add(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b, of batches of matrices."""
    torch.baddbmm(out, a, b, out=out)  # as baddbmm_ would, which torch's counter of FLOPs does not know


def _closed(where: Tensor, like: Tensor) -> Tensor:
    """A tile to add: -inf where true, else 0."""
    return torch.zeros_like(where, dtype=like.dtype).masked_fill_(where, -math.inf)


# --- one softmax ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the heads of a text lie as rows, each padded to so many `tokens`, and the kinds of keys of a query."""

    tokens: int
    front: int
    keys: tuple[Keys, ...]

    @classmethod
    def of(cls, pattern: Pattern, tokens: int) -> Layout:
        """Layout of a pattern other than the causal one."""
        window, block = pattern.size, _block(pattern.size)
        blocks = -(-tokens // window)
        if pattern.kind == "fixed":
            return cls(blocks * window, 0, (Near(window, 0, window, blocks), Summaries(window, blocks)))
        if pattern.kind == "strided":
            return cls(blocks * window, 0, (Strided(window, blocks, diagonal=True),))
        back, padded = -(-(window - 1) // block) * block, -(-tokens // block) * block
        if pattern.kind == "local":
            return cls(padded, back, (Near(block, back, window, padded // block),))
        padded = blocks * window
        near = Near(block, back, window, padded // block)
        return cls(padded, back, (near, Strided(window, blocks, diagonal=False, front=back)))

    @property
    def columns(self) -> int:
        """Scores of a query."""
        return sum(keys.columns for keys in self.keys)

    def rows(self, x_BHTD: Tensor, scale: float = 1.0, front: int = 0) -> Tensor:
        """Heads as rows, scaled, with zeros in front and where they are padded; a view where nothing changes."""
        batch, heads, tokens, width = x_BHTD.shape
        if scale == 1.0 and not front and tokens == self.tokens:
            return x_BHTD.reshape(-1, width)
        make = x_BHTD.new_empty if tokens == self.tokens else x_BHTD.new_zeros
        rows = make(front + batch * heads * self.tokens, width)
        rows[:front] = 0
        torch.mul(x_BHTD, scale, out=self.heads(rows, front, x_BHTD.shape))
        return rows

    def heads(self, rows: Tensor, front: int, shape: Sequence[int]) -> Tensor:
        """Rows as BHTD of this shape."""
        return rows[front:].view(*shape[:2], self.tokens, -1)[:, :, : shape[2]]

    def pieces(self, rows: Tensor) -> Iterator[tuple[slice, slice]]:
        """Rows of a few heads at a time, and those of their keys: as many scores as fit a CPU's cache, else all."""
        heads = max(1, SCORES // (self.tokens * self.columns)) if rows.device.type == "cpu" else len(rows)
        step = heads * self.tokens
        for start in range(0, len(rows), step):
            yield slice(start, start + step), slice(start, start + step + self.front)

    def score(self, a_RD: Tensor, b_KD: Tensor, room: Tensor) -> Tensor:
        """a b^T (R, C) of all kinds of keys, in `room`."""
        scores = room[: len(a_RD)]
        for keys, part in self._parts(scores):
            keys.score(a_RD, b_KD, part)
        return scores

    def weigh(self, q_RD: Tensor, k_KD: Tensor, room: Tensor) -> Tensor:
        """Attention weights (R, C): one softmax over all kinds of keys."""
        scores = self.score(q_RD, k_KD, room)
        for keys, part in self._parts(scores):
            keys.close(part)
        return scores.softmax(-1)

    def mix(self, weights_RC: Tensor, b_KD: Tensor, out_RD: Tensor) -> None:
        """Add weights b."""
        for keys, part in self._parts(weights_RC):
            keys.mix(part, b_KD, out_RD)

    def spread(self, weights_RC: Tensor, a_RD: Tensor, out_KD: Tensor) -> None:
        """Add weights^T a."""
        for keys, part in self._parts(weights_RC):
            keys.spread(part, a_RD, out_KD)

    def _parts(self, x_RC: Tensor) -> Iterator[tuple[Keys, Tensor]]:
        return zip(self.keys, x_RC.split([keys.columns for keys in self.keys], -1), strict=True)

    def room(self, rows: Tensor) -> Tensor:
        """Memory for the scores of the largest piece."""
        most = max((each.stop - each.start for each, _ in self.pieces(rows)), default=0)
        return rows.new_empty(min(most, len(rows)), self.columns)


def _block(window: int) -> int:
    """Queries that share a window of keys: the most up to BLOCK that divide it, or all of it where few would."""
    fits = [size for size in range(SHORTEST, BLOCK + 1) if window % size == 0]
    return max(fits, default=window)


class _Attention(torch.autograd.Function):
    """Weights are kept for the backward pass, scores live a few heads at a time.

    Making the weights again instead would save memory, of which a sparse pattern needs little, for a product more.
    """

    @staticmethod
    def forward(ctx: Any, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float, layout: Layout) -> Tensor:
        q_RD = layout.rows(q_BHTD, scale)
        k_KD, v_KD = (layout.rows(x, front=layout.front) for x in (k_BHTD, v_BHTD))
        out_RD, room, kept = torch.zeros_like(q_RD), layout.room(q_RD), []
        for rows, keys in layout.pieces(q_RD):
            kept.append(layout.weigh(q_RD[rows], k_KD[keys], room))
            layout.mix(kept[-1], v_KD[keys], out_RD[rows])
        ctx.save_for_backward(q_RD, k_KD, v_KD, out_RD, *kept)
        ctx.layout, ctx.scale, ctx.shape = layout, scale, q_BHTD.shape
        return layout.heads(out_RD, 0, q_BHTD.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_BHTD: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        q_RD, k_KD, v_KD, out_RD, *kept = ctx.saved_tensors
        slope_RD, room = layout.rows(slope_BHTD), layout.room(q_RD)
        to_q, to_k, to_v = (torch.zeros_like(x) for x in (q_RD, k_KD, v_KD))
        for (rows, keys), weights in zip(layout.pieces(q_RD), kept, strict=True):
            slope = slope_RD[rows]
            layout.spread(weights, slope, to_v[keys])
            to_scores = layout.score(slope, v_KD[keys], room)
            to_scores.sub_((slope * out_RD[rows]).sum(-1, keepdim=True)).mul_(weights)
            layout.mix(to_scores, k_KD[keys], to_q[rows])
            layout.spread(to_scores, q_RD[rows], to_k[keys])
            to_q[rows].mul_(ctx.scale)
        fronts = (0, layout.front, layout.front)
        grads = (layout.heads(x, front, ctx.shape) for x, front in zip((to_q, to_k, to_v), fronts, strict=True))
        return (*grads, None, None)
