"""Digits for all, on one thread."""

from __future__ import annotations

import pytest

from effi import data as named
from effi.data import Dataset
from tests.instant_soup.tiny import EXAMPLES
from tests.training.conftest import one_thread as one_thread


@pytest.fixture(scope="session")
def data() -> Dataset:
    found = named.load("digits", train=EXAMPLES, validation=80, test=80)
    assert isinstance(found, Dataset)
    return found
