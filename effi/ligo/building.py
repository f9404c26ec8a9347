"""Models of a pair and the data that they read: corpora for language models, images for classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from effi.data import Dataset, Opened, catalogue, open_parts
from effi.data.windows import open_corpora
from effi.errors import ParameterError
from effi.ligo.settings import Kind, Model
from effi.ligo.task import Data
from effi.models.gpt import GPT
from effi.models.language import language_model
from effi.models.vit import ViT, ViTShape
from effi.training import Classification, LanguageModelling, Objective


def open_data(
    names: Iterable[str],
    parts: Mapping[str, Mapping[str, Any]],
    *,
    scale: str,
    device: str | torch.device,
    whole: Mapping[str, Mapping[str, Any]],
) -> dict[str, Opened]:
    """Name in records -> images or a corpus: of named ones the part that `parts` has at small scales, else the whole.

    Rows of `parts`, and of `whole` by kind ("images" or "text"), hold options of `effi.data.load` or
    `open_corpora`. Errors of both.
    """
    opened: dict[str, Opened] = {}
    for name in names:
        if catalogue.kind(name) == "images":
            opened |= open_parts([name], parts, scale=scale, device=device, whole=whole)
        else:
            opened |= open_corpora([name], parts, scale=scale, device=device, whole=whole.get("text", {}))
    return opened


def readers(opened: Mapping[str, Opened], kinds: Sequence[Kind]) -> list[tuple[Opened, Kind]]:
    """Each data set with the kinds of models that read it, kind by kind. ParameterError where none does."""
    found = [
        (one, kind) for kind in kinds for one in opened.values() if isinstance(one.data, Dataset) == (kind == "vit")
    ]
    if not found:
        raise ParameterError(
            f"no {' or '.join(kinds)} reads {', '.join(opened)}: take vit for images, gpt or bert for text"
        )
    return found


def build(model: Model, data: Data, seed: int, depth: int | None = None) -> nn.Module:
    """A new model for this data, with weights of the seed, on its device; of another depth if one is given.

    ParameterError for a kind that does not read such data.
    """
    size = model.size if depth is None else replace(model.size, depth=depth)
    device = data.train.inputs.device
    if isinstance(data, Dataset) != (model.kind == "vit"):
        raise ParameterError(f"a {model.kind} does not read {data.name}: take vit for images, gpt or bert for text")
    if isinstance(data, Dataset):
        return _vit(replace(model, size=size), data, seed).to(device)
    length = data.train.inputs.shape[1]
    if model.kind == "gpt":
        own: dict[str, Any] = {"bias": model.bias, "gelu": model.gelu, "std": model.std, "seed": seed}
        return GPT(max(data.vocabulary, model.vocabulary), max(length, model.context), size, **own).to(device)
    own = {"vocabulary": data.vocabulary, "length": length, "pad": max(0, data.pad)}
    return language_model("bert", size=size, dropout=model.dropout, seed=seed, **own).to(device)


def _vit(model: Model, data: Dataset, seed: int) -> ViT:
    """As DeiT: pre-norm, a class token, learned positions, a norm before the head."""
    channels, side, _ = data.shape
    size = model.size
    shape = ViTShape(
        image_size=side,
        patch_size=model.patch,
        channels=channels,
        classes=len(data.classes),
        width=size.width,
        depth=size.depth,
        hidden=size.hidden,
        final_norm=True,
        pool="cls",
        positions="learned",
    )
    return ViT(shape, heads=size.heads, seed=seed)


def objective_of(data: Data) -> Objective:
    """Classes of images are told apart, tokens of texts predicted."""
    return Classification() if isinstance(data, Dataset) else LanguageModelling()
