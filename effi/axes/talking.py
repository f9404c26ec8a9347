"""timm's attention classes of CaiT with a free number of heads.

timm's own take the width of their heads together from the width of their input, so that they cannot lose one.
Shapes: B images, T tokens, N width, H heads.
"""

from __future__ import annotations

from timm.models.cait import ClassAttn, TalkingHeadAttn
from torch import Tensor, nn

from effi.models.attention import attend, join_heads, split_heads


class OpenTalkingHeadAttn(TalkingHeadAttn):
    """Attention whose heads mix before and after the softmax, BTN -> BTN; made from timm's by changing its class.

    A head is a row and a column of both mixing matrices, too: without it the others neither give to it nor take.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, -1))
        weights_BHTT = _mixed(self.proj_l, (q * self.scale) @ k.mT).softmax(-1)
        weights_BHTT = self.attn_drop(_mixed(self.proj_w, weights_BHTT))
        return self.proj_drop(self.proj(join_heads(weights_BHTT @ v)))


class OpenClassAttn(ClassAttn):
    """Attention of the class token alone, BTN -> B1N; made from timm's by changing its class."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(layer(part), self.num_heads) for layer, part in self._read(x))
        dropout = self.attn_drop.p if self.training else 0.0
        return self.proj_drop(self.proj(join_heads(attend(q, k, v, self.scale, dropout))))

    def _read(self, x: Tensor) -> tuple[tuple[nn.Module, Tensor], ...]:
        return (self.q, x[:, :1]), (self.k, x), (self.v, x)


def _mixed(layer: nn.Module, x_BHTT: Tensor) -> Tensor:
    """A linear layer over heads."""
    return layer(x_BHTT.movedim(1, -1)).movedim(-1, 1)
