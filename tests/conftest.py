"""A cache of the tests' own, and the order of files: the long ones first, so that none is waited for at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from effi.records import remembered


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hashes of sources that no earlier run, and no user, has left."""
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("caches") / "sources.json"
        patch.setattr(remembered, "place", lambda: file)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that hold slow tests before the others, each in its own order."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
