"""What a training step may leave out beside growth: layers, tokens of the middle layers, or all but a sub-network.

Shapes: B batch, T tokens, N width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.ligo.clock import Clock

SQUARED = (".scores", ".mix")  # parts of a block whose FLOPs go with the square of the tokens


class Thrift(Protocol):
    """A rule for what a step leaves out."""

    def shares(self, layers: int, passed: float) -> list[float]:
        """Of each layer, from the first, the share of the tokens that it reads once so much of a training has passed.

        Draws from torch's own stream.
        """


@dataclass(frozen=True)
class LayerDrop:
    """Progressive layer dropping: layer l of L rests with probability l / L of a rate that rises to `most`.

    The rate is most (1 - exp(-100 t / T)) (Zhang and He 2020, Sec. 4). ParameterError for a rate outside (0, 1).
    """

    most: float = 0.1

    def __post_init__(self) -> None:
        _check_share("most", self.most)

    def shares(self, layers: int, passed: float) -> list[float]:
        """0 or 1 for each layer."""
        rate = self.most * (1 - math.exp(-100 * passed))
        rest_L = torch.rand(layers) < rate * torch.arange(1, layers + 1) / layers
        return (~rest_L).float().tolist()


@dataclass(frozen=True)
class TokenDrop:
    """A `share` of the tokens, drawn anew for each batch, passes by the layers from the middle to the last but one.

    Hou et al. 2022, by LiGO's description (B.3), with tokens at random in place of those of least loss. ParameterError
    for a share outside (0, 1).
    """

    share: float = 0.15

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def shares(self, layers: int, passed: float) -> list[float]:
        """1 but for the layers in the middle."""
        middle = range(layers // 2, layers - 1)
        return [1 - self.share if layer in middle else 1.0 for layer in range(layers)]


@dataclass(frozen=True)
class SubNetworks:
    """For a first `share` of the steps the lowest layers alone are trained, a quarter, half, three quarters or all.

    How many is drawn anew for each batch: the first of bert2BERT's two stages (Chen et al. 2022, Sec. 4.4), but that
    all layers of a sub-network are trained. ParameterError for a share outside (0, 1).
    """

    share: float = 0.125

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def shares(self, layers: int, passed: float) -> list[float]:
        """1 for the lowest layers, 0 for those above."""
        if passed >= self.share:
            return [1.0] * layers
        parts = min(4, layers)
        lowest = layers * int(torch.randint(1, parts + 1, ())) // parts
        return [float(layer < lowest) for layer in range(layers)]


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise ParameterError(f"{name}={share:g} of what a step leaves out: give more than 0 and less than 1")


class Thrifty(nn.Module):
    """A model that leaves out, in training, what a rule says; FLOPs of a step are those of what its forward read.

    The stack of layers is at `path` of the model.
    """

    some_rest = True  # processes that share a training then wait for no gradient of what they left out
    steady = False  # a step that is replayed would leave out the same each time

    def __init__(self, model: nn.Module, path: str, rule: Thrift, clock: Clock) -> None:
        super().__init__()
        self.model, self.path, self.rule, self.clock = model, path, rule, clock
        self.read = [1.0] * len(self.layers)

    @property
    def layers(self) -> nn.ModuleList:
        """The stack."""
        return cast(nn.ModuleList, self.model.get_submodule(self.path))

    @property
    def flops_version(self) -> tuple[float, ...]:
        """What FLOPs hang on beside shapes: the share of the tokens that each layer read."""
        return tuple(self.read)

    def forward(self, x_B: Tensor) -> Tensor:
        if not self.training:
            return self.model(x_B)
        draw = _Draw(self.rule.shares(len(self.layers), self.clock.passed))
        with draw.held(self.layers):
            outputs: Tensor = self.model(x_B)
        self.read = draw.read
        return outputs

    def forward_flops(self, *size: int) -> dict[str, int]:
        """FLOPs of one forward by part, as evaluations make it: nothing is left out."""
        return cast(Any, self.model).forward_flops(*size)

    def train_flops(self, *size: int) -> int:
        """FLOPs of forward and backward of the last training batch, three times the forward of what was read."""
        spared = sum(flops * self._spared(name) for name, flops in self.forward_flops(*size).items())
        return cast(Any, self.model).train_flops(*size) - round(3 * spared)

    def _spared(self, name: str) -> float:
        """The share of a part's FLOPs that the last batch left out."""
        if not name.startswith(f"{self.path}."):
            return 0.0
        share = self.read[int(name.removeprefix(f"{self.path}.").partition(".")[0])]
        return 1 - (share**2 if name.endswith(SQUARED) else share)


@dataclass
class _Draw:
    """What the layers read of one batch; `read` are the shares once tokens are counted."""

    shares: Sequence[float]
    chosen: dict[float, Tensor] = field(default_factory=dict)
    read: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.read = list(self.shares)

    @contextmanager
    def held(self, layers: nn.ModuleList) -> Iterator[None]:
        """Layers that read a part, in the place of those of the stack."""
        own = list(layers)
        for place, share in enumerate(self.shares):
            if share < 1:
                layers[place] = _Part(own[place], place, self)
        try:
            yield
        finally:
            for place, layer in enumerate(own):
                layers[place] = layer

    def tokens(self, place: int, x_BTN: Tensor) -> Tensor:
        """Places of the tokens that a layer reads, in order, the first always among them; drawn once for a share."""
        share, count = self.shares[place], x_BTN.shape[1]
        if share not in self.chosen:
            others = 1 + torch.randperm(count - 1)[: max(1, round(share * count)) - 1]
            first = torch.zeros(1, dtype=torch.int64)
            self.chosen[share] = torch.cat([first, others.sort().values]).to(x_BTN.device)
        self.read[place] = len(self.chosen[share]) / count
        return self.chosen[share]


class _Part(nn.Module):
    """A layer that leaves the tokens as they are which it does not read."""

    def __init__(self, layer: nn.Module, place: int, draw: _Draw) -> None:
        super().__init__()
        self.layer, self.place, self.draw = layer, place, draw

    def forward(self, x_BTN: Tensor, *more: Any, **named: Any) -> Tensor:
        if not self.draw.shares[self.place]:
            return x_BTN
        tokens = self.draw.tokens(self.place, x_BTN)
        masks = (_of(tokens, each, x_BTN.shape[1]) for each in more)
        read_BTN = self.layer(x_BTN[:, tokens], *masks, **named)
        return x_BTN.index_copy(1, tokens, read_BTN.to(x_BTN.dtype))


def _of(tokens: Tensor, mask: Any, count: int) -> Any:
    """A mask of attention (..., T or 1, T) for these tokens of so many; anything else as it is."""
    if not isinstance(mask, Tensor) or mask.shape[-1] != count:
        return mask
    columns = mask[..., tokens]
    return columns[..., tokens, :] if mask.shape[-2] == count else columns
