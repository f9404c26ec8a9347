"""A data set of noise with four classes told apart by brightness, small enough for a fit in milliseconds."""

from __future__ import annotations

import pytest
import torch

from effi.data import Dataset, Examples
from effi.data.transforms import statistics


def examples(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    noise = torch.randint(0, 120, (count, 3, 8, 8), generator=generator)
    return Examples((noise + 45 * labels[:, None, None, None]).to(torch.uint8), labels)


@pytest.fixture(scope="session")
def data() -> Dataset:
    """40 training images: batches of 16 leave a last one of 8."""
    train, validation, test = examples(40, 0), examples(12, 1), examples(20, 2)
    mean, std = statistics(train.inputs)
    return Dataset("noise", train, validation, test, tuple("abcd"), "sha256:0", "made up", mean, std)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Bits are the same on one machine with one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
