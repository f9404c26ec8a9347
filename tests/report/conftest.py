"""Every test of figures starts from the workbook's style and leaves no figure open."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from effi import report

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with mpl.rc_context():
        report.style()
        yield
    plt.close("all")
