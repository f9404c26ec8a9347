"""Models as an arm finds them: pretrained, with a head for its classes; and the pairs that CLIP is pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from effi.data import Dataset, Examples, tokens
from effi.data.tokens import Tokenizer
from effi.data.transforms import statistics

CHANNELS = 3


def words_of(name: str) -> str:
    """A class's name as a prompt tells it: a digit as one."""
    return f"digit {name}" if name.isdigit() else name.replace("_", " ")


def prompts(classes: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every template filled with every class."""
    return [[template.format(words_of(name)) for template in templates] for name in classes]


def tokenizer_of(classes: Sequence[str], templates: Sequence[str]) -> Tokenizer:
    """A tokenizer trained on the prompts alone."""
    return tokens.train((text for each in prompts(classes, templates) for text in each), tokens.SMALLEST + 64)


def captions(words: Tokenizer, classes: Sequence[str], templates: Sequence[str], length: int) -> Tensor:
    """Ids int64 (classes, prompts, length)."""
    return torch.stack([words.rows(texts, length).long() for texts in prompts(classes, templates)])


def coloured(data: Dataset) -> Dataset:
    """The same images in three channels."""
    if data.shape[0] == CHANNELS:
        return data
    wide = (Examples(part.inputs.expand(-1, CHANNELS, -1, -1), part.labels) for part in data.splits.values())
    train, validation, test = wide
    mean, std = data.mean * CHANNELS, data.std * CHANNELS
    return replace(data, train=train, validation=validation, test=test, mean=mean, std=std)


def gathered(sets: Sequence[Dataset]) -> Dataset:
    """Images of several sets as one, in three channels, with the classes of all in turn."""
    wide = [coloured(each) for each in sets]
    starts = [sum(len(each.classes) for each in wide[:place]) for place in range(len(wide))]
    parts = [
        Examples(
            torch.cat([part.inputs for part in split]),
            torch.cat([part.labels + start for part, start in zip(split, starts, strict=True)]),
        )
        for split in zip(*(each.splits.values() for each in wide), strict=True)
    ]
    mean, std = statistics(parts[0].inputs.cpu())
    return replace(
        wide[0],
        name="+".join(each.name for each in sets),
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        classes=tuple(name for each in wide for name in each.classes),
        mean=mean,
        std=std,
    )


def seen_as(data: Dataset, other: Dataset) -> Dataset:
    """Images normalised as another set's are, as a pretrained model wants them."""
    return replace(coloured(data), mean=other.mean, std=other.std)
