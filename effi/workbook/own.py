"""A checkpoint of the reader's own, looked at before a kernel starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from effi import paths
from effi.errors import DataError


def check(values: Mapping[str, object]) -> None:
    """DataError for a folder given as checkpoint whose weights are a pickle, which is never read, or torn."""
    # A kernel stands in the folder of the notebooks; what is no folder from there is told by the notebook.
    folder = paths.notebooks_dir() / Path(str(values.get("checkpoint") or "")).expanduser()
    if values.get("checkpoint") and folder.is_dir():
        _check_weights(folder)


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open  # numpy is imported with it

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        held = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "none"
        raise DataError(f"{folder} holds no safetensors (other weights: {held}): save the model with save_pretrained")
    for file in files:
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise DataError(f"{file} is torn or no safetensors file ({error}): save the model again") from error
