"""What an arm is called: data set, model, variant and ratio, kept apart, so that nothing takes a name to pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from effi.errors import ParameterError, did_you_mean

AnyName = TypeVar("AnyName", bound="Name | str")
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Name:
    """An arm's name; its text is, for example, cifar10/vit/eb-0.3. A data set may hold slashes of its own."""

    dataset: str
    model: str | None
    variant: str
    ratio: float | None = None

    @property
    def short(self) -> str:
        """Variant and ratio, as an arm is called among those of one data set and model: eb-0.3."""
        return self.variant if self.ratio is None else f"{self.variant}-{self.ratio:g}"

    def __str__(self) -> str:
        return "/".join(filter(None, (self.dataset, self.model, self.short)))


def fields(name: Name | str) -> dict[str, Any]:
    """What a record says of its arm: arm (the text), dataset, model, variant and ratio; null for a plain text."""
    parts = asdict(name) if isinstance(name, Name) else dict.fromkeys(("dataset", "model", "variant", "ratio"))
    return {"arm": str(name), **parts}


def keep_only(
    experiment: Mapping[AnyName, Setting], only: Sequence[str], always: Sequence[str] = ("dense",)
) -> dict[AnyName, Setting]:
    """Arms whose variant, with its ratio, is in `only`, and those in `always` (the baseline); all for an empty `only`.

    ParameterError for a word in `only` that names no arm.
    """
    known = dict.fromkeys(map(_short, experiment))
    for name in only:
        if name not in known:
            raise ParameterError(f"only={list(only)}: there is no arm {name!r}{did_you_mean(name, known)}")
    kept = {*only, *always} if only else {*known}
    return {name: settings for name, settings in experiment.items() if _short(name) in kept}


def _short(name: Name | str) -> str:
    return name.short if isinstance(name, Name) else name
