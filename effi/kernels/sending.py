"""Numbers of the host on a GPU, before which nothing waits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(values: Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    """Whole numbers (N,), int64, on a device; they leave from pinned memory, as others would be waited for."""
    found = torch.from_numpy(np.asarray(values, dtype=np.int64))
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found.to(device)
