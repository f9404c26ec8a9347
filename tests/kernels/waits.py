"""Counts where a host would wait for its GPU, on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

WAITING = {
    "tolist",
    "item",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "nonzero",
    "masked_select",
    "cpu",
    "equal",
}


class Waits(TorchFunctionMode):
    """While it stands, `names` gathers the calls that need a number, or a shape, which the device alone knows."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in WAITING:
            self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))
