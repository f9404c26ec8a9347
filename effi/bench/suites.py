"""What is compared: training steps of models, the training loop and start-up time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from effi.bench.peers import PEERS, tried
from effi.bench.rounds import Case, Competitor
from effi.cost import Ledger
from effi.data import Dataset, Examples, normalise
from effi.minimal import Variant
from effi.models.vit import ViT, ViTShape
from effi.seeds import generator
from effi.training import Training, fit

SHAPE = ViTShape(32, 4, 3, 10, width=128, depth=6, hidden=512, positions="learned", final_norm=True)
HEADS, BATCH = 4, 64
NOTEBOOK = "import effi.minimal, effi.models.vit, effi.training, effi.data, effi.records, effi.claims, effi.report"


def trained(
    make: Callable[[], nn.Module], shape: ViTShape, batch: int, precision: str, device: str, *, compiled: bool = False
) -> Competitor:
    """A training step of a model on one fixed batch, Adam fused; Missing where torch.compile does not work."""
    model = make().to(device)
    called = cast(nn.Module, torch.compile(model)) if compiled else model
    step = one_step(called, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), shape, batch, precision, device)
    # Closed forms only: some libraries choose their own attention kernel, which torch's counter then misses.
    flops = model.train_flops(batch) if isinstance(model, ViT) else None
    return Competitor(tried(step) if compiled else step, sum(p.numel() for p in model.parameters()), flops)


def one_step(
    model: nn.Module, optimizer: Optimizer, shape: ViTShape, batch: int, precision: str, device: str
) -> Callable[[], None]:
    """A training step on one fixed batch of random images."""
    draw = generator(0, "bench")
    images = torch.randn(batch, shape.channels, *[shape.image_size] * 2, generator=draw).to(device)
    labels = torch.randint(shape.classes, (batch,), generator=draw).to(device)
    return step_on(model, optimizer, images, labels, precision)


def step_on(
    model: nn.Module, optimizer: Optimizer, inputs: Tensor, labels: Tensor, precision: str
) -> Callable[[], None]:
    """A training step on one fixed batch, with a label for each row of logits."""

    def step() -> None:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(inputs)
        F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def vit(
    shape: ViTShape = SHAPE, heads: int = HEADS, batch: int = BATCH, device: str = "cpu", *, compiled: bool = False
) -> list[Case]:
    """Our ViT beside those of other libraries, in fp32 and bf16, all compiled or none."""
    makers: dict[str, Callable[[], nn.Module]] = {"effi": partial(ViT, shape, heads=heads)}
    makers |= {name: partial(make, shape, heads) for name, make in PEERS.items()}

    def case(precision: str) -> Case:
        how: dict[str, Any] = {"precision": precision, "device": device, "compiled": compiled}
        competitors = {name: partial(trained, make, shape, batch, **how) for name, make in makers.items()}
        return Case(f"{precision}{', compiled' * compiled}", "effi", competitors)

    return [case("fp32"), case("bf16")]


def minimal(shape: ViTShape = SHAPE, heads: int = HEADS, batch: int = BATCH, device: str = "cpu") -> list[Case]:
    """The minimum of the fourth paper beside the standard block, in fp32."""
    standard = Variant(width=shape.width, hidden=shape.hidden, depth=shape.depth, heads=heads)
    variants = {
        "standard": standard,
        "standard, 1 head": replace(standard, heads=1),
        "no MLP": replace(standard, mlp=False),
        "minimum": replace(standard, mlp=False, query_key="collapsed", value_output="dropped", heads=1),
    }
    image = (shape.channels, shape.image_size, shape.image_size)

    def competitor(variant: Variant) -> Competitor:
        make = partial(variant.model, image, shape.patch_size, shape.classes, seed=0)
        return trained(make, shape, batch, "fp32", device)

    return [Case("fp32", "standard", {name: partial(competitor, variant) for name, variant in variants.items()})]


def noise(shape: ViTShape, train: int, validation: int) -> Dataset:
    """Random images and labels."""
    draw = generator(0, "bench")

    def examples(count: int) -> Examples:
        size = (count, shape.channels, shape.image_size, shape.image_size)
        images = torch.randint(256, size, generator=draw, dtype=torch.uint8)
        return Examples(images, torch.randint(shape.classes, (count,), generator=draw))

    middle, classes = (0.5,) * shape.channels, tuple(map(str, range(shape.classes)))
    splits = examples(train), examples(validation), examples(validation)
    return Dataset("noise", *splits, classes, "sha256:0", "random", middle, middle)


def epoch_by_hand(model: nn.Module, data: Dataset, batch: int) -> None:
    """One epoch and its validation, written out: what `fit` does for one seed, without its books."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    model.train()
    for index in torch.randperm(len(data.train)).split(batch):
        logits = model(normalise(data.train.inputs[index], mean, std))
        F.cross_entropy(logits, data.train.labels[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        logits = model(normalise(data.validation.inputs, mean, std))
        F.cross_entropy(logits, data.validation.labels).item()


def loop(shape: ViTShape = SHAPE, batch: int = 64, train: int = 512, validation: int = 64) -> list[Case]:
    """`fit` beside a loop written by hand around the same module: one epoch each."""
    data, training = noise(shape, train, validation), Training(epochs=1, batch_size=batch)
    image, full = data.shape, Variant(width=shape.width, hidden=shape.hidden, depth=shape.depth, heads=HEADS)
    variants = {
        "full": full,
        "minimum": replace(full, mlp=False, query_key="collapsed", value_output="dropped", heads=1),
    }

    def case(title: str, variant: Variant) -> Case:
        def model() -> ViT:
            return variant.model(image, shape.patch_size, shape.classes, seed=0)

        def fitted() -> Competitor:
            mine = model()
            return Competitor(lambda: fit(mine, data, training, seeds=[0], ledger=Ledger()))

        return Case(
            title,
            "by hand",
            {"by hand": lambda: Competitor(partial(epoch_by_hand, model(), data, batch)), "fit": fitted},
        )

    return [case(f"{title}, {-(-train // batch)} steps", variant) for title, variant in variants.items()]


def imports() -> list[Case]:
    """Start-up: a fresh process that imports torch, and what a notebook or the terminal imports of effi."""
    statements = {
        "torch": "import torch",
        "effi": "import effi",
        "effi in the terminal": "import effi.cli",
        "effi in a notebook": NOTEBOOK,
        "python": "pass",
    }

    def process(statement: str) -> Competitor:
        return Competitor(lambda: subprocess.run([sys.executable, "-c", statement], check=True))

    return [Case("import", "torch", {name: partial(process, text) for name, text in statements.items()})]
