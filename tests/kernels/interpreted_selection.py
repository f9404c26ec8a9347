"""Selection by the kernels is that by sorting, and that of plain torch, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effi.kernels import selection, using
from effi.kernels.gpu import selection as kernels
from effi.kernels.selection import Keyed

HASTY = settings(max_examples=12, deadline=None, derandomize=True)
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 1e-45, -1e-45, 3e38, float("inf"), -float("inf"), 0.1])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several programs a tensor, several rounds a program, and tails everywhere."""
    monkeypatch.setattr(kernels, "BLOCK", 32)
    monkeypatch.setattr(kernels, "ROUNDS", 2)


def by_sorting(group: list[Keyed], count: int) -> list[Tensor]:
    """The definition."""
    keys = torch.cat([tensor.keys() for tensor in group])
    kept = torch.ones(len(keys), dtype=torch.bool)
    kept[keys.sort(stable=True).indices[:count]] = False
    parts = kept.split([len(tensor) for tensor in group])
    return [part.view(tensor.scores.shape) for part, tensor in zip(parts, group, strict=True)]


def check(groups: list[list[Keyed]], counts: list[int]) -> None:
    expected = [by_sorting(group, count) for group, count in zip(groups, counts, strict=True)]
    with using("selection"):
        by_kernels = selection.keep(groups, counts)
    for found in (by_kernels, selection.by_torch(groups, torch.tensor(counts))):
        for masks, wanted in zip(found, expected, strict=True):
            assert [mask.dtype for mask in masks] == [torch.bool] * len(masks)
            assert all(torch.equal(mask, want) for mask, want in zip(masks, wanted, strict=True))


def drawn(*sizes: int, kind: str = "normal", dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(sum(sizes))
    made = [torch.randn(size, generator=draw) for size in sizes]
    changes = {
        "normal": lambda w: w,
        "ties": torch.round,
        "zeros": lambda w: torch.where(w > 0, 0.0, -0.0),
        "equal": lambda w: torch.full_like(w, -0.7),
        "scales": lambda w: w * 10 ** (12 * w),
        "infinite": lambda w: torch.where(w > 0.5, torch.inf, torch.where(w < -0.5, -torch.inf, w)),
    }
    return [changes[kind](each).to(dtype) for each in made]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "equal", "scales", "infinite"])
def test_every_kind_of_scores(kind, absolute):
    """Nothing pruned, one, some, all but one, and all; odd sizes, and a tensor without elements."""
    tensors = drawn(65, 0, 1, 64, kind=kind)
    for count in (0, 1, 129, 130):
        check([[Keyed(tensor, None, absolute) for tensor in tensors]], [count])


@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_every_rank(kind):
    tensors = [Keyed(tensor, None, True) for tensor in drawn(37, 30, kind=kind)]
    for count in range(0, 68, 11):
        check([tensors], [count])


@pytest.mark.parametrize("kind", ["normal", "ties", "equal"])
def test_groups_are_apart(kind):
    """In one launch, each with a count of its own; some have several tensors, one no element."""
    a, b, c, d, e = drawn(100, 70, 33, 0, 129, kind=kind)
    groups = [[Keyed(a, None, True)], [Keyed(b, None, True), Keyed(c, None, True)], [Keyed(d, None, True)]]
    check([*groups, [Keyed(e, None, True)]], [40, 103, 0, 77])
    check([*groups, [Keyed(e, None, True)]], [0, 1, 0, 128])


@pytest.mark.parametrize("absolute", [True, False])
def test_what_is_left_out_is_pruned_first(absolute):
    """Before a score of minus infinity, and in order."""
    scores = drawn(90, 45, kind="infinite")
    flags = [score.abs() < 1 for score in drawn(90, 45)]
    tensors = [Keyed(score, flag, absolute) for score, flag in zip(scores, flags, strict=True)]
    gone = sum(int((~flag).sum()) for flag in flags)
    for count in (1, gone, gone + 7):
        check([tensors], [count])
    check([[one] for one in tensors], [60, 31])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types(dtype):
    one, two = drawn(70, 40, kind="ties", dtype=dtype)
    check([[Keyed(one, None, True), Keyed(two, None, True)]], [55])
    check([[Keyed(one, None, False), Keyed(two.double(), None, False)]], [55])


def test_tensors_need_not_lie_in_order_nor_begin_where_wide_loads_can():
    whole = drawn(24 * 20 + 1)[0]
    turned, shifted = whole[1:].view(24, 20).T, whole[3:100]
    flags = (turned > -1, (whole > -1)[1:98])
    for kept in ((None, None), flags):
        check([[Keyed(turned, kept[0], True), Keyed(shifted, kept[1], True)]], [211])


def test_scores_and_flags_are_left_as_they_are():
    scores, flags = drawn(50)[0].requires_grad_(), torch.arange(50) % 3 > 0
    before = scores.detach().clone(), flags.clone()
    check([[Keyed(scores, flags, True)]], [31])
    assert torch.equal(scores, before[0]) and torch.equal(flags, before[1])


@HASTY
@given(st.data())
def test_any_groups_of_any_values(data):
    """Few different values, so that ties are everywhere."""
    sizes = data.draw(st.lists(st.lists(st.integers(0, 70), min_size=1, max_size=3), min_size=1, max_size=3))
    absolute, masked = data.draw(st.booleans()), data.draw(st.booleans())
    groups, counts = [], []
    for group in sizes:
        values = [torch.tensor(data.draw(st.lists(VALUES, min_size=n, max_size=n))) for n in group]
        flags = [torch.arange(n) % 3 > 0 if masked else None for n in group]
        groups.append([Keyed(v, flag, absolute) for v, flag in zip(values, flags, strict=True)])
        counts.append(data.draw(st.integers(0, sum(group))))
    check(groups, counts)
