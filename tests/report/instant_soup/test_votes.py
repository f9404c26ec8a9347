"""What weak nets agree on, from the votes that records keep."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pytest

from effi.claims import Results
from effi.errors import RecordError
from effi.report.instant_soup import agreement, vote_curves
from tests.report.synthetic import trained


def told(seed: int, **changes: list[float]) -> dict[str, Any]:
    """Two rounds of three masks, and a last cut alone, which asks none."""
    votes = {0: [0.1, 0.2, 0.0], 1: [0.1, 0.0, 0.0], 2: [0.2, 0.0, 0.0], 3: [0.6, 0.8, 0.0]}
    history = {f"prune/votes/{count}": shares for count, shares in votes.items()}
    history |= {"prune/moved": [0.1, 0.1, 0.0], "prune/before": [0.0, 0.1, 0.4], "prune/after": [0.1, 0.4, 0.9]}
    history |= {"prune/nominal": [0.2, 0.28, 0.9], "prune/final": [0.0, 0.3, 0.5]} | changes
    return trained("d/clip/isp-0.9", seed, 0.8) | {"history": history}


def test_agreement_is_counted_from_votes() -> None:
    first, second = agreement(Results([told(0), told(1)]), "d/clip/isp-0.9")
    assert first.before.tolist() == [0.0, 0.1] == second.before.tolist()
    # Of ten weights a mask prunes (1 x 3 + 1 x 2 + 2 x 1) / 3, a pair both prune (1 x 3 + 1 x 1) / 3 of them.
    pruned, shared = 7 / 3, 4 / 3
    assert first.overlap.tolist() == pytest.approx([shared / (2 * pruned - shared), 1.0])
    assert first.chance.tolist() == pytest.approx([0.7 / 3 / (2 - 0.7 / 3), 0.2 / 1.8])
    # Of the second round 30 % of what is pruned by its end is a cut by magnitude.
    assert first.pruned.tolist() == pytest.approx([0.1, (0.4 * 0.7 - 0.1) / 0.9])
    assert first.asked.tolist() == pytest.approx([0.2, 0.2])


def test_an_arm_without_votes_is_named() -> None:
    with pytest.raises(RecordError, match="d/dense holds no votes"):
        agreement(Results([trained("d/dense", 0, 0.8)]), "d/dense")
    with pytest.raises(RecordError, match="holds no votes"):
        agreement(Results([told(0), trained("d/clip/isp-0.9", 1, 0.8)]), "d/clip/isp-0.9")


def test_the_figure_has_a_line_and_its_reference_per_seed() -> None:
    figure = vote_curves(Results([told(0), told(1)]), ["d/clip/isp-0.9"], title="do they?")
    left, right = figure.axes
    drawn = [line for line in left.lines if len(line.get_xdata())]
    assert len(drawn) == 4 and drawn[0].get_ydata()[1] == 1.0
    assert right.lines[0].get_ydata()[0] == pytest.approx(10.0) and right.lines[1].get_ydata()[0] == pytest.approx(20.0)
    plt.close(figure)
