"""Models and data small enough for a training in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from effi.data import IGNORED, Dataset, Examples, TextDataset
from effi.data.transforms import statistics
from effi.models.vit import ViT, ViTShape
from effi.seeds import generator

SHAPE = ViTShape(image_size=8, patch_size=4, channels=3, classes=4, width=8, depth=1, hidden=12)
PER_EPOCH = 3  # steps of 16, 16 and 8 of the 40 images
WORDS = 30


def vit(seed: int = 0, **changes: object) -> ViT:
    return ViT(replace(SHAPE, **changes), heads=2, seed=seed)


def examples(count: int, seed: int) -> Examples:
    """Images of noise with four classes told apart by brightness."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    noise = torch.randint(0, 120, (count, 3, 8, 8), generator=draw)
    return Examples((noise + 45 * labels[:, None, None, None]).to(torch.uint8), labels)


def images() -> Dataset:
    """40 training images: batches of 16 leave a last one of 8."""
    train, validation, test = examples(40, 0), examples(12, 1), examples(20, 2)
    mean, std = statistics(train.inputs)
    return Dataset("noise", train, validation, test, tuple("abcd"), "sha256:0", "made up", mean, std)


def numbers(data: Dataset) -> Dataset:
    """The same images, to be told their mean brightness."""
    parts = {
        name: Examples(part.inputs, part.inputs.float().mean((1, 2, 3)) / 100)
        for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))
    }
    return replace(data, **parts, classes=())


def sentences(rows: int = 20, tokens: int = 6, *, ignored: float = 0.4) -> TextDataset:
    """Each token is labelled with its double modulo WORDS; a share of the labels counts nowhere."""
    draw = torch.Generator().manual_seed(7)

    def part(count: int) -> Examples:
        ids = torch.randint(1, WORDS, (count, tokens), generator=draw, dtype=torch.int32)
        hidden = torch.rand(count, tokens, generator=draw) < ignored
        return Examples(ids, (2 * ids.long() % WORDS).masked_fill(hidden, IGNORED))

    parts = part(rows), part(7), part(9)
    return TextDataset("doubles", *parts, (), "sha256:0", "made up", WORDS, parts[0].inputs)


class Reader(nn.Module):
    """Ids (B, T) -> logits (B, T, WORDS), each token for itself, also in two halves."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(WORDS, 8), nn.Linear(8, 8), nn.Linear(8, WORDS)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator(seed, "init")) / 3)

    def hidden(self, ids: Tensor) -> Tensor:
        return self.layer(self.embedding(ids)).tanh()

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.hidden(ids))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the gradients."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def first_batch(count: int, size: int, seed: int = 0) -> Tensor:
    """Indices of the first batch of a training."""
    return torch.randperm(count, generator=generator(seed, "order"))[:size]
