"""The tasks of GLUE: what is read of their tables, their splits, copies of them, and every malformed row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effi import data
from effi.data import catalogue, files
from effi.errors import DataError
from tests.data import tiny_glue
from tests.data.packing import of_lines
from tests.data.tiny import House, Server

COUNTS = {"cola": (40, 10), "rte": (40, 10), "wnli": (40, 10), "mrpc": (40, 20), "stsb": (88, 33)}


@pytest.fixture
def shelf(house: House) -> House:
    for folder, content in tiny_glue.FOLDERS.values():
        house.put(folder, dict(content))
    return house


def read(name: str) -> dict[object, float]:
    """Text -> label of the training set."""
    train = catalogue.read_text(name, 0).train
    return dict(zip(train.texts, train.labels.tolist(), strict=True))


@pytest.mark.parametrize("name", COUNTS)
def test_the_official_parts(shelf: House, name: str) -> None:
    source = catalogue.read_text(name, 0)
    assert (len(source.train.texts), len(source.test.texts)) == COUNTS[name]
    assert (source.validation is None) == (name != "stsb")
    assert source.notice == ("No labels." if name == "rte" else None)
    assert data.kind(name) == "text" and data.holds(name) == "texts"


def test_one_sentence_with_quotes_and_no_header(shelf: House) -> None:
    assert read("cola") == {f'The cat number {k} said "so.': k % 2 for k in range(40)}


@pytest.mark.parametrize("name", ["rte", "wnli"])
def test_labels_are_names_or_numbers(shelf: House, name: str) -> None:
    assert read(name) == {(f'The “{k}” is, as they say, "seen.', f"It is {k}."): k % 2 for k in range(40)}


def test_paraphrases(shelf: House) -> None:
    assert read("mrpc") == {(f'He said "{k}.', f'The "{k}" was said.'): k % 2 for k in range(40)}


def test_similarities_are_numbers_and_sources_no_text(shelf: House) -> None:
    assert read("stsb") == {(f'A "row {k}.', f"The row {k}."): k % 11 / 2 for k in range(88)}
    source = catalogue.read_text("stsb", 0)
    assert source.classes == ()
    assert {part.labels.dtype for part in (source.train, source.validation, source.test)} == {torch.float32}
    loaded = data.load_text("stsb", train=44, validation=11, length=16, vocabulary=300)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [44, 11, 33]
    assert loaded.train.labels.mean().item() == pytest.approx(2.5, abs=0.15)


def test_pairs_become_rows_and_sentences_a_corpus(shelf: House) -> None:
    loaded = data.load_text("rte", length=64, vocabulary=300, corpus=None)
    for row, label in zip(loaded.train.inputs.tolist(), loaded.train.labels.tolist(), strict=True):
        middle, end = (place for place, token in enumerate(row) if token == 3)
        first, second = (loaded.tokenizer.text(ids) for ids in (row[:middle], row[middle:end]))
        number = int(second.removeprefix("It is ").removesuffix("."))
        assert (row[0], set(row[end + 1 :])) == (2, {0})
        assert (first, label) == (f'The “{number}” is, as they say, "seen.', number % 2)
    flat = loaded.corpus.flatten().tolist()
    # Two starts of each of 36 training pairs; the few in a last row that is not full are dropped.
    assert 60 < flat.count(2) <= 72


def test_a_copy_in_another_order_with_other_line_ends_is_the_same_set(shelf: House) -> None:
    first = data.load_text("rte", length=16, vocabulary=300)
    path = shelf.shelf / "RTE" / "train.tsv"
    head, *rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([head, *reversed(rows), b""]))
    again = data.load_text("rte", length=16, vocabulary=300)
    assert again.checksum == first.checksum
    assert again.train.inputs.equal(first.train.inputs)
    path.write_bytes(b"\n".join([head, *rows[1:]]))
    with pytest.raises(DataError, match=r"rte is damaged: .*train.tsv does not have the checksum"):
        data.load_text("rte")


@pytest.mark.parametrize(
    ("name", "line", "row", "words"),
    [
        ("cola", 1, "gj04\t1\tA sentence.", "columns: 3 instead of 4"),
        ("cola", 1, "source\tlabel\tstar\tsentence", "the label 'label' is none of 0, no, 1, yes"),
        ("cola", 3, "gj04\t2\t\tA sentence.", "the label '2' is none of 0, no, 1, yes"),
        ("cola", 3, "gj04\t1\t\t  ", "a sentence is empty"),
        ("rte", 1, "0\tA.\tB.\tentailment", "the header is not index sentence1 sentence2 label"),
        ("rte", 4, "0\tA.\tB.\tC.\tentailment", "columns: 5 instead of 4"),
        ("rte", 4, "0\tA.\tB.\tnot entailment", "the label 'not entailment' is none of"),
        ("wnli", 5, "", "columns: 1 instead of 4"),
        ("mrpc", 2, "1\t1\t2\tA.\t", "a sentence is empty"),
        ("stsb", 1, "a\tb\tc\td\t2.5\tA.", "columns: 6 instead of 7"),
        ("stsb", 2, "a\tb\tc\td\t5.1\tA.\tB.", "the score 5.1 is not between 0 and 5"),
        ("stsb", 2, "a\tb\tc\td\tnan\tA.\tB.", "the score nan is not between 0 and 5"),
        ("stsb", 2, "a\tb\tc\td\thigh\tA.\tB.", "could not convert string to float: 'high'"),
    ],
)
def test_a_malformed_row_is_named(shelf: House, name: str, line: int, row: str, words: str) -> None:
    file, good = next(iter(tiny_glue.FOLDERS[name][1].items()))
    rows = good.decode().split("\n")
    rows[line - 1] = row
    path = pinned(shelf, name, file, "\n".join(rows).encode())
    with pytest.raises(DataError) as caught:
        data.load_text(name)
    assert f"{path} cannot be read in line {line} ({words}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_not_text_is_named(shelf: House) -> None:
    path = pinned(shelf, "cola", "dev.tsv", tiny_glue.COLA["dev.tsv"] + b"\ngj04\t1\t\tcaf\xe9.")
    with pytest.raises(DataError, match=rf"{path} cannot be read in line 11 \('utf-8' codec"):
        data.load_text("cola")


def pinned(shelf: House, name: str, file: str, raw: bytes) -> Path:
    """A malformed file that has the checksum of the manifest."""
    folder, content = tiny_glue.FOLDERS[name]
    manifest = shelf.data / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(of_lines(content[file]), of_lines(raw)))
    path = shelf.shelf / folder / file
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("name", ["cola", "rte", "wnli", "stsb"])
def test_archives_are_downloaded(house: House, server: Server, name: str) -> None:
    assert data.fetch(name) == files.downloads() / tiny_glue.FOLDERS[name][0]
    assert len(server.asked) == 1
    assert len(catalogue.read_text(name, 0).train.texts) == COUNTS[name][0]


def test_what_must_be_got_by_hand_says_where_from_and_where_to(house: House, server: Server) -> None:
    with pytest.raises(DataError) as caught:
        data.fetch("mrpc")
    message = str(caught.value)
    assert f"mrpc is not under {house.shelf}, {house.data}, " in message
    assert f"get it from {server.url}page and put msr_paraphrase_train.txt and msr_paraphrase_test.txt" in message
    assert message.endswith("into a folder MRPC there")
    assert server.asked == []
    assert data.resolve("auto", ("mrpc",))[0] == ("docstrings",)
    place = house.put("MRPC", dict(tiny_glue.MRPC))
    assert data.fetch("mrpc") == place


def test_the_benchmark_of_similarities_lies_in_either_folder(house: House) -> None:
    place = house.put("STS-B", dict(tiny_glue.STSB))
    assert data.fetch("stsb") == place
    assert catalogue.read_text("stsb", 0).variant == "flat"


OFFICIAL = {
    "cola": ([8551, 1043], [2528, 6023]),
    "rte": ([2490, 277], [1249, 1241]),
    "wnli": ([635, 71], [323, 312]),
    "mrpc": ([4076, 1725], [1323, 2753]),
    "stsb": ([5749, 1500, 1379], []),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_tables(name: str) -> None:
    if files.find(files.manifest()[name]) is None:
        pytest.skip(f"{name} is not on this machine; set EFFI_DATA to a folder that holds it")
    source = catalogue.read_text(name, 0)
    parts = [part for part in (source.train, source.validation, source.test) if part]
    counts, balance = OFFICIAL[name]
    assert [len(part.texts) for part in parts] == counts
    assert all(isinstance(text, str) == (name == "cola") for part in parts for text in part.texts)
    if balance:
        assert source.train.labels.bincount().tolist() == balance
    else:
        assert (source.train.labels.min(), source.train.labels.max()) == (0, 5)
