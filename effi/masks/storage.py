"""What a ticket weighs on disk, format by format: closed forms beside measured files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.masks.fit import Mask, check_fit
from effi.masks.packing import pack

Format = Literal["dense", "dense+mask", "csr", "bitmap"]
INDEX_BYTES = 4


def formats(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, int]:
    """Format -> bytes in closed form: CSR a value and a 4-byte index per survivor, row pointers ignored; bitmap a bit
    per weight and the survivors' values. ParameterError when the mask does not fit.
    """
    check_fit(mask, weights, "the model")
    item = {name: weight.element_size() for name, weight in weights.items()}
    alive = {name: int(mask[name].count_nonzero()) for name in weights}
    dense = sum(item[name] * weight.numel() for name, weight in weights.items())
    bits, values = _bytes_of_bits(mask), sum(item[name] * alive[name] for name in weights)
    csr = values + INDEX_BYTES * sum(alive.values())
    return {"dense": dense, "dense+mask": dense + bits, "csr": csr, "bitmap": bits + values}


def file_formats(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, int]:
    """Format -> bytes of a safetensors file with it, row pointers and header included."""
    return {kind: _file_bytes(encode(weights, mask, kind)) for kind in get_args(Format)}


def encode(weights: Mapping[str, Tensor], mask: Mask, format: Format) -> dict[str, Tensor]:
    """Tensors from which the masked weights can be read again; "mask" holds the bits of `pack`.

    CSR: "<name>.values", "<name>.columns" and "<name>.rows" as in `scipy.sparse.csr_matrix`; bitmap: "<name>" holds the
    survivors in flat order.
    """
    check_fit(mask, weights, "the model")
    dense = {name: (weight.detach() * mask[name]).contiguous() for name, weight in weights.items()}
    if format == "dense":
        return dense
    if format == "dense+mask":
        return dense | {"mask": pack(mask)}
    if format == "bitmap":
        return {name: weight.detach()[mask[name]] for name, weight in weights.items()} | {"mask": pack(mask)}
    if format == "csr":
        return {f"{name}.{part}": value for name in weights for part, value in _csr(weights[name], mask[name]).items()}
    raise ParameterError(f'format "{format}" is unknown; choose one of {", ".join(get_args(Format))}')


def _csr(weight: Tensor, kept: Tensor) -> dict[str, Tensor]:
    rows = torch.nn.functional.pad(kept.count_nonzero(1).cumsum(0), (1, 0))
    return {"values": weight.detach()[kept], "columns": kept.nonzero()[:, 1].int(), "rows": rows.int()}


def _bytes_of_bits(mask: Mask) -> int:
    return -(-sum(kept.numel() for kept in mask.values()) // 8)


def _file_bytes(tensors: dict[str, Tensor]) -> int:
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file(tensors, file)
        return file.stat().st_size
