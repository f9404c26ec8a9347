"""What is pretrained on what: which published encoder reads a text here, and which images teach the small CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from effi import data
from effi.data import Dataset, Opened, TextDataset
from effi.instant_soup.settings import Model
from effi.models import clip, language

PUBLISHED = ("gpu", "paper")  # scales that run models of published size, where they are here


def published_clip(scale: str) -> bool:
    """Whether images are read by ViT-B/32: at scales of published size, where its checkpoint is here."""
    return scale in PUBLISHED and clip.find_checkpoint() is not None


def text_model(one: Opened, scale: str) -> tuple[Opened, Model]:
    """The same texts in the ids of an encoder, and that encoder, which tells two sentences in one apart.

    BERT-base at scales of published size where it is here, else MiniLM; DataError where both lack.
    """
    bert = scale in PUBLISHED and language.find_checkpoint("bert") is not None
    kind: Literal["bert", "minilm"] = "bert" if bert else "minilm"
    read = one.read_by(Path(language.need_checkpoint(kind)) / "tokenizer.json")
    return read, Model(kind, full=bert, length=one.subset["length"], pairs=_pairs(read.data))


def reader(model: Model, scale: str) -> str:
    """What reads a group, in words; at scales of published size also why that is not the published model."""
    if model.kind == "clip":
        read = f"CLIP from {Path(str(clip.find_checkpoint())).name}" if model.full else "a small CLIP, pretrained below"
        return read if model.full else f"{read}{_lacking(clip.NAMES[0], scale)}"
    read = f"an encoder from {Path(language.need_checkpoint(model.kind)).name}"
    return read if model.full else f"{read}{_lacking(language.NAMES['bert'][0], scale)}"


def _lacking(folder: str, scale: str) -> str:
    if scale not in PUBLISHED:
        return ""
    return f"; no {folder} with config.json, tokenizer.json and safetensors is in $EFFI_DATA or the hub's cache"


def taught(pictures: Sequence[str]) -> tuple[str, ...]:
    """What a small CLIP is pretrained on: CIFAR-10 and MNIST; digits where these are not here, and for digits."""
    return ("digits",) if "digits" in pictures else data.resolve("auto", ("cifar10", "mnist"))[0]


def _pairs(texts: Dataset | TextDataset) -> bool:
    """Whether a text ends twice: once for each of its sentences."""
    assert isinstance(texts, TextDataset) and texts.tokenizer is not None
    return bool(((texts.train.inputs == texts.tokenizer.special[3]).sum(1) > 1).any())
