"""Width by copies: each new unit of an axis is one old unit or none, and what reads a unit is shared by its copies.

Net2Net's rule (arXiv 1511.05641, Sec. 2.2) in general form, of which function-preserving initialisations are cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effi.axes import depth, units
from effi.ligo.maps import Maps, grow, stacked
from effi.ligo.pieces import Piece, check_pair, forms, split
from effi.ligo.uses import raw, tied, uses

# (small, large) -> for each new unit the old one that it copies, or -1
Choice = Callable[[int, int], Tensor]
# the old unit of each new one -> the part that the new one has of what reads the old one
Sharing = Callable[[Tensor], Tensor]
# stack and kind of an axis; those of the whole model are in the stack ""
Place = tuple[str, str]
_OF_HEADS = ("query", "key", "value", "heads")
_OF_MODEL = ("width", "head")


@dataclass(frozen=True)
class Rule:
    """How an axis grows. `source` (large,): the old unit that each new one copies, -1 for none; `shares` (large,).

    `old` is how many units there were. On the residual stream `scale` multiplies all that is written, and norms take
    it out again; where `averaged`, a unit without source is the mean of all old ones, whose norm is 0.
    """

    source: Tensor
    shares: Tensor
    old: int
    scale: float = 1.0
    averaged: bool = False

    @property
    def copies(self) -> Tensor:
        """(large, small): 1 where a new unit is a copy of an old one."""
        return torch.eye(self.old)[self.source.clamp(min=0)] * (self.source >= 0)[:, None]

    @property
    def write(self) -> Tensor:
        """(large, small): new units of old ones."""
        rest = (self.source < 0)[:, None] / self.old if self.averaged else 0.0
        return self.scale * (self.copies + rest)

    @property
    def read(self) -> Tensor:
        """(large, small): what reads new units, of what reads old ones."""
        return self.copies * self.shares[:, None]


Rules = Mapping[Place, Rule]


def rules(small: nn.Module, large: nn.Module, choice: Choice, sharing: Sharing) -> dict[Place, Rule]:
    """One rule for each axis; query, key and value keep heads whole and choose the same. Errors as `check_pair`."""
    check_pair(small, large)
    few, many, wide = _heads(small), _heads(large), _sizes(large)
    heads = {stack: choice(few[stack], many[stack]) for stack in few}
    made = {}
    for (stack, kind), old in _sizes(small).items():
        whole = kind in _OF_HEADS
        source = _units_of(heads[stack], old // few[stack]) if whole else choice(old, wide[stack, kind])
        made[stack, kind] = Rule(source, sharing(source), old)
    # A tied matrix reads what the transform of a masked-language head writes, and is a table of the residual stream.
    return made | {("", "head"): made["", "width"]} if ("", "head") in made else made


def grown(small: nn.Module, large: nn.Module, made: Rules, depth_of: Callable[[Piece], Tensor]) -> dict[str, Tensor]:
    """All parameters of the large model by name, by these rules and depth weights."""
    # Width first: there are fewer layers to widen before they are copied.
    return grow(stacked(split(small)), forms(large), maps_by(small, made), depth_of, "width")


def place(piece: Piece, kind: str) -> Place:
    """Where the axis of a piece's rows or columns is."""
    return ("" if kind in _OF_MODEL else piece.stack), kind


def first(old: int, new: int) -> Tensor:
    """Old units stay where they are, and new ones copy none."""
    return torch.arange(new).where(torch.arange(new) < old, -1)


def tiled(old: int, new: int) -> Tensor:
    """The old units over and over."""
    return torch.arange(new) % old


def drawn(generator: torch.Generator) -> Choice:
    """Old units stay where they are, and each new one copies a random one (Net2Net, Eq. 3)."""

    def choose(old: int, new: int) -> Tensor:
        return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])

    return choose


def equally(source: Tensor) -> Tensor:
    """All copies of a unit have the same part."""
    return _parts(source, torch.ones(len(source)))


def unequally(generator: torch.Generator) -> Sharing:
    """Copies of a unit have random parts, so that they do not stay copies."""
    return lambda source: _parts(source, 0.5 + torch.rand(len(source), generator=generator))


def wholly(source: Tensor) -> Tensor:
    """Every copy has all, so that a unit counts as often as it is copied."""
    return torch.ones(len(source))


def maps_by(model: nn.Module, made: Rules) -> Callable[[Piece], Maps]:
    """Maps of each family of the small model's pieces.

    Tables are copied as what writes is. A tied head reads by the embedding, whose columns cannot be shared out: the
    last norm before it is, instead.
    """
    use, unnormed, last, like = uses(model), raw(model), _before_tied_head(model), next(model.parameters())

    def maps_of(piece: Piece) -> Maps:
        here = {kind: made[place(piece, kind)] for kind in (piece.out, piece.into) if kind}
        out, into = ({kind: getattr(rule, way) for kind, rule in here.items()} for way in ("write", "read"))
        if use[piece.family] == "table":
            into = out
        elif use[piece.family] == "norm":
            out = {kind: _of_norm(rule, piece.bias, piece.module == last) for kind, rule in here.items()}
        elif use[piece.family] == "scale":
            out = {kind: rule.copies for kind, rule in here.items()}
        elif piece.family in unnormed:
            into = {kind: rule.read / rule.scale for kind, rule in here.items()}
        return Maps(*({kind: map_.to(like) for kind, map_ in maps.items()} for maps in (out, into)))

    return maps_of


def _of_norm(rule: Rule, bias: bool, shared: bool) -> Tensor:
    scale = 1.0 if bias else rule.scale
    return rule.read / (scale * rule.scale) if shared else rule.copies / scale


def _before_tied_head(model: nn.Module) -> str | None:
    """Module of the norm whose output a tied head reads."""
    if not tied(model):
        return None
    use = uses(model)
    norms = [piece for piece in split(model) if use[piece.family] == "norm" and piece.layer is None]
    kind = "head" if any(piece.out == "head" for piece in norms) else "width"
    return next((piece.module for piece in reversed(norms) if piece.out == kind), None)


def _parts(source: Tensor, weights: Tensor) -> Tensor:
    index = source.clamp(min=0)
    weights = weights * (source >= 0)
    return weights / torch.zeros(int(index.max()) + 1).index_add(0, index, weights)[index]


def _units_of(heads: Tensor, width: int) -> Tensor:
    """The units of these heads, each so wide."""
    inside = heads[:, None] * width + torch.arange(width)
    return inside.where(heads[:, None] >= 0, -1).flatten()


def _sizes(model: nn.Module) -> dict[Place, int]:
    return {
        place(piece, kind): size
        for piece, weight in split(model).items()
        for kind, size in zip((piece.out, piece.into), weight.shape, strict=False)
        if kind
    }


def _heads(model: nn.Module) -> dict[str, int]:
    """Heads of an attention of each stack that has some."""
    return {stack: count for axis, count in units(model).items() for stack in depth(model) if _inside(axis, stack)}


def _inside(axis: str, stack: str) -> bool:
    return axis.startswith(f"{stack}.".lstrip(".")) and axis.endswith("heads")
