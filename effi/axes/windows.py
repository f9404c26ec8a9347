"""torchvision's window attention (Swin, first version) with a free number of heads.

torchvision's own takes a head's width from the width of its input and passes its output weight to a function, so that
it can neither lose a head nor carry a coefficient on one. Shapes: B images, W windows, T positions of a window,
C channels, H heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention

from effi.models.attention import join_heads, split_heads


class OpenWindowAttention(ShiftedWindowAttention):
    """Shifted-window attention, (B, height, width, C) -> the same; made from torchvision's by changing its class."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        rows, columns = self.window_size
        x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        padded = x.shape[1:3]
        shift = [0 if w >= size else s for w, s, size in zip(self.window_size, self.shift_size, padded, strict=True)]
        x = self._attend(torch.roll(x, [-s for s in shift], (1, 2)), shift)
        return torch.roll(x, shift, (1, 2))[:, :height, :width].contiguous()

    def _attend(self, x: Tensor, shift: list[int]) -> Tensor:
        """Attention inside every window of images that are rolled already."""
        size = x.shape[1:3]
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(self._windows(x)).chunk(3, -1))
        scores_BWHTT = (q * q.shape[-1] ** -0.5) @ k.mT + self.get_relative_position_bias()
        if any(shift):
            scores_BWHTT = scores_BWHTT + self._apart(size, shift, x)[:, None]
        weights = F.dropout(scores_BWHTT.softmax(-1), self.attention_dropout, self.training)
        out_BWTC = F.dropout(self.proj(join_heads(weights @ v)), self.dropout, self.training)
        return self._image(out_BWTC, size)

    def _windows(self, x: Tensor) -> Tensor:
        """(B, height, width, C) -> BWTC."""
        rows, columns = self.window_size
        grid = x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
        return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _image(self, x_BWTC: Tensor, size: torch.Size) -> Tensor:
        """BWTC -> (B, height, width, C)."""
        rows, columns = self.window_size
        grid = x_BWTC.unflatten(2, (rows, columns)).unflatten(1, (size[0] // rows, size[1] // columns))
        return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _apart(self, size: torch.Size, shift: list[int], like: Tensor) -> Tensor:
        """WTT: -100 between positions that only the roll brought into one window, else 0."""
        marks = []
        for length, window, moved in zip(size, self.window_size, shift, strict=True):
            place = torch.arange(length, device=like.device)
            marks.append((place >= length - window).long() + (place >= length - moved).long())
        region = (3 * marks[0][:, None] + marks[1])[None, :, :, None]
        region_WT = self._windows(region)[0, :, :, 0]
        return (region_WT[:, None] != region_WT[:, :, None]).to(like.dtype) * -100.0
