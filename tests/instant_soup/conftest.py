"""Digits for all, on one thread, and masks chosen without a sample larger than the model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from effi import data as named
from effi.data import Dataset
from effi.masks import threshold
from tests.instant_soup.tiny import EXAMPLES
from tests.training.conftest import one_thread as one_thread


@pytest.fixture(scope="session")
def data() -> Dataset:
    found = named.load("digits", train=EXAMPLES, validation=80, test=80)
    assert isinstance(found, Dataset)
    return found


@pytest.fixture(autouse=True, scope="session")
def small_sample() -> Iterator[None]:
    """A mask is exact whatever sample brackets its threshold, which of a few thousand weights is most of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threshold, "SAMPLE", 2**14)
        yield
