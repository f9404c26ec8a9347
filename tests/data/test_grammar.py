"""The grammar's entropy is what its sentences show, and its labels are what its words say."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import pytest

from effi import data
from effi.data import grammar


@pytest.mark.parametrize("symbol", grammar.RULES)
def test_the_rules_of_a_symbol_share_its_probability(symbol: str) -> None:
    assert sum(probability for probability, _ in grammar.RULES[symbol]) == pytest.approx(1)


def log_probability(sentence: str) -> float:
    """Of its one derivation, by a parser that reads the sentence from the left."""
    words = sentence.split()
    found = [logp for logp, rest in parse("AGREES", words) if not rest]
    assert len(found) == 1
    return found[0]


def parse(symbol: str, words: list[str]) -> list[tuple[float, list[str]]]:
    """(log-probability, what is left) of every way to read `symbol` off the front."""
    if symbol not in grammar.RULES:
        return [(0.0, words[1:])] if words[:1] == [symbol] else []
    ways = []
    for probability, body in grammar.RULES[symbol]:
        partial = [(math.log(probability), words)]
        for each in body:
            partial = [(a + b, rest) for a, left in partial for b, rest in parse(each, left)]
        ways += partial
    return ways


def test_the_entropy_is_the_mean_of_what_sentences_say() -> None:
    sample = list(grammar.sentences("AGREES", 4000, 5))
    nats, words = grammar.expectation()
    surprise = [-log_probability(sentence) for sentence in sample]
    mean = sum(surprise) / len(sample)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in surprise) / len(sample) / len(sample))
    assert abs(mean - nats) < 4 * deviation
    assert sum(len(sentence.split()) for sentence in sample) / len(sample) == pytest.approx(words, rel=0.03)
    assert grammar.loss() == nats / (words + 2)


def test_the_length_in_closed_form() -> None:
    # A noun phrase: 2 words, one more in a fifth, and in a quarter two more and another noun phrase.
    noun = (2 + 0.2 + 0.25 * 2) / (1 - 0.25)
    assert grammar.expectation()[1] == pytest.approx(noun + 1 + 0.4 * noun)


def test_breaking_sentences_cannot_be_read_as_agreeing() -> None:
    for sentence in grammar.sentences("BREAKS", 200, 0):
        assert not [rest for _, rest in parse("AGREES", sentence.split()) if not rest]


def test_the_set_is_balanced_and_always_the_same() -> None:
    loaded = data.load_text("grammar", length=40, corpus=5000)
    assert loaded.classes == ("breaks", "agrees")
    assert loaded.train.labels.bincount().tolist() == [1350, 1350]
    assert loaded.test.labels.bincount().tolist() == [300, 300]
    assert loaded.checksum == data.load_text("grammar", train=10, seed=3).checksum
    for ids, label in islice(zip(loaded.train.inputs, loaded.train.labels, strict=True), 50):
        assert bool([1 for _, rest in parse("AGREES", loaded.tokenizer.text(ids).split()) if not rest]) == bool(label)


def test_every_word_is_one_token_so_that_the_loss_is_per_token() -> None:
    loaded = data.load_text("grammar", length=64, corpus=64_000)
    text = list(islice(grammar.sentences("AGREES", grammar.MORE, 2), 500))
    assert Counter(map(len, loaded.tokenizer.pieces(map(" {}".format, text)))) == Counter(
        len(each.split()) for each in text
    )
    tokens = loaded.corpus.flatten()
    assert len(tokens) / (tokens == 3).sum().item() == pytest.approx(grammar.expectation()[1] + 2, rel=0.03)
