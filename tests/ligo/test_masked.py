"""Which tokens are hidden, and that every pass hides others while what is held out stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import data
from effi.data import IGNORED, Examples, TextDataset
from effi.errors import ParameterError
from effi.ligo.masked import MOST_BYTES, masked_corpus, most_passes, windows

ROWS = torch.randint(0, 1000, (300, 129), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


def corpus() -> TextDataset:
    parts = [data.causal(ROWS[part]) for part in (slice(200), slice(200, 250), slice(250, 300))]
    return TextDataset("made", *parts, classes=(), checksum="", variant="", vocabulary=1000, corpus=ROWS[:200])


def restored(part: Examples) -> torch.Tensor:
    """The windows, with what was hidden put back."""
    return torch.where(part.labels == IGNORED, part.inputs.long(), part.labels).int()


def test_windows_are_whole_and_hidden_tokens_are_their_own_labels() -> None:
    found = masked_corpus(corpus(), 3)
    assert restored(found.train).equal(ROWS[:200].repeat(3, 1))
    assert restored(found.validation).equal(ROWS[200:250]) and restored(found.test).equal(ROWS[250:300])
    assert (found.vocabulary, found.name, found.corpus.shape) == (1000, "made", (200, 129))


def test_fifteen_percent_are_guessed_four_fifths_read_the_mask_and_special_ids_never() -> None:
    part = masked_corpus(corpus(), 5).train
    true, guessed = ROWS[:200].repeat(5, 1), part.labels != IGNORED
    ordinary = true > 4
    assert not (guessed & ~ordinary).any()
    assert (guessed.sum() / ordinary.sum()).item() == pytest.approx(0.15, abs=0.003)
    shown = part.inputs[guessed]
    assert (shown == 4).double().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (shown == true[guessed]).double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert shown.min() == 4 and not (part.inputs[~guessed & ordinary] == 4).any()


def test_every_pass_hides_other_tokens() -> None:
    hidden = (masked_corpus(corpus(), 4).train.labels != IGNORED).view(4, 200, 129)
    ordinary = (ROWS[:200] > 4).sum()
    for one in range(4):
        for other in range(one):
            both = (hidden[one] & hidden[other]).sum() / ordinary
            assert both.item() == pytest.approx(0.15**2, abs=0.004)


def test_copies_stay_within_memory() -> None:
    one, row = corpus(), 128 * (4 + 8)
    assert most_passes(one) == MOST_BYTES // (200 * row)
    long = replace(one, train=Examples(torch.empty(10**7, 128, dtype=torch.int32, device="meta"), one.train.labels))
    assert most_passes(long) == 1


def test_a_static_mask_is_the_first_pass() -> None:
    dynamic, static = masked_corpus(corpus(), 2), masked_corpus(corpus())
    assert static.train.inputs.equal(dynamic.train.inputs[:200]) and len(static.train) == 200


def test_seeds_hide_other_tokens_of_training_alone() -> None:
    one, again, other = (masked_corpus(corpus(), 2, seed=seed) for seed in (0, 0, 1))
    assert one.train.inputs.equal(again.train.inputs) and not one.train.inputs.equal(other.train.inputs)
    for split in ("validation", "test"):
        assert one.splits[split].inputs.equal(other.splits[split].inputs)
        assert one.splits[split].labels.equal(other.splits[split].labels)


def test_a_corpus_of_this_workbook_keeps_its_special_tokens() -> None:
    loaded = data.load_corpus("grammar", corpus=20_000, length=32, vocabulary=300)
    found = masked_corpus(loaded, 2)
    assert found.train.inputs.shape == (2 * len(loaded.train), 32)
    start, end = loaded.tokenizer.special[2:4]  # type: ignore[union-attr]
    labels = found.train.labels
    assert not ((labels == start) | (labels == end)).any() and (labels != IGNORED).any()
    assert (windows(loaded.train) == start).any()


def test_share_is_that_of_the_tokens() -> None:
    part = masked_corpus(corpus(), share=0.5).train
    assert ((part.labels != IGNORED).sum() / (ROWS[:200] > 4).sum()).item() == pytest.approx(0.5, abs=0.01)


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(ParameterError, match="passes=0 over a masked corpus"):
        masked_corpus(corpus(), 0)
    with pytest.raises(ParameterError, match="share=1 of the tokens cannot be masked"):
        masked_corpus(corpus(), share=1)
    with pytest.raises(ParameterError, match="made is not labelled with next tokens"):
        masked_corpus(masked_corpus(corpus()))
