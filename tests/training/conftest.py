"""One data set of noise for all, on one thread."""

from __future__ import annotations

import pytest
import torch

from effi.data import Dataset
from tests.training import tiny


@pytest.fixture(scope="session")
def data() -> Dataset:
    return tiny.images()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Bits are the same on one machine with one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
