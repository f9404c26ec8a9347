"""A round of votes and weak nets, timed on tiny shapes."""

from __future__ import annotations

from effi.bench import soups
from tests.bench.conftest import complete


def test_votes_are_timed_beside_one_mask_each() -> None:
    case = soups.votes(2, (40, 50), nets=2)
    assert (case.title, case.reference) == ("votes of 2 nets, 0 M", "magnitude, as often")
    assert list(complete(case)) == ["magnitude, as often", "union", "vote", "votes"]


def test_weak_nets_are_trained_in_three_ways() -> None:
    case = soups.weak_nets(nets=2, steps=1, batch=4)
    makers = {way: case.competitors[way] for way in ("in_turn", "stacked")}
    assert set(case.competitors) == {"in_turn", "stacked", "processes"}
    for make in makers.values():
        nets = make().step()
        assert isinstance(nets, list) and len(nets) == 2


def test_whole_runs_stand_beside_a_fine_tune_with_their_flops() -> None:
    """By arithmetic: 10 rounds of look-ahead on top of one training, 8 more trainings of LTH."""
    one_pass = soups.one_pass(epochs=8, examples=200, batch=8)
    assert one_pass.title == "ISP to 80 %, 200 steps" and one_pass.reference == "dense fine-tune"
    dense, isp = (make().flops for make in one_pass.competitors.values())
    assert dense and isp and 1 < isp / dense < 1 + 1.2 * 10 * 5 * 1 / 200
    tickets = soups.tickets(examples=16, batch=8)
    assert tickets.title == "LTH to 80 %, 4 steps"
    dense, lth = (make().flops for make in tickets.competitors.values())
    assert dense and lth == 9 * dense
