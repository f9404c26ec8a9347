"""What attention does, before training and after.

Shapes: B batch, T tokens, N width, H heads, D = N / H head width. Row vectors as in the paper: logits X Wqk X^T.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from effi.data import Dataset, normalise
from effi.minimal.attention import Attention, Init, QueryKey, score_matrix
from effi.models.vit import ViT
from effi.seeds import seeded

SATURATED = 0.2


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
    entropy = max(0.0, -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean().item())
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
    for block in model.each_block():
        attention = cast(Attention, block.attention)
        read = block.norm1(x_BTN) if model.shape.norm == "pre" else x_BTN
        begun = attention.weights(read)
        x_BTN = block(x_BTN)
        rows.append(_matrix_facts(score_matrix(attention)) | _weight_facts(begun) | _token_facts(x_BTN))
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


def noise_start(query_key: QueryKey, init: Init, *, width: int = 64, tokens: int = 16, seed: int = 0) -> Start:
    """How one-head attention begins on LayerNormed noise; no warning, since this is the study of bad starts."""
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attention = Attention(width, query_key=query_key, init=init)
        return start(attention, nn.functional.layer_norm(torch.randn(64, tokens, width), (width,)))


def layers(model: ViT, data: Dataset, images: int = 256) -> dict[str, list[float]]:
    """Name -> a value per layer of what `diagnose` finds on validation images, under names that begin with layer_."""
    rows = diagnose(model, normalise(data.validation.inputs[:images], data.mean, data.std))
    return {f"layer_{name}": [row[name] for row in rows] for name in rows[0]}
