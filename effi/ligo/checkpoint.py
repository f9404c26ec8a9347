"""A reader's own checkpoint of a GPT-2 as the small model of a pair."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from effi.errors import DataError
from effi.ligo.settings import Model, Pair, Source
from effi.models.gpt import EPSILON
from effi.models.language import TextSize
from effi.models.library import silent, stored_config


def tokenizer_of(folder: str | Path) -> Path:
    """The tokenizer.json beside the weights; DataError without it, as no other text has the same ids."""
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"{folder} has no tokenizer.json, without which no text has its ids: put it beside the weights")
    return file


def own_pair(folder: str | Path, large: TextSize) -> tuple[Pair, Source]:
    """A GPT-2 in a folder with a model of another size like it, and how it is found again.

    DataError for a folder without config.json and safetensors, of another architecture, or whose net computes what our
    GPT does not.
    """
    with silent() as library:
        config = stored_config(library, folder, "gpt2", "growing", hub=False)
    _check(folder, config)
    size = TextSize(config.n_embd, config.n_layer, config.n_head, config.n_inner or 4 * config.n_embd)
    exact = config.activation_function == "gelu"
    own: dict[str, Any] = {"context": config.n_positions, "vocabulary": config.vocab_size, "bias": True}
    small = Model("gpt", size, **own, gelu="none" if exact else "tanh")
    return Pair(small, replace(small, size=large)), Source(small, None, str(folder), _checksum(Path(folder)))


def _check(folder: str | Path, config: Any) -> None:
    wanted: dict[str, tuple[object, ...]] = {"layer_norm_epsilon": (EPSILON,), "tie_word_embeddings": (True,)}
    wanted |= {"activation_function": ("gelu", "gelu_new"), "scale_attn_weights": (True,)}
    wanted |= {"scale_attn_by_inverse_layer_idx": (False,)}
    for name, values in wanted.items():
        if (theirs := getattr(config, name)) not in values:
            raise DataError(f"{folder} has {name}={theirs}, and what is grown here has {values[0]}: give another one")


def _checksum(folder: Path) -> str:
    content = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        content.update(file.read_bytes())
    return f"sha256:{content.hexdigest()}"
