"""From the parameters of a notebook to what it will do: scale, seeds, device and data sets, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from effi import data
from effi.errors import ParameterError, did_you_mean


@dataclass(frozen=True)
class Spec:
    """What one run of a notebook does. `plan` is the scale's own row of the notebook's table of scales."""

    scale: str
    seeds: tuple[int, ...]
    device: str
    datasets: tuple[str, ...]
    plan: Mapping[str, Any]
    notices: tuple[str, ...]

    @property
    def together(self) -> int:
        """Seeds trained side by side in one process: all on a GPU, which small models do not fill; one on a CPU."""
        return 1 if self.device == "cpu" else len(self.seeds)


def resolve(
    scale: str, seeds: Sequence[int], device: str, dataset: str, scales: Mapping[str, Mapping[str, Any]]
) -> Spec:
    """The parameters all notebooks share, resolved against the notebook's own table of scales.

    Each row of `scales` holds `seeds` and `datasets` for when none are given. On a CPU torch is set to one thread, so
    that the same machine computes the same bits. Raises ParameterError and DataError.
    """
    plan = choose("scale", scale, scales)
    found = _device(device)
    if found == "cpu":
        torch.set_num_threads(1)
    names, notice = data.resolve(dataset, plan["datasets"])
    return Spec(scale, _seeds(seeds or plan["seeds"]), found, names, plan, (notice,) if notice else ())


def choose(what: str, name: str, known: Mapping[str, Any]) -> Any:
    """known[name], or a ParameterError that lists what there is and guesses what was meant."""
    if name in known:
        return known[name]
    raise ParameterError(f"unknown {what} {name!r}{did_you_mean(name, known)}")


def options(what: type, given: Mapping[str, Any]) -> Any:
    """A dataclass of settings made from a notebook's dict of options.

    Raises ParameterError for a misspelt option, a word that the option does not know, and a value of another type.
    """
    wanted = get_type_hints(what)
    for name, value in given.items():
        _check(f"{what.__name__} {name}", choose(f"option of {what.__name__}", name, wanted), value)
    return what(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _check(what: str, wanted: Any, value: Any) -> None:
    if get_origin(wanted) is Literal:
        choose(what, value, dict.fromkeys(get_args(wanted)))
        return
    kinds = {get_origin(kind) or kind for kind in (get_args(wanted) if get_origin(wanted) is UnionType else (wanted,))}
    if type(value) not in kinds | ({int} if float in kinds else set()) | ({list} if tuple in kinds else set()):
        names = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise ParameterError(f"{what} is {value!r}; it wants {names}.")


def _device(device: str) -> str:
    choose("device", device, dict.fromkeys(("auto", "cpu", "cuda")))
    if device == "cuda" and not torch.cuda.is_available():
        raise ParameterError("device='cuda' was asked for, but torch sees no GPU here; use device='auto' or 'cpu'.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    bad = [seed for seed in seeds if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0]
    if bad or len(set(seeds)) < len(seeds):
        raise ParameterError(f"seeds={list(seeds)} must be different whole numbers from 0 on, for example [0, 1, 2].")
    return tuple(seeds)
