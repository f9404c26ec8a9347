"""Large models that begin with the function of a small one, as far as LayerNorm lets them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.ligo.copying import Rule, Rules, Sharing, drawn, equally, first, grown, rules, tiled, unequally
from effi.ligo.layers import identities, settled
from effi.ligo.pieces import join, split
from effi.ligo.uses import norms_follow, raw, uses
from effi.seeds import generator

STREAM = "", "width"


def fpi(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Function-preserving initialisation (Net2Net, arXiv 1511.05641; bert2BERT, arXiv 2110.07143).

    New units copy random old ones, and what reads a unit is shared out equally among its copies; added layers write
    zero. The function is kept between norms but not through them: mean and variance count a channel as often as it is
    copied, and a random choice copies some more than others. ParameterError as `check_pair`.
    """
    return _kept(small, large, rules(small, large, drawn(generator(seed, "growth")), equally))


def zero_pad(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Maps [I; 0]: new heads, neurons and channels are all zeros; added layers write zero. Nothing is drawn.

    New heads and neurons get no gradient, because what makes them and what reads them are both zero. The function is
    not kept: with r = D1 / D2, a norm sees of mean m and variance v the mean r m and the variance r (v + m^2 (1 - r)).
    ParameterError as `check_pair`.
    """
    return _kept(small, large, rules(small, large, first, equally))


def zero_pad_fixed(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Zero padding that keeps the function: new channels hold the mean of the old ones, and nothing reads them.

    So norms find the old mean, and the old variance once all that is written is scaled by sqrt(D2 / D1); they take
    that out again. ParameterError as `lemon`, where the width grows at all, and as `check_pair`.
    """
    made = rules(small, large, first, equally)
    made[STREAM] = _averaging(made[STREAM], 1, equally)
    return _lossless(small, large, made)


def hyperclone(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """HyperCloning (arXiv 2409.12903): all units are tiled, and shared out equally; added layers write zero.

    Keeps the function, of post-LN models, too, where the width is multiplied by a whole number; else norms count the
    channels of the unfinished tile once more. Fixed positions are no parameters and not tiled. Nothing is drawn.
    ParameterError as `check_pair`.
    """
    return _kept(small, large, rules(small, large, tiled, equally))


def lemon(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """LEMON (arXiv 2310.07999): units are tiled, and shared out at random; added layers write zero.

    Keeps the function. Channels of an unfinished tile hold the mean of all, which norms make 0, so that their readers
    stay as the large model has them. LEMON scales the epsilon of norms, which is no parameter: here all that is written
    is scaled instead, by sqrt(D2 / (n D1)). ParameterError as `check_pair`, where positions are fixed, and where D2 is
    no multiple of D1 in a post-LN model, whose norms would have to write means, or in one with LayerScale.
    """
    sharing = unequally(generator(seed, "growth"))
    made = rules(small, large, tiled, sharing)
    stream = made[STREAM]
    if len(stream.source) % stream.old:
        made[STREAM] = _averaging(stream, len(stream.source) // stream.old, sharing)
    return _fresh(large, made[STREAM], _lossless(small, large, made))


def _averaging(stream: Rule, tiles: int, sharing: Sharing) -> Rule:
    """So many whole tiles of the residual stream, and behind them its mean."""
    new, old = len(stream.source), stream.old
    channel = torch.arange(new)
    source = (channel % old).where(channel < tiles * old, -1)
    return Rule(source, sharing(source), old, scale=math.sqrt(new / (tiles * old)), averaged=True)


def _kept(small: nn.Module, large: nn.Module, made: Rules) -> dict[str, Tensor]:
    return settled(small, large, grown(small, large, made, identities(small, large)))


def _lossless(small: nn.Module, large: nn.Module, made: Rules) -> dict[str, Tensor]:
    stream = made[STREAM]
    old, new = stream.old, len(stream.source)
    fixed = [name for name, each in small.named_buffers() if each.is_floating_point() and each.shape[-1:] == (old,)]
    if old != new and fixed:
        raise ParameterError(f"{fixed[0]} is a fixed table, which does not grow: make both models with learned ones")
    if (stream.source < 0).any() and norms_follow(small):
        raise ParameterError(
            f"width {old} to {new} cannot keep the function of a model whose norms follow the sum: take the rival "
            f'"hyperclone", which does where the width is a multiple of {old}'
        )
    if (stream.source < 0).any() and "scale" in uses(small).values():
        raise ParameterError(
            f"width {old} to {new} cannot keep the function of a model with LayerScale, which would scale means: take "
            f'the rival "hyperclone", which does where the width is a multiple of {old}'
        )
    return _kept(small, large, made)


def _fresh(large: nn.Module, stream: Rule, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the large model's own in place of those that read, or are, norms of channels without source."""
    free, use, unnormed = stream.source < 0, uses(large), raw(large)
    own, made = split(large), split(large, weights)
    for piece, value in made.items():
        reads = use[piece.family] == "read" and piece.into == "width" and piece.family not in unnormed
        if reads or (use[piece.family] == "norm" and piece.out == "width" and not piece.bias):
            made[piece] = torch.where(free.to(value.device), own[piece], value)
    return join(large, made)
