"""Independent random streams from one seed: initialisation, data order and augmentation share no numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, purpose: str) -> int:
    """Seed of the stream `purpose` ("init", "order", "augment", ...); stable across machines and versions."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Generator of the stream `purpose` on `device`."""
    return torch.Generator(device).manual_seed(derive(seed, purpose))


@contextmanager
def seeded(seed: int, purpose: str = "init", device: str | torch.device = "cpu") -> Iterator[None]:
    """Draw from the stream `purpose` inside the block, and leave the generators of CPU and `device` as they were."""
    device = torch.device(device)
    gpus = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        for drawn in (torch.default_generator, *(torch.cuda.default_generators[gpu] for gpu in gpus)):
            drawn.manual_seed(derive(seed, purpose))
        yield
