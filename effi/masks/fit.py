"""The type of a mask, and the check that two things speak of the same weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from effi.errors import ParameterError

Mask = dict[str, Tensor]


def check_fit(mask: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str = "the other mask") -> None:
    """ParameterError that names a tensor which only one of the two has, or has in another shape."""
    for name in [*mask, *weights]:
        if name not in weights:
            raise ParameterError(f'the mask has "{name}" and {what} has not; make both from the same weights')
        if name not in mask:
            raise ParameterError(f'{what} has "{name}" and the mask has not; make both from the same weights')
        if mask[name].shape != weights[name].shape:
            raise ParameterError(
                f'"{name}" has shape {tuple(mask[name].shape)} in the mask and {tuple(weights[name].shape)} in {what}; '
                "make both from the same weights"
            )
