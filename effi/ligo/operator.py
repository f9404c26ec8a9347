"""The growth operator: the weights of a large model as a learnable linear map of those of a small one (LiGO, Sec. 3).

Shapes: L1 and L2 layers, D1 and D2 units of an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import torch
from torch import Tensor, nn
from torch.func import functional_call

from effi.axes import depth
from effi.cost import count_flops
from effi.errors import ParameterError
from effi.ligo.initial import Depth, Width, layer_weights, new_rows
from effi.ligo.maps import Extended, Map, Maps, Order, grow, stacked
from effi.ligo.pieces import Piece, check_pair, forms, shapes, split, tied_head
from effi.seeds import generator

Share = Literal["per_large", "per_small", "all"]
Head = Literal["auto", "shared", "own"]
End = Literal["out", "into"]
ENDS: tuple[End, ...] = get_args(End)


@dataclass(frozen=True)
class Growth:
    """Options of a growth operator; the defaults are the official code's but for `head`, which it always gives an own.

    `share`: maps of queries, keys, values, heads and neurons are of each large layer and act after the mixing of
    layers ("per_large", code), of each small layer and act before it ("per_small", the paper's Sec. 3.2), or of all.
    `full`: maps are free matrices (paper) instead of [I; C] with C free (code). `width` and `depth` say how they begin
    (`effi.ligo.initial`), with `noise`. `tie`: one map of an axis for all that touch it (Sec. 3.3); else every module
    has its own for rows and for columns. `head`: what a masked-language head writes has the residual stream's map
    ("shared"), one of its "own", or that only where it is not tied to the embedding ("auto").
    `bias_depth`: biases have depth weights of their own (code) instead of their module's. `tune_width`, `tune_depth`:
    whether these are learned. ParameterError for unknown words and for noise below 0.
    """

    share: Share = "per_large"
    full: bool = False
    width: Width = "rand"
    depth: Depth = "stackbert_noisy"
    noise: float = 0.03
    tie: bool = True
    head: Head = "auto"
    bias_depth: bool = True
    tune_width: bool = True
    tune_depth: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            known = get_args(hint)
            if known and getattr(self, name) not in known:
                raise ParameterError(
                    f"{name} {getattr(self, name)!r} of a growth operator is unknown; use {', '.join(known)}"
                )
        if not self.noise >= 0:
            raise ParameterError(f"noise={self.noise:g} of a growth operator: give 0 or more")

    @property
    def order(self) -> Order:
        """What is mapped first: the layers that maps are made for; with one map for all, the fewer ones."""
        return "depth" if self.share == "per_large" else "width"


class Site(NamedTuple):
    """A width map: its layers (0: one for all), and the units of its axis in the small and in the large model."""

    layers: int
    small: int
    large: int


class GrowthOperator(nn.Module):
    """All weights of `large` from those of `small`, with the operator's own coefficients as only parameters.

    `options` are those of Growth. Weights of the small model are copied, as buffers that are not saved; the large one
    gives its shapes alone. Parameters are called "width.AXIS" and "depth.ROLE" with "/" for dots; an axis that does not
    grow has none. They are drawn on the CPU from the "growth" streams of the seed.
    The paper leaves CaiT open. Here matrices that mix heads have a map of heads for rows and columns, scales of layers
    that of the residual stream, and layers of class attention are mixed among themselves.
    ParameterError for models that are no pair (`effi.ligo.pieces.check_pair`).
    """

    width: nn.ParameterDict
    depth: nn.ParameterDict

    def __init__(self, small: nn.Module, large: nn.Module, **options: Any) -> None:
        super().__init__()
        check_pair(small, large)
        self.options = Growth(**options)
        few, many = depth(small), depth(large)
        self.layers = {stack: (many[stack], few[stack]) for stack in few}
        self.target = forms(large)
        self.own_head = self.options.head == "own" or (self.options.head == "auto" and not tied_head(self.target))
        families = stacked(split(small))
        self.families = {piece: _key(piece.family) for piece in families}
        self.sites = self._sites(families)
        self._draw(next(iter(families.values())).device)
        # Weights lie in a module of their own, apart from the operator's tables.
        self.small = nn.Module()
        for piece, key in self.families.items():
            self.small.register_buffer(key, families[piece].clone(), persistent=False)

    def forward(self) -> dict[str, Tensor]:
        """Parameter name of the large model -> its grown weights, differentiable in the operator's parameters."""
        return self.grown({piece: self.small.get_buffer(key) for piece, key in self.families.items()})

    def grown(self, families: Mapping[Piece, Tensor], power: int = 1) -> dict[str, Tensor]:
        """The map of other tensors of the small model's shapes, as `stacked`, with every coefficient to a power."""

        def maps_of(piece: Piece) -> Maps:
            ends = ((piece.out, self._site(piece, "out")), (piece.into or "", self._site(piece, "into")))
            out, into = ({kind: self._map(key, power)} if key in self.sites else {} for kind, key in ends)
            return Maps(out, into)

        def depth_of(piece: Piece) -> Tensor:
            return _power(self.depth[self._mixing(piece)], power)

        return grow(families, self.target, maps_of, depth_of, self.options.order)

    def maps(self) -> dict[str, Map]:
        """Width map of each axis that grows: (D2, D1), or (L, D2, D1) where layers have their own."""
        return {key.replace("/", "."): self._map(key) for key in self.width}

    def depth_weights(self) -> dict[str, Tensor]:
        """Role inside a layer, of two or more stacks behind the stack's path -> weights (L2, L1), as they are now."""
        only = f"{next(iter(self.layers))}." if len(self.layers) == 1 else ""
        return {key.replace("/", ".").removeprefix(only): weights for key, weights in self.depth.items()}

    def sizes(self) -> dict[str, int]:
        """How many coefficients there are of "width" and of "depth", whether they are learned or not."""
        return {kind: sum(value.numel() for value in table.values()) for kind, table in self._tables().items()}

    @torch.no_grad()
    def moved(self) -> dict[str, float]:
        """Distance of "width" and "depth" coefficients from where they began: root mean square, and "..._largest"."""
        found: dict[str, float] = {}
        for kind, begun in self._drawn().items():
            table = self._tables()[kind]
            moves = [(table[key] - value.to(table[key].device)).flatten() for key, value in begun.items()]
            whole = torch.cat(moves) if moves else torch.zeros(1)
            found |= {kind: float(whole.square().mean().sqrt()), f"{kind}_largest": float(whole.abs().max())}
        return found

    def flops(self) -> int:
        """FLOPs of making the large weights and of the gradients of all coefficients that are learned, once."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        state = {name: value.detach().to("meta").requires_grad_(value.requires_grad) for name, value in tensors.items()}

        def step() -> None:
            grown = [value for value in functional_call(self, state, ()).values() if value.requires_grad]
            if grown:
                torch.autograd.backward(grown, [torch.empty_like(value) for value in grown])

        return count_flops(step)

    # --- coefficients --------------------------------------------------------------------------------------------

    def _tables(self) -> dict[str, nn.ParameterDict]:
        return {"width": self.width, "depth": self.depth}

    def _site(self, piece: Piece, end: End) -> str:
        """Name of the width map of a piece's rows or columns."""
        kind = piece.out if end == "out" else piece.into
        if not kind:
            return ""
        if not self.options.tie:
            return _key(f"{piece.module}.{end}")
        if kind == "head" and not self.own_head:
            return "width"
        return kind if kind in ("width", "head") else _key(f"{piece.stack}.{kind}")

    def _mixing(self, piece: Piece) -> str:
        """Name of the depth weights of a piece."""
        return _key(piece.family if self.options.bias_depth else piece.module)

    def _map(self, key: str, power: int = 1) -> Map:
        coefficients = _power(self.width[key], power)
        return coefficients if self.options.full else Extended(coefficients)

    def _sites(self, families: Mapping[Piece, Tensor]) -> dict[str, Site]:
        """The axes that grow, by name."""
        large, found = shapes(self.target), dict[str, Site]()
        for piece, value in families.items():
            small = value.shape if piece.layer is None else value.shape[1:]
            for end, ours, theirs in zip(ENDS, small, large[piece.family], strict=False):
                name = self._site(piece, end)
                if name and theirs > ours:
                    found[name] = Site(self._copies(piece, name), ours, theirs)
        return found

    def _copies(self, piece: Piece, name: str) -> int:
        """How many layers a map is made for; 0 is one for all."""
        if piece.layer is None or name in ("width", "head") or self.options.share == "all":
            return 0
        large, small = self.layers[piece.stack]
        return large if self.options.share == "per_large" else small

    def _draw(self, device: torch.device) -> None:
        """Make the coefficients as they begin."""
        tuned = {"width": self.options.tune_width, "depth": self.options.tune_depth}
        for kind, drawn in self._drawn().items():
            table = {key: nn.Parameter(value.to(device), tuned[kind]) for key, value in drawn.items()}
            self.add_module(kind, nn.ParameterDict(table))

    def _drawn(self) -> dict[str, dict[str, Tensor]]:
        """Coefficients as they begin, the same at every call."""
        options, streams = self.options, [generator(self.options.seed, f"growth {kind}") for kind in ("width", "depth")]
        width = {}
        for key, (layers, small, large) in self.sites.items():
            shape = (layers, large - small, small) if layers else (large - small, small)
            rows = new_rows(options.width, shape, options.noise, streams[0])
            width[key] = Extended(rows).dense() if options.full else rows
        weights = {
            key: layer_weights(options.depth, *self.layers[stack], options.noise, streams[1])
            for key, stack in {self._mixing(p): p.stack for p in self.families if p.layer is not None}.items()
        }
        return {"width": width, "depth": weights}


def _power(coefficients: Tensor, power: int) -> Tensor:
    """Every coefficient to a power; the first is no copy."""
    return coefficients if power == 1 else coefficients**power


def _key(name: str) -> str:
    """A name without the dots, which no parameter may have in its own."""
    return name.replace(".", "/")
