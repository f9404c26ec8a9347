"""GPT-2's training step: ours beside transformers' and one written out in plain torch; then ours under a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from effi import masks
from effi.bench.peers import Logits, needed, tried
from effi.bench.rounds import Case, Competitor
from effi.bench.suites import step_on
from effi.cost import Ledger
from effi.data import Examples, TextDataset, causal
from effi.kernels.cross_entropy import cross_entropy
from effi.models.gpt import GPT
from effi.models.language import BASE, TextSize
from effi.seeds import generator
from effi.training import LanguageModelling, Training
from effi.training.loop import Loop
from effi.training.networks import Single

Precision = Literal["fp32", "bf16"]

BATCH, SPARSITY = 8, 0.8


@dataclass(frozen=True)
class Shape:
    """Sizes of a language model: those of its blocks, the tokens of a text, and how many ids there are."""

    size: TextSize
    context: int
    vocabulary: int

    def __str__(self) -> str:
        return f"{self.size.width} x {self.size.depth}, {self.context:,} tokens"


SMALL, GPT2 = Shape(TextSize(256, 4, 4, 1024), 256, 4096), Shape(BASE["gpt2"], 1024, 50304)


# --- models --------------------------------------------------------------------------------------------------


def effi(shape: Shape) -> nn.Module:
    """Our GPT: no biases, exact GELU, tied head."""
    return GPT(shape.vocabulary, shape.context, shape.size)


def transformers(shape: Shape, attention: str) -> nn.Module:
    """transformers' GPT2LMHeadModel without dropout and cache, with our GELU; it has biases, which cannot be left out.

    `attention` is "eager" or "sdpa".
    """
    library, size = needed("transformers", "transformers"), shape.size
    sizes = {"n_positions": shape.context, "n_embd": size.width, "n_layer": size.depth, "n_head": size.heads}
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = library.GPT2Config(
        **sizes,
        **rates,
        vocab_size=shape.vocabulary,
        n_inner=size.hidden,
        activation_function="gelu",
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation=attention,
    )
    return Logits(library.GPT2LMHeadModel(config))


class PlainBlock(nn.Module):
    """A block as nanoGPT has it, BTN -> BTN."""

    def __init__(self, size: TextSize) -> None:
        super().__init__()
        width, self.heads = size.width, size.heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        wide, out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.attention = nn.ModuleDict({"qkv": wide, "out": out})
        up, down = nn.Linear(width, size.hidden, bias=False), nn.Linear(size.hidden, width, bias=False)
        self.mlp = nn.Sequential(up, nn.GELU(), down)

    def forward(self, x_BTN: Tensor) -> Tensor:
        split = self.attention["qkv"](self.norm1(x_BTN)).split(x_BTN.shape[-1], -1)
        q, k, v = (each.view(*each.shape[:2], self.heads, -1).transpose(1, 2) for each in split)
        mixed_BHTD = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTN = x_BTN + self.attention["out"](mixed_BHTD.transpose(1, 2).reshape(x_BTN.shape))
        return x_BTN + self.mlp(self.norm2(x_BTN))


class PlainGPT(nn.Module):
    """GPT-2 in the fewest words, ids (B, T) -> logits (B, T, V), with weights named as ours are."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.size.width
        self.embedding, self.positions = nn.Embedding(shape.vocabulary, width), nn.Embedding(shape.context, width)
        self.blocks = nn.ModuleList(PlainBlock(shape.size) for _ in range(shape.size.depth))
        self.norm = nn.LayerNorm(width, bias=False)
        for weight in (each for each in self.parameters() if each.ndim > 1):
            nn.init.normal_(weight, std=0.02)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTN = self.embedding(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTN = block(x_BTN)
        return F.linear(self.norm(x_BTN), self.embedding.weight)


MODELS: Mapping[str, Callable[[Shape], nn.Module]] = {
    "effi": effi,
    "plain": PlainGPT,
    "transformers, eager": partial(transformers, attention="eager"),
    "transformers, sdpa": partial(transformers, attention="sdpa"),
}


# --- steps ---------------------------------------------------------------------------------------------------


def gpt(
    shape: Shape = SMALL,
    batch: int = BATCH,
    precisions: Sequence[Precision] = ("fp32", "bf16"),
    device: str = "cpu",
) -> list[Case]:
    """A training step of our GPT beside the others, not compiled and compiled: all logits, their loss, fused AdamW."""

    def case(precision: Precision, compiled: bool) -> Case:
        makers = {
            name: partial(trained, make, shape, batch, precision, device, compiled=compiled)
            for name, make in MODELS.items()
        }
        return Case(f"GPT {shape}, batch {batch}, {precision}{', compiled' * compiled}", "effi", makers)

    return [case(precision, compiled) for precision, compiled in product(precisions, (False, True))]


def trained(
    make: Callable[[Shape], nn.Module], shape: Shape, batch: int, precision: Precision, device: str, *, compiled: bool
) -> Competitor:
    """A training step of a model on one fixed batch; Missing where torch.compile does not work."""
    model, examples = make(shape).to(device), texts(shape, batch).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    called: nn.Module = cast(nn.Module, torch.compile(model)) if compiled else model
    step = step_on(called, optimizer, examples.inputs.long(), examples.labels, precision)
    closed = getattr(model, "train_flops", None)
    flops = None if closed is None else closed(batch, shape.context)
    return Competitor(tried(step) if compiled else step, sum(p.numel() for p in model.parameters()), flops)


# --- under a mask --------------------------------------------------------------------------------------------


def masked(shape: Shape = SMALL, batch: int = BATCH, precision: Precision = "fp32", device: str = "cpu") -> Case:
    """A step of our training loop with matrices and head pruned at random, beside the dense step: the cost of a mask.

    A mask saves no time, and should cost little.
    """
    ways = ("dense", "effi", "torch.nn.utils.prune")
    makers = {way: partial(_stepped, way, shape, batch, precision, device) for way in ways}
    return Case(f"GPT {shape}, batch {batch}, {precision}, {100 * SPARSITY:g} % pruned", "dense", makers)


def _stepped(way: str, shape: Shape, batch: int, precision: Precision, device: str) -> Competitor:
    model, data = GPT(shape.vocabulary, shape.context, shape.size).to(device), corpus(shape, batch).to(device)
    weights = masks.prunable(model, include=["embedding"])
    mask = masks.random(weights, SPARSITY, generator=generator(0, "bench"))
    if way == "torch.nn.utils.prune":
        for name, kept in mask.items():
            prune.custom_from_mask(model.get_submodule(name.removesuffix(".weight")), "weight", kept)
    training = Training(steps=1, batch_size=batch, optimizer="adamw", clip=1.0, precision=precision)
    loop = Loop(Single(model), model, data, training, LanguageModelling(), (0,), Ledger(device))
    if way == "effi":
        loop.step.hold(mask)
    index_RB = loop.batch()
    return Competitor(lambda: loop.update(index_RB), sum(weight.numel() for weight in model.parameters()))


# --- the head ------------------------------------------------------------------------------------------------


def head(shape: Shape = SMALL, batch: int = BATCH, precision: Precision = "fp32", device: str = "cpu") -> Case:
    """Loss of the tied head and its gradients, with all logits at once and a piece of them at a time."""
    tokens = batch * shape.context

    @cache
    def ends() -> tuple[Tensor, Tensor, Tensor]:
        draw, labels = generator(0, "bench"), texts(shape, batch).labels.flatten().long()
        hidden, matrix = (torch.randn(rows, shape.size.width, generator=draw) for rows in (tokens, shape.vocabulary))
        return hidden.to(device).requires_grad_(), matrix.to(device).requires_grad_(), labels.to(device)

    def step(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            mean = loss(*ends())
        return torch.autograd.grad(mean, ends()[:2])

    ways = {"all logits": of_all_logits, "effi, kernel": lambda *given: cross_entropy(*given)[0].mean()}
    makers = {name: partial(Competitor, partial(step, loss)) for name, loss in ways.items()}
    title = f"head of {shape.size.width} x {shape.vocabulary:,}, {tokens:,} tokens, {precision}"
    return Case(title, "all logits", makers)


def of_all_logits(hidden: Tensor, matrix: Tensor, labels: Tensor) -> Tensor:
    """The mean loss the plain way, logits in float32."""
    return F.cross_entropy(F.linear(hidden, matrix).float(), labels)


# --- texts ---------------------------------------------------------------------------------------------------


def texts(shape: Shape, count: int) -> Examples:
    """Random texts, each token labelled with the next."""
    size = (count, shape.context + 1)
    return causal(torch.randint(shape.vocabulary, size, generator=generator(0, "bench"), dtype=torch.int32))


def corpus(shape: Shape, count: int) -> TextDataset:
    """Random texts as a data set, of which no part is padding."""
    one = texts(shape, count)
    return TextDataset("noise", one, one, one, (), "sha256:0", "random", shape.vocabulary, one.inputs, pad=-1)
