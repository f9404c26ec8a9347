"""Masks of tickets: found, tracked, compared and held, beside what one would write with torch alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from effi import masks
from effi.bench.load import needed_bytes
from effi.bench.rounds import Case, Competitor
from effi.bench.slimming import slimming
from effi.bench.suites import one_step
from effi.kernels import using
from effi.kernels.adamw import MaskedAdamW
from effi.models.vision import cifar_vit
from effi.models.vit import ViT
from effi.seeds import generator

SPARSITY, RATIOS = 0.3, (0.1, 0.3, 0.5, 0.7, 0.9)
TENSORS, SIDES = 100, (850, 1000)
BATCH, EPOCH = 32, 45_000
SNAPSHOTS, BITS = 200, 10_000_000

Weights = Mapping[str, Tensor]


def early_bird() -> list[Case]:
    """What the first paper's method costs, and what removing heads and neurons gains."""
    return [selection(), tracking(), heat_map(), held(), *slimming()]


def selection(tensors: int = TENSORS, sides: tuple[int, int] = SIDES, device: str = "cpu") -> Case:
    """A mask by magnitude over many tensors, with the memory that each way needs beside the weights."""
    measured = apart if device == "cpu" else extra_bytes

    def competitor(way: str) -> Competitor:
        weights = noise(tensors, sides, device)
        return Competitor(partial(WAYS[way], weights), extra_bytes=measured(way, tensors, sides, device))

    count, elsewhere = tensors * sides[0] * sides[1], GPU_ONLY if device == "cpu" else CPU_ONLY
    ways = [way for way in WAYS if way not in elsewhere]
    return Case(f"magnitude, {count / 1e6:.0f} M in {tensors}", "effi", {way: partial(competitor, way) for way in ways})


def noise(tensors: int, sides: tuple[int, int], device: str = "cpu") -> dict[str, Tensor]:
    """Random weights."""
    draw = generator(0, "bench")
    return {str(index): torch.randn(sides, generator=draw).to(device) for index in range(tensors)}


def by_torch_prune(weights: Weights) -> nn.ModuleList:
    """The mask of torch.nn.utils.prune, left in modules that share the weights."""
    holders = nn.ModuleList(nn.Module() for _ in weights)
    for holder, weight in zip(holders, weights.values(), strict=True):
        holder.weight = nn.Parameter(weight)
    pairs = [(holder, "weight") for holder in holders]
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    return holders


def magnitudes(weights: Weights) -> Tensor:
    """Those of all weights in one row."""
    return torch.cat([weight.abs().view(-1) for weight in weights.values()])


def by_topk(weights: Weights) -> Tensor:
    """The flat mask by torch.topk of all magnitudes."""
    scores = magnitudes(weights)
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[scores.topk(int(SPARSITY * len(scores)), largest=False, sorted=False).indices] = False
    return kept


def by_sort(weights: Weights) -> Tensor:
    """The flat mask by torch.sort of all magnitudes."""
    scores = magnitudes(weights)
    return scores > scores.sort().values[int(SPARSITY * len(scores)) - 1]


def by_kthvalue(weights: Weights) -> Tensor:
    """The flat mask by torch.kthvalue of all magnitudes."""
    scores = magnitudes(weights)
    return scores > scores.kthvalue(int(SPARSITY * len(scores))).values


def by_kernel(weights: Weights) -> masks.Mask:
    """The mask by the kernel of `effi.kernels.selection`, before which nothing waits."""
    with using("selection"):
        return masks.magnitude(weights, SPARSITY, trusted=True)


def by_partition(weights: Weights) -> dict[str, Tensor]:
    """The mask by numpy.partition of all magnitudes; ties are dropped together."""
    scores = magnitudes(weights).numpy()
    rank = int(SPARSITY * len(scores)) - 1
    scores.partition(rank)
    return {name: weight.abs() > float(scores[rank]) for name, weight in weights.items()}


WAYS: Mapping[str, Callable[[Weights], object]] = {
    "effi": lambda weights: masks.magnitude(weights, SPARSITY),
    "torch.nn.utils.prune": by_torch_prune,
    "torch.topk": by_topk,
    "numpy.partition": by_partition,
    "effi, kernel": by_kernel,
    "torch.sort": by_sort,
    "torch.kthvalue": by_kthvalue,
}
CPU_ONLY, GPU_ONLY = {"numpy.partition"}, {"effi, kernel", "torch.sort", "torch.kthvalue"}


def apart(way: str, tensors: int, sides: tuple[int, int], device: str = "cpu") -> int | None:
    """`extra_bytes` in a process of its own, whose memory nothing else touched."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(extra_bytes, way, tensors, sides, device).result()


def extra_bytes(way: str, tensors: int, sides: tuple[int, int], device: str = "cpu") -> int | None:
    """Peak bytes of one selection, its mask included."""
    weights = noise(tensors, sides, device)
    return needed_bytes(lambda: WAYS[way](weights), device)


def tracking(model: ViT | None = None, batch: int = BATCH, images: int = EPOCH) -> Case:
    """One snapshot of the search, once an epoch: masks of all ratios, packed, and their distance to the last ones."""
    model = model or cifar_vit()
    weights = masks.prunable(model)
    count = sum(weight.numel() for weight in weights.values())
    rows = {ratio: masks.pack(masks.magnitude(weights, ratio)) for ratio in RATIOS}

    def snapshot() -> None:
        for ratio, row in rows.items():
            masks.packed_distance(row, masks.pack(masks.magnitude(weights, ratio)), count)

    title = f"tracking {len(RATIOS)} ratios, once in {-(-images // batch):,} steps"
    return Case(title, "step", {"step": partial(trained, model, batch, "dense"), "track": lambda: Competitor(snapshot)})


def heat_map(snapshots: int = SNAPSHOTS, bits: int = BITS) -> Case:
    """All distances of many packed masks, by XOR and by a Gram matrix of floats."""

    @cache
    def rows() -> Tensor:
        return torch.randint(256, (snapshots, bits // 8), dtype=torch.uint8, generator=generator(0, "bench"))

    ways = {"effi": lambda: masks.distance_matrix(rows(), bits), "Gram matrix": lambda: gram(rows(), bits)}
    makers = {name: partial(Competitor, step) for name, step in ways.items()}
    return Case(f"heat map, {snapshots} masks of {bits / 1e6:g} M", "effi", makers)


def gram(rows: Tensor, count: int) -> Tensor:
    """Distances from the shared kept weights of every two masks, in float32 over pieces that keep counts exact."""
    shared = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for piece in rows.split(2**15, 1):
        kept = torch.from_numpy(np.unpackbits(piece.numpy(), axis=1)).float()
        shared += kept @ kept.T
    kept = shared.diagonal()
    return (kept[:, None] + kept[None] - 2 * shared) / count


def held(model: ViT | None = None, batch: int = BATCH, precision: str = "fp32", device: str = "cpu") -> Case:
    """A training step under a mask beside a dense one; masks save no time, and should cost little."""
    model, ways = model or cifar_vit(), ["dense", "effi", "torch.nn.utils.prune"]
    ways += ["effi, kernel"] * (device != "cpu")
    steps = {way: partial(trained, model, batch, way, precision, device) for way in ways}
    return Case(f"step under a mask, batch {batch}", "dense", steps)


def trained(model: ViT, batch: int, way: str, precision: str = "fp32", device: str = "cpu") -> Competitor:
    """A step of AdamW on one fixed batch, on a copy of the model."""
    model = copy.deepcopy(model).to(device)
    weights = masks.prunable(model)
    if way == "torch.nn.utils.prune":
        owners = [(model.get_submodule(name.removesuffix(".weight")), "weight") for name in weights]
        prune.global_unstructured(owners, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    kernel, parameters = way == "effi, kernel", model.parameters()
    optimizer = MaskedAdamW(parameters, lr=1e-3) if kernel else torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    if way.startswith("effi"):
        masks.hold(model, optimizer, masks.magnitude(weights, SPARSITY))
    step = one_step(model, optimizer, model.shape, batch, precision, device)
    return Competitor(
        using("adamw")(step) if kernel else step, sum(parameter.numel() for parameter in model.parameters())
    )
