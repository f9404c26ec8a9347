"""Attention patterns: the published counts, every kind against its definition pair by pair, and torch's block masks."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from effi.errors import ParameterError
from effi.mixed_sparsity.positions import HeadSplit, Kind, Pattern

KINDS = get_args(Kind)
# Of 1,024 tokens with s = 128: pairs, their share of the 524,800 causal ones and of T^2, occupied tiles of 128.
GOLDEN = [
    ("local", 122_944, 0.2343, 0.1172, 15),
    ("strided", 4_608, 0.0088, 0.0044, 36),
    ("merged", 126_528, 0.2411, 0.1207, 36),
    ("fixed", 69_632, 0.1327, 0.0664, 36),
]


def pattern(kind: str, window: int) -> Pattern:
    return Pattern(kind, None if kind == "causal" else window)


def seen(kind: str, window: int, i: int, j: int) -> bool:
    """The definition, of one pair."""
    if j > i:
        return False
    local, strided = i - j < window, (i - j) % window == 0
    if kind == "fixed":
        return i // window == j // window or j % window == window - 1
    return {"causal": True, "local": local, "strided": strided, "merged": local or strided}[kind]


def brute(kind: str, window: int, tokens: int) -> torch.Tensor:
    return torch.tensor([[seen(kind, window, i, j) for j in range(tokens)] for i in range(tokens)])


@pytest.mark.parametrize(("kind", "pairs", "causal", "square", "tiles"), GOLDEN)
def test_golden_counts(kind, pairs, causal, square, tiles):
    of = Pattern(kind, 128)
    assert of.pairs(1024) == pairs == int(of.dense(1024).sum())
    assert of.density(1024) == (pairs / 2**20, pairs / 524_800)
    assert of.density(1024) == pytest.approx((square, causal), abs=5e-5)
    assert of.tiles(1024) == tiles
    assert Pattern("causal").pairs(1024) == 524_800 and Pattern("causal").tiles(1024) == 36


def test_a_longer_context_makes_a_window_sparser():
    local = Pattern("local", 128)
    assert local.tiles(2048) == 31
    assert 31 / Pattern("causal").tiles(2048) == pytest.approx(0.228, abs=5e-4)
    assert local.density(2048).causal == pytest.approx(local.density(1024).causal / 2, rel=0.04)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_its_definition(kind):
    """Masks, counts and tiles, for windows and tiles that divide the tokens or do not."""
    for tokens, window in product((1, 2, 7, 12, 13), range(1, 14)):
        if window > tokens:
            continue
        of, mask = pattern(kind, window), brute(kind, window, tokens)
        assert torch.equal(of.dense(tokens), mask), (tokens, window)
        assert of.pairs(tokens) == int(mask.sum()), (tokens, window)
        for tile in (1, 2, 3, 5, 20):
            occupied = {(i // tile, j // tile) for i, j in mask.nonzero().tolist()}
            assert of.tiles(tokens, tile) == len(occupied), (tokens, window, tile)


@pytest.mark.slow
def test_tiles_are_those_that_flex_attention_would_compute():
    """`allows` is also the function of positions that torch's FlexAttention takes."""
    for kind in KINDS:
        of, sizes = pattern(kind, 48), {"Q_LEN": 512, "KV_LEN": 512, "BLOCK_SIZE": 64}
        blocks = create_block_mask(lambda b, h, i, j, of=of: of.allows(i, j), None, None, **sizes, device="cpu")
        assert of.tiles(512, 64) == int(blocks.kv_num_blocks.sum() + blocks.full_kv_num_blocks.sum())


@pytest.mark.parametrize(("window", "tokens"), [(128, 1024), (5, 23)])
def test_local_and_strided_share_the_diagonal_alone(window, tokens):
    local, strided, merged = (Pattern(kind, window).dense(tokens) for kind in ("local", "strided", "merged"))
    assert torch.equal(local & strided, torch.eye(tokens, dtype=torch.bool))
    assert torch.equal(local | strided, merged)


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_sees_itself_and_none_after_it(kind):
    mask = pattern(kind, 6).dense(20)
    assert mask.diagonal().all() and not mask.triu(1).any()


def test_windows_as_long_as_the_context_see_all_of_it():
    for kind in ("local", "merged", "fixed"):
        assert torch.equal(Pattern(kind, 9).dense(9), Pattern("causal").dense(9))
    assert torch.equal(Pattern("strided", 9).dense(9), torch.eye(9, dtype=torch.bool))
    assert torch.equal(Pattern("strided", 1).dense(9), Pattern("causal").dense(9))


def test_positions_may_be_any_tensors_that_broadcast():
    i, j = torch.tensor([[3], [8]]), torch.tensor([2, 3, 5, 8])
    assert Pattern("fixed", 3).allows(i, j).tolist() == [[True, True, False, False], [True, False, True, True]]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_windows_that_do_not_fit_are_refused(kind):
    for window in (0, -3, None):
        with pytest.raises(ParameterError, match=rf"a window of {window} for {kind} attention: give one of 1 token"):
            Pattern(kind, window)
    of = Pattern(kind, 17)
    for ask in (of.dense, of.pairs, of.density, of.tiles):
        with pytest.raises(ParameterError, match=r"a window of 17 .* longer than the context of 16 tokens; shorten it"):
            ask(16)


def test_other_misuse_is_refused():
    with pytest.raises(ParameterError, match="pattern 'stridden' is unknown; did you mean 'strided'"):
        Pattern("stridden", 4)
    with pytest.raises(ParameterError, match="causal attention sees all earlier tokens: leave out its window of 4"):
        Pattern("causal", 4)
    with pytest.raises(ParameterError, match="tiles of 0 pairs: give a length of 1 at least"):
        Pattern("local", 4).tiles(16, 0)


# --- heads that are split ------------------------------------------------------------------------------------


def test_heads_that_are_split_count_the_mean_of_both_halves():
    """Of the golden counts: (122,944 + 4,608) / 2 pairs and (15 + 36) / 2 tiles."""
    split = HeadSplit(128)
    assert split.pairs(1024) == 63_776 and split.tiles(1024) == 25.5
    assert split.density(1024) == (63_776 / 2**20, 63_776 / 524_800)
    assert split.density(1024) == pytest.approx((0.0608, 0.1215), abs=5e-5)


def test_each_half_by_its_definition():
    for tokens, window in ((1, 1), (12, 5), (13, 4), (13, 13)):
        mask = torch.stack([brute(kind, window, tokens) for kind in ("local", "strided")])
        split = HeadSplit(window)
        assert torch.equal(split.dense(tokens), mask)
        assert split.pairs(tokens) == int(mask.sum()) / 2
        assert split.density(tokens).square == pytest.approx(float(mask.float().mean()))
        occupied = {(half, i // 3, j // 3) for half, i, j in mask.nonzero().tolist()}
        assert split.tiles(tokens, 3) == len(occupied) / 2


def test_a_window_of_split_heads_has_to_fit():
    with pytest.raises(ParameterError, match="a window of 0 for local attention: give one of 1 token"):
        HeadSplit(0)
    HeadSplit(16).check(16)
    with pytest.raises(ParameterError, match=r"a window of 17 .* longer than the context of 16 tokens; shorten it"):
        HeadSplit(17).check(16)
