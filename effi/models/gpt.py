"""GPT-2 of our own: no biases and no dropout unless asked, a tied head, and attention that can be exchanged.

Shapes: B batch, T tokens, N width, H heads, D = N / H head width, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.models.attention import SelfAttention, fused, join_heads, prefers_plain, split_heads
from effi.models.language import BASE, TextSize
from effi.models.library import silent, stored_config, stored_net
from effi.seeds import seeded

Gelu = Literal["none", "tanh"]  # how it is approximated, in torch's words

EPSILON = 1e-5
# Names in transformers' GPT-2 -> ours; its matrices of blocks are stored transposed.
_NAMES = {
    r"^transformer\.": "",
    r"^wte\.": "embedding.",
    r"^wpe\.": "positions.",
    r"^h\.": "blocks.",
    r"^ln_f\.": "norm.",
    r"\.ln_": ".norm",
    r"\.attn\.c_attn\.": ".attention.qkv.",
    r"\.attn\.c_proj\.": ".attention.out.",
    r"\.mlp\.c_fc\.": ".mlp.0.",
    r"\.mlp\.c_proj\.": ".mlp.2.",
}
_BUFFERS = re.compile(r"\.attn\.(masked_)?bias$")  # masks, in older files
_TRANSPOSED = re.compile(r"\.c_(attn|proj|fc)\.weight$")


class Attention(Protocol):
    """softmax(scale q k^T) v over some of the causal pairs, BHTD -> BHTD; `GPT.attention` is one, or None."""

    def __call__(self, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float, /) -> Tensor: ...

    def scores(self, tokens: int) -> int:
        """How many scores it makes for one head of a text."""


def causal_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v over keys up to the query's own, with the faster of two equal computations.

    The rule of `prefers_plain` holds for causal attention, too, although the fused kernel skips half of the scores.
    """
    if not prefers_plain(q_BHTD):
        return fused(q_BHTD, k_BHTD, v_BHTD, is_causal=True, scale=scale)
    scores_BHTT = (q_BHTD * scale) @ k_BHTD.mT
    tokens = scores_BHTT.shape[-1]
    later = torch.full((tokens, tokens), -math.inf, dtype=scores_BHTT.dtype, device=scores_BHTT.device).triu_(1)
    return (scores_BHTT + later).softmax(-1) @ v_BHTD


class CausalSelfAttention(SelfAttention):
    """Causal multi-head self-attention, BTN -> BTN, with the whole past or what `attention` leaves of it."""

    def forward(self, x_BTN: Tensor, attention: Attention | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x_BTN).chunk(3, -1))
        attend = causal_attention if attention is None else attention
        return self.out(join_heads(attend(q, k, v, self.scale)))

    def forward_flops(self, batch: int, tokens: int, scores: int | None = None) -> dict[str, int]:
        """FLOPs of one forward, two per multiply-add, with so many scores for a head, T^2 unless given."""
        made = tokens**2 if scores is None else scores
        mixing = 2 * batch * made * self.out.in_features
        into, out = (2 * batch * tokens * multiplied(layer) for layer in (self.qkv, self.out))
        return {"qkv": into, "scores": mixing, "mix": mixing, "out": out}


class FeedForward(nn.Sequential):
    """The MLP of a block: one hidden GELU layer, BTN -> BTN."""

    def __init__(self, size: TextSize, *, bias: bool, gelu: Gelu) -> None:
        up, down = (nn.Linear(*ends, bias=bias) for ends in ((size.width, size.hidden), (size.hidden, size.width)))
        super().__init__(up, nn.GELU(approximate=gelu), down)


class TiedEmbedding(nn.Embedding):
    """An embedding whose matrix is the head's, too."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., N) -> logits (..., V)."""
        return F.linear(hidden, self.weight)


def multiplied(layer: nn.Module) -> int:
    """Weights that a layer multiplies each token by; one that leaves some out has their number as `multiplied`."""
    return int(getattr(layer, "multiplied", cast(Tensor, layer.weight).numel()))


def differentiated(layer: nn.Module) -> int:
    """Weights whose gradients a backward pass makes: those multiplied by, unless `differentiated` says otherwise."""
    return int(getattr(layer, "differentiated", multiplied(layer)))


class Block(nn.Module):
    """Attention, then the MLP, each on the norm of the residual stream."""

    def __init__(self, size: TextSize, *, bias: bool, gelu: Gelu) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, EPSILON, bias=bias)
        self.attention = CausalSelfAttention(size.width, size.heads, bias=bias)
        self.norm2 = nn.LayerNorm(size.width, EPSILON, bias=bias)
        self.mlp = FeedForward(size, bias=bias, gelu=gelu)

    def forward(self, x_BTN: Tensor, attention: Attention | None = None) -> Tensor:
        x_BTN = x_BTN + self.attention(self.norm1(x_BTN), attention)
        return x_BTN + self.mlp(self.norm2(x_BTN))


class GPT(nn.Module):
    """GPT-2 as nanoGPT trains it: ids int64 (B, T), T up to `context` -> logits (B, T, V), `head` of `hidden`.

    A tied head multiplies by the embedding's own matrix, else by that of `lm_head`. `attention` may be set at any time,
    and is that of every layer; None sees all earlier tokens. Weights are drawn from the "init" stream of `seed`:
    N(0, std^2), those that write to the residual stream of L blocks over sqrt(2 L) (Radford et al. 2019, Sec. 2.3); its
    0.02 is small for narrow models, where weights of the same size make smaller sums.
    Layers may be exchanged for those that leave weights out, of which FLOPs are counted as `multiplied` says.
    """

    per_token = True

    def __init__(
        self,
        vocabulary: int,
        context: int,
        size: TextSize = BASE["gpt2"],
        *,
        bias: bool = False,
        tied: bool = True,
        gelu: Gelu = "none",
        std: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.std = std
        self.attention: Attention | None = None
        self.embedding = (TiedEmbedding if tied else nn.Embedding)(vocabulary, size.width)
        self.positions = nn.Embedding(context, size.width)
        self.blocks = nn.ModuleList(Block(size, bias=bias, gelu=gelu) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, EPSILON, bias=bias)
        self.lm_head = None if tied else nn.Linear(size.width, vocabulary, bias=False)
        with seeded(seed):
            self.reset()

    @property
    def context(self) -> int:
        """The longest text."""
        return self.positions.num_embeddings

    def each_block(self) -> Iterator[Block]:
        """The blocks in order, with their own type, which nn.ModuleList does not keep."""
        return (cast(Block, block) for block in self.blocks)

    def each_linear(self) -> Iterator[tuple[str, nn.Module]]:
        """Layers that multiply by matrices, by the path of the matrix; the head comes last."""
        for index, block in enumerate(self.each_block()):
            for path in ("attention.qkv", "attention.out", "mlp.0", "mlp.2"):
                yield f"blocks.{index}.{path}", block.get_submodule(path)
        yield ("embedding", self.embedding) if self.lm_head is None else ("lm_head", self.lm_head)

    @property
    def flops_version(self) -> tuple[object, ...]:
        """What FLOPs hang on beside shapes: the attention, and weights left out."""
        layers = [layer for _, layer in self.each_linear()]
        return self.attention, *map(multiplied, layers), *map(differentiated, layers)

    def reset(self) -> None:
        """Draw all weights anew; biases are 0, norms 1."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.each_block():
            for writing in (block.attention.out, cast(nn.Linear, block.mlp[2])):
                nn.init.normal_(writing.weight, std=self.std / math.sqrt(2 * len(self.blocks)))

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """What the head reads, BTN; ParameterError for texts longer than the context."""
        tokens = ids_BT.shape[-1]
        if tokens > self.context:
            raise ParameterError(f"texts of {tokens} tokens are longer than the context of {self.context}; cut them")
        x_BTN = self.embedding(ids_BT) + self.positions.weight[:tokens]
        for block in self.blocks:
            x_BTN = block(x_BTN, self.attention)
        return self.norm(x_BTN)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., N) of any tokens -> their logits (..., V)."""
        logits: Tensor = (
            cast(TiedEmbedding, self.embedding).logits(hidden) if self.lm_head is None else self.lm_head(hidden)
        )
        return logits

    @property
    def head_matrix(self) -> Tensor | None:
        """What `head` is a product with, (V, N); None where it leaves weights out."""
        head: nn.Module = self.embedding if self.lm_head is None else self.lm_head
        return cast(Tensor, head.weight) if type(head) in (TiedEmbedding, nn.Linear) else None

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.head(self.hidden(ids_BT))

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]:
        """FLOPs of one forward by part, two per multiply-add; all T^2 scores, or those that `attention` makes.

        The head's are under the name of its matrix, "embedding" where it is tied. Norms, softmax and GELU do not count.
        """
        scores, flops = None if self.attention is None else self.attention.scores(tokens), dict[str, int]()
        for index, block in enumerate(self.each_block()):
            inner = block.attention.forward_flops(batch, tokens, scores)
            flops |= {f"blocks.{index}.attention.{name}": value for name, value in inner.items()}
            for place in (0, 2):
                flops[f"blocks.{index}.mlp.{place}"] = 2 * batch * tokens * multiplied(block.mlp[place])
        *_, (name, head) = self.each_linear()
        return flops | {name: 2 * batch * tokens * multiplied(head)}

    def train_flops(self, batch: int, tokens: int) -> int:
        """FLOPs of forward and backward, three times the forward but for gradients of weights that it leaves out.

        Scores made again for the backward do not count.
        """
        more = sum(differentiated(layer) - multiplied(layer) for _, layer in self.each_linear())
        return 3 * sum(self.forward_flops(batch, tokens).values()) + 2 * batch * tokens * more

    def load_gpt2(self, checkpoint: str | Path | Mapping[str, Tensor]) -> None:
        """Take over weights of transformers' GPT-2: a folder with config.json and safetensors, or a state dict.

        DataError for an unusable folder; ParameterError for weights that do not fit, or whose net computes otherwise.
        """
        state = checkpoint if isinstance(checkpoint, Mapping) else self._stored(checkpoint)
        found = dict(_renamed(state))
        if self.lm_head is None and "lm_head.weight" in found:
            if not torch.equal(found.pop("lm_head.weight"), found.get("embedding.weight", torch.empty(0))):
                raise ParameterError("the checkpoint's head is not its embedding; make the model with tied=False")
        elif self.lm_head is not None and "embedding.weight" in found:
            found.setdefault("lm_head.weight", found["embedding.weight"])
        self._check(found)
        self.load_state_dict(found)

    def _stored(self, folder: str | Path) -> Mapping[str, Tensor]:
        """Weights in a folder, of a net that computes what this one does."""
        with silent() as library:
            config = stored_config(library, folder, "gpt2", "load_gpt2", hub=False)
            self._check_config(config)
            net = stored_net(library.GPT2LMHeadModel, config, folder, hub=False, whole=True)
        return cast(Mapping[str, Tensor], net.state_dict())

    def _check_config(self, config: Any) -> None:
        """ParameterError where a net of this configuration computes another function of the same weights."""
        block = next(self.each_block())
        exact = cast(nn.GELU, block.mlp[1]).approximate == "none"
        ours: dict[str, object] = {
            "n_head": block.attention.heads,
            "activation_function": "gelu" if exact else "gelu_new",
        }
        ours |= {"layer_norm_epsilon": EPSILON, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
        for name, value in ours.items():
            if (theirs := getattr(config, name)) != value:
                raise ParameterError(
                    f"the checkpoint has {name}={theirs}, and this model computes with {value}; make it with as many "
                    'heads, and gelu="tanh" for gelu_new or "none" for gelu'
                )

    def _check(self, found: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        for name in [*own, *found]:
            shapes = [tuple(state[name].shape) if name in state else "none" for state in (found, own)]
            if shapes[0] != shapes[1]:
                raise ParameterError(
                    f"{name} is {shapes[0]} in the checkpoint and {shapes[1]} in the model; make one of the same "
                    "vocabulary, context, size and bias"
                )


def _renamed(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights of transformers' GPT-2 by our names and as nn.Linear stores them."""
    for name, value in state.items():
        if not _BUFFERS.search(name):
            ours = name
            for theirs, our in _NAMES.items():
                ours = re.sub(theirs, our, ours)
            yield ours, value.mT if _TRANSPOSED.search(name) else value
