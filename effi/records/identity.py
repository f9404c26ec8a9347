"""When two runs are the same run: a hash over everything that can change a result, and over nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from effi.errors import ParameterError

# Parameters that cannot change a result, or that the identity holds in a better form (scale, class of device).
UNCOUNTED = frozenset({"results_dir", "price_per_gpu_hour", "seeds", "dry_run", "scale", "device"})


def identity(parts: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON."""
    return digest(canonical(parts, "identity"))


def digest(plain: Any) -> str:
    """The same of what is plain JSON already; tuples count as lists, keys in any order."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical(value: Any, name: str = "settings") -> Any:
    """Plain JSON of nested dataclasses, enums, tuples and paths; ParameterError names the key that has none."""
    return _plain(value, name, whole=True)


def essential(value: Any, name: str = "settings") -> Any:
    """As `canonical`, but of a dataclass its class and what differs from a default: a new field changes no identity."""
    return _plain(value, name, whole=False)


def non_default(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical parameters that differ from their default and can change a result."""
    given = {name: canonical(value, name) for name, value in parameters.items() if name not in UNCOUNTED}
    usual = {name: canonical(value, name) for name, value in defaults.items() if name in given}
    return {name: value for name, value in given.items() if name not in usual or usual[name] != value}


def agree(one: Any, other: Any) -> bool:
    """Whether two plain values are equal but for keys that only one of them has, at any depth."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(agree(value, other[key]) for key, value in one.items() if key in other)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(agree, one, other))
    return bool(one == other)


def _plain(value: Any, name: str, whole: bool) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, name, whole)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{index}]", whole) for index, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in fields(value) if whole or not _usual(value, field)}
        plain = {key: _plain(item, f"{name}.{key}", whole) for key, item in held.items()}
        return plain if whole else {"class": type(value).__name__, **plain}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{name}.{key}", whole) for key, item in value.items()}
    shown = value if isinstance(value, float) else f"a {type(value).__name__}"
    raise ParameterError(
        f"{name} is {shown}, which has no JSON form; use finite numbers, text, lists, dataclasses, enums, paths "
        "or dicts with text keys"
    )


def _usual(owner: Any, field: Field[Any]) -> bool:
    """Whether a field of a dataclass has its default."""
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return default is not MISSING and bool(getattr(owner, field.name) == default)
