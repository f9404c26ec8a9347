"""Triton's interpreter is chosen before triton is imported, so tests of kernels run in a process of their own.

A file interpreted_NAME.py holds them; `test_interpreted.py` runs each. By hand:
TRITON_INTERPRET=1 pytest tests/kernels/interpreted_NAME.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from effi.kernels.dispatch import interpreted
from tests.training.conftest import one_thread as one_thread


def pytest_ignore_collect(collection_path) -> bool | None:
    """Other tests would be interpreted, too."""
    if collection_path.name.startswith("interpreted_") and not interpreted():
        return True
    return None


@pytest.fixture(autouse=True)
def _no_wishes() -> Iterator[None]:
    """No test leaves a kernel asked for."""
    from effi.kernels import dispatch

    yield
    assert not dispatch._asked
