"""Which models a scale runs: of published size or small; language models by checkpoint or pretrained here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from effi.early_bird.building import VISION
from effi.early_bird.settings import Model
from effi.models import language
from effi.training import Training

LANGUAGE: tuple[language.Kind, ...] = ("gpt2", "roberta", "minilm")
PUBLISHED = ("gpu", "paper")  # scales that run models of published size


def kinds(scale: str) -> tuple[str, ...]:
    """Kinds of model; of published size the language models whose checkpoint is here, MiniLM for want of both.

    At hours scale MiniLM alone, or no text where it is not here.
    """
    here = [kind for kind in LANGUAGE if language.find_checkpoint(kind)]
    if scale == "hours":
        return (*VISION, *(kind for kind in here if kind == "minilm"))
    found = here if scale in PUBLISHED else []
    named = [kind for kind in found if kind != "minilm"] or found
    return (*VISION, *(named or LANGUAGE[:2]))


def vision_model(kind: str, small: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """A vision model with `small` sizes and `options` on top; without either it is the published one."""
    return Model(kind, {**small, **options}, full=not (small or options))


def text_model(kind: str, small: Mapping[str, Any], *, length: int, pretraining: Training, published: bool) -> Model:
    """A language model from its checkpoint where sizes are to be published, else a small one that is pretrained.

    MiniLM is always its checkpoint; DataError when there is none.
    """
    named = cast(language.Kind, kind)
    if kind == "minilm":
        language.need_checkpoint(named)
    if kind == "minilm" or (published and language.find_checkpoint(named)):
        return Model(kind, full=True, length=length, checkpoint=True)
    return Model(kind, small, length=length, pretraining=pretraining)
