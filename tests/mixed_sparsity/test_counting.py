"""Counted baselines against counts by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from effi.data import causal
from effi.errors import ParameterError
from effi.mixed_sparsity import counting
from tests.mixed_sparsity.toy import VOCABULARY, text


def words(examples) -> list[tuple[int, int]]:
    return list(zip(examples.inputs.flatten().tolist(), examples.labels.flatten().tolist(), strict=True))


def test_unigram_is_the_frequency_of_words_with_one_more_of_each():
    data = text()
    count, pairs = Counter(after for _, after in words(data.train)), words(data.test)
    total = sum(count.values()) + VOCABULARY
    expected = -sum(math.log((count[after] + 1) / total) for _, after in pairs) / len(pairs)
    found = counting.fit("unigram", data)
    assert found["test_loss"] == pytest.approx(expected, rel=1e-12)
    best = max(range(VOCABULARY), key=lambda word: count[word])
    assert found["test_accuracy"] == sum(after == best for _, after in pairs) / len(pairs)


def test_bigram_mixes_by_the_share_that_validation_likes_best():
    data = text()
    single, follows = Counter(after for _, after in words(data.train)), Counter(words(data.train))
    read, total = Counter(last for last, _ in words(data.train)), sum(single.values()) + VOCABULARY

    def loss(pairs, share):
        chances = (
            share * follows[pair] / read[pair[0]] + (1 - share) * (single[pair[1]] + 1) / total for pair in pairs
        )
        return -sum(map(math.log, chances)) / len(pairs)

    shares = [place / 10 for place in range(1, 10)]
    best = min(shares, key=lambda share: loss(words(data.validation), share))
    found = counting.fit("bigram", data)
    assert found["validation_loss"] == pytest.approx(loss(words(data.validation), best), rel=1e-9)
    assert found["test_loss"] == pytest.approx(loss(words(data.test), best), rel=1e-9)


def test_bigram_nears_the_entropy_of_a_text_that_one_word_decides():
    """Each word of the toy is the last plus one of three numbers."""
    found = {kind: counting.fit(kind, text()) for kind in counting.KINDS}
    assert found["unigram"]["test_loss"] == pytest.approx(math.log(VOCABULARY), abs=0.05)
    assert math.log(3) < found["bigram"]["test_loss"] < math.log(3) + 0.25
    assert found["bigram"]["test_accuracy"] == pytest.approx(1 / 3, abs=0.1)


def test_a_word_never_read_before_counts_by_frequency_alone():
    data = text()
    alone = torch.full((4, 17), 0, dtype=torch.int32)
    alone[:, 1:] = 5
    unread = replace(data, train=causal(torch.where(data.train.inputs == 0, 1, data.train.inputs)), test=causal(alone))
    found = counting.fit("bigram", unread)
    assert math.isfinite(found["test_loss"])


def test_an_unknown_kind_is_named():
    with pytest.raises(ParameterError, match=r"unknown counted baseline 'bigran'.*bigram"):
        counting.fit("bigran", text())


@pytest.mark.parametrize("kind", counting.KINDS)
def test_windows_counted_a_few_at_a_time_count_the_same(kind, monkeypatch):
    whole = counting.fit(kind, text())
    monkeypatch.setattr(counting, "WINDOWS", 3)
    assert counting.fit(kind, text()) == whole
