"""Which bits a machine computes: the model of its GPU, or of its CPU with the instructions in use."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from pathlib import Path

import torch

from effi.errors import ParameterError

# Beyond the vector width, which torch names: what matrix products in short floats are computed with.
INSTRUCTIONS = {"avx512_bf16": "bf16", "avx512_fp16": "fp16", "amx_tile": "amx", "bf16": "bf16", "sve2": "sve2"}
CPUINFO = Path("/proc/cpuinfo")


def device_class(device: str) -> str:
    """GPU or CPU behind a device: another one computes other bits. ParameterError when it is not there."""
    kind = torch.device(device)
    if kind.type != "cuda":
        return cpu() if kind.type == "cpu" else kind.type
    if not torch.cuda.is_available() or (kind.index or 0) >= torch.cuda.device_count():
        raise ParameterError(f'device "{device}" is not there; set device="cpu" or run where torch sees a GPU')
    return torch.cuda.get_device_name(kind)


def cpu() -> str:
    """For example "AMD EPYC, family 25 model 17 stepping 1, AVX512 bf16".

    Makers sell several generations under one name; and the same processor computes other bits with other instructions.
    """
    said = _cpuinfo()
    name = said.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{word} {said[key]}" for word, key in _NUMBERS.items() if key in said]
    flags = set(said.get("flags", said.get("features", "")).split())
    used = [torch.backends.cpu.get_cpu_capability(), *(word for flag, word in INSTRUCTIONS.items() if flag in flags)]
    return ", ".join(filter(None, (name, " ".join(numbers), " ".join(used))))


_NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}


def _cpuinfo() -> dict[str, str]:
    """What Linux says of its first processor, by lower-case name; empty elsewhere."""
    with suppress(OSError):
        first = CPUINFO.read_text().partition("\n\n")[0]
        return {name.lower(): value for name, value in re.findall(r"^([^:\n]+?)\s*:[ \t]*(.*)$", first, re.MULTILINE)}
    return {}
