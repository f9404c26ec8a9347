"""The transformers library, silent, and the checkpoints it reads: safetensors alone, as a pickle could run code."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from effi.data.files import searched
from effi.errors import DataError, ParameterError


@contextmanager
def silent() -> Iterator[Any]:
    """The transformers library, which says nothing inside the block."""
    # Its progress bars warn at import in notebooks that have no widgets, and a warning would fail their tests.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
        from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def stored_config(library: Any, checkpoint: str | Path, expected: str, wanted_by: str, *, hub: bool) -> Any:
    """A checkpoint's configuration; DataError for one that cannot be read or is of another architecture."""
    with _readable(checkpoint):
        config = library.AutoConfig.from_pretrained(str(checkpoint), local_files_only=not hub)
    if config.model_type != expected:
        raise DataError(f"{checkpoint} holds a {config.model_type} model: {wanted_by} needs a {expected} one")
    return config


def stored_net(made: Any, config: Any, checkpoint: str | Path, *, hub: bool, whole: bool = False) -> Any:
    """A network with a checkpoint's weights in fp32, to be trained; what it lacks, such as a head, is drawn.

    DataError for one that cannot be read, or that lacks something where it must be `whole`.
    """
    options = {"config": config, "local_files_only": not hub, "use_safetensors": True, "dtype": torch.float32}
    with _readable(checkpoint):
        net, found = made.from_pretrained(str(checkpoint), **options, output_loading_info=True)
    if whole and found["missing_keys"]:
        raise DataError(f"{checkpoint} has no weights {min(found['missing_keys'])}: give a folder of a whole model")
    return net.train()


def check_texts(ids: int, positions: int, vocabulary: int, length: int) -> None:
    """ParameterError where texts of `length` in a `vocabulary` do not fit a checkpoint's ids and positions."""
    if vocabulary > ids or length > positions:
        raise ParameterError(
            f"the checkpoint has {ids} ids and {positions} positions: {vocabulary} ids and texts of {length} need its "
            "own tokenizer and shorter texts"
        )


def find(folder: str, names: Iterable[str], more: Sequence[Path] = ()) -> str | None:
    """Folder of a checkpoint on this machine: `folder` among the data, names in the hub's cache, or one of `more`."""
    folders = [*(root / folder for root in searched()), *cached(names), *more]
    return next((str(each) for each in folders if complete(each)), None)


def cached(names: Iterable[str]) -> Iterator[Path]:
    """Folders in the hub's cache that have a configuration of one of the names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in silent
        from huggingface_hub import try_to_load_from_cache

    for name in names:
        if isinstance(file := try_to_load_from_cache(name, "config.json"), str):
            yield Path(file).parent


def complete(folder: Path) -> bool:
    """Whether a folder has a configuration and weights."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in weights)


@contextmanager
def _readable(checkpoint: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        pickled = (Path(checkpoint) / "pytorch_model.bin").is_file()
        mend = "give a folder that has them, or allow the hub"
        if pickled:
            mend = "its pytorch_model.bin is a pickle, which is never opened: save its weights as safetensors"
        raise DataError(f"{checkpoint} is no checkpoint with config.json and safetensors ({reason}): {mend}") from error
