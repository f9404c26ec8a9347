"""A small grammar of known entropy, as a corpus and as a question that a tiny Transformer answers in seconds.

A word belongs to one class and one number and clauses nest to the right only, so a sentence has one derivation: its
entropy is that of the rules chosen, and whether its verb agrees with its subject is always decidable.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache, partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from effi.data.files import Entry
from effi.data.sources import Texts, TextSource, checksum

TRAIN, TEST, MORE = 3000, 600, 40_000
Rule = tuple[float, tuple[str, ...]]


def _rules() -> dict[str, list[Rule]]:
    """Nonterminal -> its rules with their probabilities; any other symbol is a word."""
    rules: dict[str, list[Rule]] = {
        "AGREES": [(0.5, ("NOUN_s", "VERB_s")), (0.5, ("NOUN_p", "VERB_p"))],
        "BREAKS": [(0.5, ("NOUN_s", "VERB_p")), (0.5, ("NOUN_p", "VERB_s"))],
        "OBJECT": [(0.5, ("NOUN_s",)), (0.5, ("NOUN_p",))],
        "KIND": _words("old small green happy"),
    }
    nouns, going, seeing = "cat dog cow bird goat horse", "sleep run wait jump", "see chase hear follow"
    for number, noun_ending, verb_ending in (("s", "", "s"), ("p", "s", "")):
        head, clause = f"HEAD_{number}", ("that", f"SEES_{number}", "OBJECT")
        rules[f"NOUN_{number}"] = [(0.55, ("the", head)), (0.2, ("the", "KIND", head)), (0.25, ("the", head, *clause))]
        rules[f"VERB_{number}"] = [(0.6, (f"GOES_{number}",)), (0.4, (f"SEES_{number}", "OBJECT"))]
        rules[head] = _words(nouns, noun_ending)
        rules[f"GOES_{number}"], rules[f"SEES_{number}"] = _words(going, verb_ending), _words(seeing, verb_ending)
    return rules


def _words(words: str, ending: str = "") -> list[Rule]:
    """One rule a word, the first the likeliest, as in language."""
    named = words.split()
    total = sum(1 / rank for rank in range(1, len(named) + 1))
    return [(1 / rank / total, (word + ending,)) for rank, word in enumerate(named, 1)]


RULES = _rules()


@cache
def expectation(start: str = "AGREES") -> tuple[float, float]:
    """(entropy in nats, words) of a sentence, in expectation.

    Both solve x = c + M x, where c is what a nonterminal's own choice gives and M how many of each it calls for.
    """
    index = {symbol: position for position, symbol in enumerate(RULES)}
    calls, own = np.zeros((len(index), len(index))), np.zeros((len(index), 2))
    for symbol, rules in RULES.items():
        for probability, body in rules:
            own[index[symbol]] += -probability * np.log(probability), probability * sum(w not in index for w in body)
            for word in body:
                if word in index:
                    calls[index[symbol], index[word]] += probability
    nats, words = np.linalg.solve(np.eye(len(index)) - calls, own)[index[start]]
    return float(nats), float(words)


def loss() -> float:
    """The loss of a perfect language model of the corpus, nats per token; a sentence has a start and an end token."""
    nats, words = expectation()
    return nats / (words + 2)


def sentences(start: str, count: int, seed: int) -> Iterator[str]:
    """`count` sentences from a start symbol, "AGREES" or "BREAKS"."""
    draw = random.Random(f"{start} {seed}")
    choices = {
        symbol: ([body for _, body in rules], list(accumulate(probability for probability, _ in rules)))
        for symbol, rules in RULES.items()
    }
    for _ in range(count):
        words, stack = [], [start]
        while stack:
            symbol = stack.pop()
            if symbol in choices:
                bodies, edges = choices[symbol]
                stack.extend(reversed(draw.choices(bodies, cum_weights=edges)[0]))
            else:
                words.append(symbol)
        yield " ".join(words)


def read(entry: Entry, folder: Path) -> TextSource:
    """Does the verb agree with its subject? Half the sentences do; the corpus holds agreeing ones only."""
    train, test = _part(TRAIN, 0), _part(TEST, 1)
    more = partial(sentences, "AGREES", MORE, 2)
    return TextSource(train, test, tuple(entry.classes), "generated", checksum(train, test), unlabelled=more)


def _part(count: int, seed: int) -> Texts:
    halves = (sentences(start, count // 2, seed) for start in ("BREAKS", "AGREES"))
    texts = [text for pair in zip(*halves, strict=True) for text in pair]
    return Texts(texts, torch.arange(len(texts)) % 2)
