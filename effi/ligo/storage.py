"""Growth operators as files: what a pair of models taught, for every other pair of the same shapes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from effi import paths
from effi.errors import DataError, ParameterError
from effi.ligo.operator import GrowthOperator

OPTIONS = "growth"  # where the file's header keeps them, as JSON


def save(operator: GrowthOperator, file: str | Path) -> None:
    """Write the coefficients as safetensors with the operator's options; no weight of either model is among them."""
    from safetensors.torch import save as content_of

    tensors = {name: value.detach().cpu().contiguous() for name, value in operator.named_parameters()}
    paths.replace(Path(file), content_of(tensors, {OPTIONS: json.dumps(asdict(operator.options))}))


def load(file: str | Path, small: nn.Module, large: nn.Module) -> GrowthOperator:
    """The operator of a file for a pair of models of its shapes, not only for the pair that it was learned with.

    DataError for a file that is no operator; ParameterError for models that are no pair, or one of other shapes.
    """
    options, tensors = _read(Path(file))
    operator = GrowthOperator(small, large, **options)
    own = dict(operator.named_parameters())
    for name in [*own, *tensors]:
        shapes = [tuple(each[name].shape) if name in each else "none" for each in (tensors, own)]
        if shapes[0] != shapes[1]:
            raise ParameterError(
                f"the operator in {file} is for other shapes: {name} is {shapes[0]} there and {shapes[1]} for these "
                "models; give a pair of the shapes that it was learned with"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    return operator


def _read(file: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            return json.loads(header[OPTIONS]), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{file} is no growth operator ({error}): give a file that save() wrote") from error
