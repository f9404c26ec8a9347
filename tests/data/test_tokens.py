"""Text becomes ids and comes back; what is trained twice is the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from effi.data import tokens
from effi.errors import DataError, ParameterError

TEXTS = [f"the cat number {k} sees the {'small' if k % 2 else 'happy'} dog" for k in range(50)]
WORDS = tokens.train(TEXTS, 280)


def test_text_comes_back_even_with_bytes_never_seen() -> None:
    for text in ("the cat sees", "naïve “film” 日本", "a <pad> and a <mask> are text", "x\ty\nz"):
        (ids,) = WORDS.pieces([text])
        assert WORDS.text(ids) == text
        assert min(ids) > 4


def test_the_first_five_ids_are_special_and_the_rest_are_bytes_and_merges() -> None:
    assert WORDS.special == (0, 1, 2, 3, 4)
    assert WORDS.vocabulary == 280
    assert tokens.train(["ab"], 4000).vocabulary == tokens.SMALLEST == 261


def test_rows_start_and_end_and_are_padded_or_cut() -> None:
    rows = WORDS.rows([TEXTS[0], "the"], 8)
    whole, short = WORDS.pieces([" " + TEXTS[0], " the"])
    assert rows.dtype == torch.int32
    assert rows[0].tolist() == [2, *whole[:6], 3]
    assert rows[1].tolist() == [2, *short, 3, *[0] * (6 - len(short))]


def test_a_text_that_just_fits_is_not_cut() -> None:
    (ids,) = WORDS.pieces([" the cat"])
    assert WORDS.rows(["the cat"], len(ids) + 2)[0].tolist() == [2, *ids, 3]


@pytest.mark.parametrize("running", [False, True])
def test_packed_rows_are_the_texts_one_after_another(running: bool) -> None:
    rows = WORDS.pack(TEXTS, 16, None, running=running)
    pieces = WORDS.pieces(text if running else f" {text}" for text in TEXTS)
    framed = [ids if running else [2, *ids, 3] for ids in pieces]
    flat = [token for ids in framed for token in ids]
    assert rows.flatten().tolist() == flat[: len(flat) // 16 * 16]
    assert rows.dtype == torch.int32


@pytest.mark.parametrize(("most", "rows"), [(0, 0), (15, 0), (16, 1), (47, 2), (48, 3)])
def test_most_counts_tokens(most: int, rows: int) -> None:
    packed = WORDS.pack(TEXTS, 16, most)
    assert packed.shape == (rows, 16)
    assert packed.equal(WORDS.pack(TEXTS, 16, None)[:rows])


def test_no_text_gives_no_rows() -> None:
    assert WORDS.pack([], 16, None).shape == (0, 16)
    assert WORDS.rows([], 16).shape == (0, 16)


@pytest.mark.slow
def test_another_process_trains_the_same_without_a_word() -> None:
    code = (
        "import os; from effi.data import tokens\n"
        f"words = tokens.train({TEXTS!r}, 280); rows = words.rows({TEXTS!r}, 12)\n"
        "if os.fork() == 0: words.rows(['forked'], 8); os._exit(0)\n"
        "os.wait(); print(rows.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(WORDS.rows(TEXTS, 12).tolist())
    assert done.stderr == ""


def test_only_so_much_text_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TRAINED_ON", sum(len(text) + 1 for text in TEXTS))
    more = tokens.train([*TEXTS, "zebra " * 100], 280)
    assert more.rows(TEXTS, 12).equal(WORDS.rows(TEXTS, 12))


@pytest.mark.parametrize("vocabulary", [0, 260])
def test_a_vocabulary_must_hold_every_byte(vocabulary: int) -> None:
    with pytest.raises(ParameterError, match=f"vocabulary={vocabulary} is too small: ask for 261 or more"):
        tokens.train(TEXTS, vocabulary)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    WORDS.save(tmp_path / "tokenizer.json")
    loaded = tokens.load(tmp_path / "tokenizer.json")
    assert loaded.rows(TEXTS, 12).equal(WORDS.rows(TEXTS, 12))
    assert (loaded.special, loaded.vocabulary) == (WORDS.special, WORDS.vocabulary)


def published(names: list[str], path: Path) -> Path:
    """A word tokenizer with BERT's names for its special tokens, padding itself as BERT's does."""
    import tokenizers

    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({name: k for k, name in enumerate(names)}, "[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.enable_padding(length=50)
    inner.enable_truncation(2)
    inner.save(str(path))
    return path


def test_a_published_tokenizer_keeps_its_own_special_tokens(tmp_path: Path) -> None:
    path = published(["[PAD]", "cat", "[UNK]", "[CLS]", "[SEP]", "dog", "[MASK]"], tmp_path / "t.json")
    words = tokens.load(path)
    assert words.special == (0, 2, 3, 4, 6)
    assert words.rows(["cat dog cow cat"], 7)[0].tolist() == [3, 1, 5, 2, 1, 4, 0]


def test_padding_need_not_be_id_0(tmp_path: Path) -> None:
    words = tokens.load(published(["cat", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], tmp_path / "late.json"))
    assert words.special[0] == 1
    assert words.rows(["cat"], 5)[0].tolist() == [3, 0, 4, 1, 1]


def test_one_token_may_serve_for_all_five_as_in_gpt2(tmp_path: Path) -> None:
    words = tokens.load(published(["cat", "dog", "<|endoftext|>"], tmp_path / "gpt2.json"))
    assert words.special == (2,) * 5
    assert words.rows(["dog cat"], 6)[0].tolist() == [2, 1, 0, 2, 2, 2]


def test_tokenizers_that_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*/t.json: name the tokenizer.json"):
        tokens.load(tmp_path / "t.json")
    bare = published(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], tmp_path / "bare.json")
    with pytest.raises(DataError, match=r"bare.json has no token <mask> or \[MASK\] or <\|endoftext\|>: add it"):
        tokens.load(bare)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken.json is no tokenizer.json"):
        tokens.load(tmp_path / "broken.json")


def framing(path: Path) -> object:
    """The tokenizer of a file as transformers have it, with BERT's frame."""
    import tokenizers
    import transformers

    inner = tokenizers.Tokenizer.from_file(str(path))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]")


def test_pairs_are_joined_and_cut_as_transformers_does(tmp_path: Path) -> None:
    path = published(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{k}" for k in range(40))], tmp_path / "t.json")
    ours, theirs = tokens.load(path), framing(path)
    sizes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 20]
    pairs = [
        (" ".join(f"w{k}" for k in range(a)), " ".join(f"w{20 + k}" for k in range(b))) for a in sizes for b in sizes
    ]
    for length in (4, 9, 10, 16, 64):
        expected = theirs(
            [first for first, _ in pairs],
            [second for _, second in pairs],
            truncation="longest_first",
            max_length=length,
            padding="max_length",
        )
        assert ours.rows(pairs, length).tolist() == expected["input_ids"]
    # What cut pairs leaves single texts in full until `rows` cuts them.
    assert ours.rows(["w1 w2 w3 w4 w5"], 10)[0].tolist() == [2, 6, 7, 8, 9, 10, 3, 0, 0, 0]


def test_a_pair_of_a_trained_vocabulary_is_its_sentences() -> None:
    first, second = WORDS.pieces([" the cat", " sees the dog"])
    expected = [2, *first, 3, *second, 3]
    assert WORDS.rows([("the cat", "sees the dog")], len(expected) + 1)[0].tolist() == [*expected, 0]
    assert WORDS.rows([("the cat", "sees the dog")], 2 * len(first) + 3)[0].tolist() == [
        *[2, *first, 3],
        *[*second[: len(first)], 3],
    ]


def test_many_pairs_are_rows_of_their_own() -> None:
    pairs = [(text, f"number {k}") for k, text in enumerate(TEXTS * 50)]
    rows = WORDS.rows(pairs, 64)
    assert rows[2049].equal(WORDS.rows(pairs[2049:2050], 64)[0])
    assert len(rows.unique(dim=0)) == len(pairs)
