"""torch's multi-head attention with a free number of heads.

torch's own asks that the heads together be as wide as the model and never calls its output layer, so that it can
neither lose a head nor carry a coefficient on one.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from effi.errors import ParameterError
from effi.models.attention import attend, join_heads, split_heads


class OpenMultiheadAttention(nn.MultiheadAttention):
    """Self-attention with the parameters of nn.MultiheadAttention, made from one by changing its class.

    Masks and attention weights are left out: ParameterError when they are asked for, or when query, key and value
    are not one tensor.
    """

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """Encoder layers of torch read this before they bypass the attention module in evaluation."""
        return False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        masked = key_padding_mask is not None or attn_mask is not None or is_causal
        if key is not query or value is not query or need_weights or masked:
            raise ParameterError(
                "a slim or gated nn.MultiheadAttention computes self-attention without masks: give one tensor as "
                "query, key and value, and need_weights=False"
            )
        x_BTN = query if self.batch_first else query.transpose(0, 1)
        stacked = F.linear(x_BTN, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (split_heads(part, self.num_heads) for part in stacked.chunk(3, -1))
        mixed = attend(q, k, v, self.head_dim**-0.5, self.dropout if self.training else 0.0)
        out_BTN = self.out_proj(join_heads(mixed))
        return out_BTN if self.batch_first else out_BTN.transpose(0, 1), None
