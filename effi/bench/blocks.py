"""A linear layer that multiplies by live blocks alone, beside the dense one and sparse layers of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from effi import masks
from effi.bench.peers import attempted, needed, once
from effi.bench.rounds import Case, Competitor
from effi.kernels import using
from effi.mixed_sparsity.blocks import BlockSparseLinear, whole_mask
from effi.seeds import generator

SIZES, SPARSITIES = (32, 64, 128), (0.5, 0.7, 0.8, 0.83, 0.9, 0.95)
WIDTHS, TOKENS = (768, 3072), 1024

Make = Callable[[nn.Linear], nn.Module]
Way = tuple[Make, float]  # of a layer, and the share of the dense products that it makes


def block_linear() -> list[Case]:
    """The feed-forward matrix of GPT-2 small in fp32, by size of blocks."""
    return [layers(size) for size in SIZES]


def layers(
    size: int,
    widths: tuple[int, int] = WIDTHS,
    tokens: int = TOKENS,
    sparsities: tuple[float, ...] = SPARSITIES,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    backward: bool = True,
) -> Case:
    """Layers with random blocks pruned beside the dense one, gradients of input and weight included, or forward alone.

    On a GPU ours are by the kernel of `effi.kernels.block_sparse`. Beside them stand those of others that do the same
    work: torchao's layer of 2:4 learns, torch's 2:4 and torchao's blocks compute forward alone.
    """
    grid = {"weight": torch.empty(widths[1] // size, widths[0] // size)}
    drawn = {each: masks.random(grid, each, generator=generator(0, "bench"))["weight"] for each in sparsities}
    work, theirs = Work(widths, tokens, dtype, device, backward), learners() if backward else computers(drawn, size)
    makers = {name: partial(work.competitor, *way) for name, way in own(drawn, size).items()}
    makers |= {name: partial(work.competitor, *way, foreign=True) for name, way in theirs.items()}
    what = f"{widths[0]} -> {widths[1]}, {tokens:,} tokens, blocks of {size}"
    return Case(f"{what}{', bf16' * (dtype == torch.bfloat16)}{', forward' * (not backward)}", "dense", makers)


@dataclass(frozen=True)
class Work:
    """What layers of some width are given, and whether they make gradients of it."""

    widths: tuple[int, int]
    tokens: int
    dtype: torch.dtype
    device: str
    backward: bool

    @cached_property
    def ends(self) -> list[Tensor]:
        """Inputs and a gradient of outputs."""
        draw = generator(0, "bench")
        return [torch.randn(self.tokens, width, generator=draw).to(self.device, self.dtype) for width in self.widths]

    def competitor(self, make: Make, share: float, *, foreign: bool = False) -> Competitor:
        """A layer that makes this share of the dense products; a `foreign` one may be Missing."""
        layer = make(nn.Linear(*self.widths, bias=False, device=self.device, dtype=self.dtype))
        step = both_passes(layer, *self.ends) if self.backward else forward_pass(layer, self.ends[0])
        dense = 2 * (3 if self.backward else 1) * self.tokens * self.widths[0] * self.widths[1]
        return Competitor(attempted(step) if foreign else step, flops=round(share * dense))


def own(drawn: Mapping[float, Tensor], size: int) -> Mapping[str, Way]:
    """The dense layer, and ours with the blocks that were drawn for each sparsity."""
    sparse = {f"{100 * each:g} %": (partial(ours, kept=kept, size=size), live(kept)) for each, kept in drawn.items()}
    return {"dense": (lambda linear: linear, 1.0), **sparse}


def learners() -> Mapping[str, Way]:
    """Sparse layers of others with a backward pass, in which a product, that of the weight's gradient, is dense."""
    return {"torchao, 2:4": (torchao_halves, 2 / 3)}


def computers(drawn: Mapping[float, Tensor], size: int) -> Mapping[str, Way]:
    """Sparse layers of others without a backward pass."""
    blocks = {
        f"torchao, {100 * each:g} %": (partial(torchao_blocks, kept=kept, size=size), live(kept))
        for each, kept in drawn.items()
    }
    return {"torch, 2:4": (torch_halves, 0.5), **blocks}


def live(kept: Tensor) -> float:
    """The share of blocks that live."""
    return 1 - masks.sparsity({"weight": kept})


# --- layers --------------------------------------------------------------------------------------------------


def ours(linear: nn.Linear, kept: Tensor, size: int) -> nn.Module:
    """Our layer of live blocks."""
    layer = BlockSparseLinear(linear, size)
    layer.set_mask(kept)
    return layer


def torchao_halves(linear: nn.Linear) -> nn.Module:
    """torchao's layer that keeps two of four weights, picked anew in each pass; its weight's gradient is dense."""
    return needed("torchao.sparsity.training", "torchao").SemiSparseLinear.from_dense(linear)


def torch_halves(linear: nn.Linear) -> nn.Module:
    """torch's 2:4: the two of four weights that are largest, packed once."""
    groups = linear.weight.detach().unflatten(1, (-1, 4))
    kept = torch.zeros_like(groups).scatter_(-1, groups.abs().topk(2).indices, 1.0)
    packed = once(lambda: to_sparse_semi_structured((groups * kept).flatten(1)))
    linear.weight = nn.Parameter(packed, requires_grad=False)
    return linear


def torchao_blocks(linear: nn.Linear, kept: Tensor, size: int) -> nn.Module:
    """torchao's layer of live blocks, which has no backward pass."""
    library = needed("torchao.sparsity", "torchao")
    whole = whole_mask({"weight": kept}, size)["weight"].to(linear.weight.device)
    linear.weight = nn.Parameter(linear.weight.detach() * whole, requires_grad=False)
    holder = nn.Sequential(linear)
    library.sparsify_(holder, needed("torchao.sparsity.sparse_api", "torchao").BlockSparseWeightConfig(size))
    return holder


# --- passes --------------------------------------------------------------------------------------------------


def both_passes(layer: nn.Module, x: Tensor, slope: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward, gradients of input and weight."""
    inputs = (x.detach().requires_grad_(), *layer.parameters())

    def step() -> tuple[Tensor, ...]:
        with using("block_sparse"):
            return torch.autograd.grad(layer(inputs[0]), inputs, slope)

    return step


@torch.no_grad()
def _computed(layer: nn.Module, x: Tensor) -> Tensor:
    with using("block_sparse"):
        y: Tensor = layer(x)
    return y


def forward_pass(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """Forward, nothing kept for gradients."""
    return partial(_computed, layer, x)
