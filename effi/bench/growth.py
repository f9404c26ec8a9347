"""LiGO's growth operator timed: beside the official way to make weights, Kronecker products, and a plain step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from effi.bench.gpts import Precision, Shape, effi, trained
from effi.bench.rounds import Case, Competitor
from effi.ligo import Grown, GrowthOperator
from effi.ligo.maps import Extended, expand, mix, tied
from effi.ligo.pieces import Piece
from effi.models.language import TextSize, language_model
from effi.seeds import generator

SMALL, BASE = TextSize(512, 6, 8, 2048), TextSize(768, 12, 12, 3072)  # BERT-Small and BERT-Base
VOCABULARY, LENGTH = 30522, 128
TOY = TextSize(48, 2, 2, 192), TextSize(64, 4, 2, 256)
PAIR = TextSize(256, 6, 4, 1024), TextSize(384, 12, 6, 1536)
MATRICES = ("query", "key", "value", "out", "up", "down")  # of one layer


def ligo() -> list[Case]:
    """What growing costs beside what it could cost, and a growth step beside an ordinary one."""
    return [operators(), toy(), step(), step(TextSize(64, 2, 4, 256), TextSize(96, 4, 6, 384), batch=8)]


# --- making weights ------------------------------------------------------------------------------------------


def operators(
    small: TextSize = SMALL, large: TextSize = BASE, vocabulary: int = VOCABULARY, device: str = "cpu"
) -> Case:
    """All weights of a BERT, forward and backward, beside the official way, which is timed on the layers' alone."""
    title = f"BERT {small.depth} x {small.width} to {large.depth} x {large.width}, weights and gradients"
    makers = {
        "effi": partial(operator, small, large, vocabulary, device),
        "official style, matrices of layers": partial(official, small, large, device),
    }
    return Case(title, "effi", makers)


def operator(small: TextSize, large: TextSize, vocabulary: int, device: str = "cpu") -> Competitor:
    """The operator, on a CPU with the memory of all that lives at the end of a forward and a backward pass."""
    with torch.device("meta"):
        target = language_model("bert", size=large, vocabulary=vocabulary, length=LENGTH)
    source = language_model("bert", size=small, vocabulary=vocabulary, length=LENGTH).to(device)
    grown = GrowthOperator(source, target)
    slopes = {name: torch.ones_like(value) for name, value in grown().items() if value.requires_grad}

    def both() -> dict[str, Tensor]:
        weights = grown()
        torch.autograd.backward([weights[name] for name in slopes], list(slopes.values()))
        grown.zero_grad()
        return weights

    parameters = sum(parameter.numel() for parameter in grown.parameters())
    return Competitor(both, parameters, grown.flops(), extra_bytes(grown) if device == "cpu" else None)


def extra_bytes(grown: GrowthOperator) -> int:
    """Bytes of the large weights, of their gradients, and of what a backward pass keeps beside both and the small."""
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        weights = grown()
    kept |= {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in weights.values()}
    there = {value.untyped_storage().data_ptr() for value in (*grown.parameters(), *grown.buffers())}
    gradients = sum(value.nbytes for value in weights.values())
    return gradients + sum(size for place, size in kept.items() if place not in there)


def official(small: TextSize, large: TextSize, device: str = "cpu") -> Competitor:
    """Each large layer by itself: small layers stacked in a last dimension, their weighted sum, then two products."""
    stream = generator(0, "bench")

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=stream).to(device)

    layers = {name: [draw(*ends) for _ in range(small.depth)] for name, ends in _ends(small)}
    weights = {name: draw(large.depth, small.depth).requires_grad_() for name in MATRICES}
    new = {"width": (large.width - small.width, small.width), "hidden": (large.hidden - small.hidden, small.hidden)}
    maps = {kind: draw(*shape).requires_grad_() for kind, shape in new.items()}

    def made(name: str, layer: int) -> Tensor:
        mixed = (torch.stack(layers[name], -1) * weights[name][layer]).sum(-1)
        out, into = (maps["hidden" if name == which else "width"] for which in ("up", "down"))
        tall = torch.cat([mixed, out @ mixed])
        return torch.cat([tall, tall @ into.mT], 1)

    slopes = {name: torch.ones(ends, device=device) for name, ends in _ends(large)}

    def both() -> None:
        every = [(name, made(name, layer)) for name in MATRICES for layer in range(large.depth)]
        torch.autograd.backward([value for _, value in every], [slopes[name] for name, _ in every])
        for each in (*weights.values(), *maps.values()):
            each.grad = None

    return Competitor(both, sum(each.numel() for each in (*weights.values(), *maps.values())))


def _ends(size: TextSize) -> list[tuple[str, tuple[int, int]]]:
    """Rows and columns of a layer's matrices."""
    special = {"up": (size.hidden, size.width), "down": (size.width, size.hidden)}
    return [(name, special.get(name, (size.width, size.width))) for name in MATRICES]


def toy(small: TextSize = TOY[0], large: TextSize = TOY[1]) -> Case:
    """One square matrix in all layers by factors, and by the whole linear map between all entries."""
    draw = generator(0, "bench")
    stacked = torch.randn(small.depth, small.width, small.width, generator=draw)
    w = torch.randn(large.depth, small.depth, generator=draw).requires_grad_()
    new = torch.randn(large.width - small.width, small.width, generator=draw).requires_grad_()
    slope = torch.ones(large.depth, large.width, large.width)

    def through(make: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(make(), (w, new), slope)

    def factors() -> Tensor:
        return expand(
            Piece("blocks.0.out.weight", None, "blocks", 0, "out", "width", "width"),
            mix(w, stacked),
            tied({"width": Extended(new)}),
        )

    def kronecker() -> Tensor:
        whole = Extended(new).dense()
        return (torch.kron(w, torch.kron(whole, whole)) @ stacked.flatten()).view_as(slope)

    makers: Mapping[str, Callable[[], Competitor]] = {
        "effi": lambda: Competitor(through(factors)),
        "Kronecker product": lambda: Competitor(through(kronecker)),
    }
    return Case(f"a matrix, {small.depth} x {small.width} to {large.depth} x {large.width}", "effi", makers)


# --- steps ---------------------------------------------------------------------------------------------------


def step(
    small: TextSize = PAIR[0],
    large: TextSize = PAIR[1],
    *,
    batch: int = 16,
    precision: Precision = "fp32",
    device: str = "cpu",
) -> Case:
    """A step that learns the operator beside one of the large model, each with fused AdamW, on one batch."""
    shape = Shape(large, LENGTH, 4096)

    def grown(to: Shape) -> Grown:
        wide, narrow = effi(to), effi(replace(to, size=small))
        return Grown(GrowthOperator(narrow.to(device), wide.to(device)), wide)

    made = {"an ordinary step": effi, "a growth step": grown}
    makers = {
        name: partial(trained, make, shape, batch, precision, device, compiled=False) for name, make in made.items()
    }
    sizes = f"GPT {small.depth} x {small.width} to {large.depth} x {large.width}"
    return Case(f"{sizes}, batch {batch} of {LENGTH}, {precision}", "an ordinary step", makers)
