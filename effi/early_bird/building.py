"""The models of this paper as a training finds them, and a smaller one of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any, cast

from torch import nn

from effi import masks
from effi.data import Dataset, TextDataset
from effi.early_bird.settings import Model
from effi.models import language
from effi.models.swin import swin
from effi.models.vision import cifar_vit

Data = Dataset | TextDataset
VISION: Mapping[str, Callable[..., nn.Module]] = {"vit": cifar_vit, "swin": swin}


def build(model: Model, data: Data, seed: int) -> nn.Module:
    """A classifier on the CPU: new weights of `seed`, or those of a checkpoint and a new head."""
    if isinstance(data, Dataset):
        channels, side, _ = data.shape
        shape = {"channels": channels, "image_size": side}
        return VISION[model.kind](len(data.classes), **shape, **model.options, seed=seed)
    return language.classifier(_kind(model), len(data.classes), **_text_options(model, data), seed=seed)


def build_language_model(model: Model, data: TextDataset, seed: int) -> language.TextModel:
    """The same text model with its output over the vocabulary, for pretraining."""
    return language.language_model(_kind(model), **_text_options(model, data), seed=seed)


def _kind(model: Model) -> language.Kind:
    return cast(language.Kind, model.kind)


def _text_options(model: Model, data: TextDataset) -> dict[str, Any]:
    """Sizes of a language model, or the checkpoint that brings its own."""
    sizes = {"vocabulary": data.vocabulary, "length": model.length}
    if model.checkpoint:
        return sizes | {"checkpoint": language.need_checkpoint(_kind(model)), "pad": data.pad}
    size = {name: value for name, value in model.options.items() if name != "dropout"}
    return sizes | {"size": language.TextSize(**size), "dropout": model.options["dropout"]}


def narrow(options: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    """Options of a dense ViT with as many prunable weights as a ticket leaves alive of a ViT with `options`.

    As nearly as whole numbers allow, by any width that the heads divide and a hidden width at most twice as far from
    it, or half, as in `options` where there is such a shape.
    """
    base = {name: each.default for name, each in signature(cifar_vit).parameters.items()} | dict(options)
    count = partial(_prunable, base["depth"])
    whole = count(base["width"], base["hidden"])
    wanted = whole - masks.pruned_count(ratio, whole)
    free = ((w, round((wanted / base["depth"] - 4 * w * w) / (2 * w))) for w in _widths(base))
    shapes = [(w, hidden) for w, hidden in free if hidden > 0]
    like = [(w, hidden) for w, hidden in shapes if 1 / 2 <= hidden / w * base["width"] / base["hidden"] <= 2]
    width, hidden = min(like or shapes, key=lambda shape: abs(count(*shape) - wanted))
    return {**options, "width": width, "hidden": hidden, "heads": base["heads"]}


def _prunable(depth: int, width: int, hidden: int) -> int:
    return depth * (4 * width * width + 2 * width * hidden)


def _widths(base: Mapping[str, Any]) -> range:
    return range(base["heads"], 1 + base["width"], base["heads"])
