"""The reader's own table of texts and own corpus: what is accepted, and every refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from effi import data
from effi.cost import Ledger
from effi.data import own
from effi.errors import DataError
from effi.training import Regression, Training, evaluate, fit

ROWS = [(f"complaint {k}, about a delivery", "angry" if k % 2 else "calm") for k in range(40)]


def csv_file(path: Path, rows: list[tuple[str, str]], header: str = "text,label", encoding: str = "utf-8") -> Path:
    lines = [header, *(f'"{text}",{label}' for text, label in rows)]
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return csv_file(tmp_path / "mail.csv", ROWS)


def refused(path: Path, read: object = data.load_text, **options: object) -> str:
    """The one line that a reader sees."""
    scheme = "csv" if read is data.load_text else "text"
    with pytest.raises(DataError) as caught:
        read(f"{scheme}:{path}", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_is_read_and_split(table: Path) -> None:
    loaded = data.load_text(f"csv:{table}", length=32, vocabulary=300)
    assert (loaded.name, loaded.classes, loaded.variant) == ("csv:mail.csv", ("angry", "calm"), "own texts")
    assert [part.labels.bincount().tolist() for part in (loaded.train, loaded.validation, loaded.test)] == [
        [14, 14],
        [2, 2],
        [4, 4],
    ]
    parts = (loaded.train, loaded.validation, loaded.test)
    texts = [loaded.tokenizer.text(ids) for part in parts for ids in part.inputs]
    labels = [loaded.classes[label] for part in parts for label in part.labels]
    assert dict(zip(texts, labels, strict=True)) == dict(ROWS)


def test_spreadsheets_write_a_mark_quotes_line_ends_and_other_columns(tmp_path: Path) -> None:
    rows = "id,label,text\r\n" + "".join(f'{k},{k % 2},"a ""quoted""\r\ntext, {k}"\r\n' for k in range(10))
    path = tmp_path / "excel.csv"
    path.write_bytes(rows.encode("utf-8-sig"))
    loaded = data.load_text(f"csv:{path}", vocabulary=300)
    assert loaded.classes == ("0", "1")
    assert loaded.tokenizer.text(loaded.train.inputs[0]).startswith('a "quoted"\r\ntext, ')


def test_the_corpus_is_the_training_text(table: Path) -> None:
    loaded = data.load_text(f"csv:{table}", length=16, vocabulary=300, corpus=None)
    held = {loaded.tokenizer.text(ids) for part in (loaded.validation, loaded.test) for ids in part.inputs}
    flat = loaded.corpus.flatten().tolist()
    cuts = [position for position, token in enumerate(flat) if token == 2]
    texts = {loaded.tokenizer.text(flat[a:b]) for a, b in pairwise(cuts)}
    assert len(texts) >= 25
    assert not texts & held
    assert texts <= {text for text, _ in ROWS}


def test_texts_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "long.csv", [*ROWS, ("word " * 50_000, "calm")])
    assert len(data.load_text(f"csv:{path}", vocabulary=300).train) > 0


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("text,class", "has no column label (its first row is text, class): name the columns text,label"),
        ("text;label", "is separated by semicolons: save it with commas"),
        ("label\ttext", "is separated by tabs: save it with commas"),
        ("sentence;label", "has no column text and no column label (its first row is sentence;label)"),
    ],
)
def test_missing_columns_are_named(tmp_path: Path, header: str, words: str) -> None:
    assert words in refused(csv_file(tmp_path / "a.csv", ROWS, header))


def test_empty_cells_are_named_by_their_row(tmp_path: Path) -> None:
    holes = [("", label) if k in (0, 3) else (text, label) for k, (text, label) in enumerate(ROWS)]
    assert "has no text or no label in row 2, 5: fill them in" in refused(csv_file(tmp_path / "a.csv", holes))
    many = [("  ", label) for _, label in ROWS]
    assert "in row 2, 3, 4, 5, 6 and 35 more:" in refused(csv_file(tmp_path / "b.csv", many))
    short = tmp_path / "c.csv"
    short.write_text("text,label\nfine,1\nno label\n")
    assert "in row 3:" in refused(short)


def test_labels_must_be_two_with_two_texts_each(tmp_path: Path) -> None:
    one = csv_file(tmp_path / "a.csv", [(text, "calm") for text, _ in ROWS])
    assert "has one label, calm: two labels or more are needed" in refused(one)
    lonely = csv_file(tmp_path / "b.csv", [*ROWS, ("help", "odd")])
    assert f"label odd in {lonely} has 1 text, but needs two" in refused(lonely)
    assert "has no rows: two labels" in refused(csv_file(tmp_path / "c.csv", []))


def test_other_encodings_are_named_by_byte_and_line(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv", [*ROWS[:2], ("café", "calm")], encoding="latin-1")
    where = path.read_bytes().index(b"\xe9")
    assert f"{path} is not UTF-8 (byte {where}, line 4): save it as UTF-8" in refused(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert f"{tmp_path} cannot be read (Is a directory)" in refused(tmp_path)
    assert f"there is no {tmp_path}/gone.csv: correct the path" in refused(tmp_path / "gone.csv")
    (tmp_path / "empty.csv").write_text("")
    assert "(its first row is empty)" in refused(tmp_path / "empty.csv")
    # A spreadsheet under the wrong name.
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    assert "is not UTF-8 (byte 4, line 1)" in refused(tmp_path / "sheet.csv")


def test_more_texts_than_there_are(table: Path) -> None:
    assert "train=100 and validation=0.1 cannot be taken from the 32 examples" in refused(table, train=100)


def test_a_corpus_is_one_file_or_a_folder(tmp_path: Path) -> None:
    lines = [f"line {k} of a long story\n" for k in range(200)]
    (tmp_path / "story.txt").write_text("".join(lines))
    loaded = data.load_corpus(f"text:{tmp_path}/story.txt", length=16, vocabulary=300)
    assert (loaded.name, loaded.classes, loaded.variant) == ("text:story.txt", (), "own text")
    folder = tmp_path / "book"
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("".join(lines[:100]))
    (folder / "b" / "c.txt").write_text("".join(lines[100:]))
    (folder / "ignored.md").write_text("nothing")
    same = data.load_corpus(f"text:{folder}", length=16, vocabulary=300)
    assert same.checksum == loaded.checksum
    assert same.corpus.equal(loaded.corpus)
    story = loaded.tokenizer.text(loaded.corpus.flatten())
    assert "".join(lines[:180]).startswith(story) and "line 175 of" in story


def test_the_parts_of_a_corpus_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "count.txt"
    path.write_text("".join(f"{k:04d}\n" for k in range(1000)))
    loaded = data.load_corpus(f"text:{path}", length=10, vocabulary=261, objective="causal")
    first = [loaded.tokenizer.text(part.inputs[0])[:4] for part in (loaded.train, loaded.validation, loaded.test)]
    assert first == ["0000", "0900", "0950"]


def test_a_corpus_without_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n ")
    words = "name a text file, or a folder that holds .txt files"
    for place in (tmp_path, tmp_path / "a.txt"):
        assert refused(place, data.load_corpus) == f"there is no text in {place}: {words}"
    (tmp_path / "empty").mkdir()
    assert words in refused(tmp_path / "empty", data.load_corpus)
    (tmp_path / "a.txt").write_bytes(b"fine\nb\xe9d")
    assert "is not UTF-8 (byte 6, line 2)" in refused(tmp_path, data.load_corpus)


def test_a_corpus_too_short_for_its_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a few words\n" * 20)
    words = refused(tmp_path, data.load_corpus)
    assert "has 0, 0, 0 rows of 128 tokens to train, validate and test on, and each needs one: add text" in words
    assert torch.is_tensor(data.load_corpus(f"text:{tmp_path}", length=4, vocabulary=300).corpus)


def test_two_texts_a_row_make_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("label,text2,text\n" + "".join(f"{k % 2},answer {k},question {k}\n" for k in range(40)))
    loaded = data.load_text(f"csv:{path}", length=48, vocabulary=300)
    assert loaded.classes == ("0", "1")
    texts = [loaded.tokenizer.text(ids) for ids in loaded.train.inputs]
    numbers = [int(text.rsplit(" ", 1)[1]) for text in texts]
    assert texts == [f"question {k} answer {k}" for k in numbers]
    assert loaded.train.labels.tolist() == [k % 2 for k in numbers]
    path.write_text("text,text2,label\na,,0\n")
    assert "has no text or no text2 or no label in row 2: fill them in" in refused(path)


def test_a_table_that_no_memory_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(2**31)
    for read in (data.load_text, lambda name: data.resolve(name, ())):
        with pytest.raises(DataError, match=r"huge\.csv has 2\.1 GB, more than the 0\.3 GB that .* give a part of it"):
            read(f"csv:{path}")


def test_a_table_may_have_as_many_bytes_as_that(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "LARGEST_TABLE", table.stat().st_size)
    own.check_table(table)
    monkeypatch.setattr(own, "LARGEST_TABLE", table.stat().st_size - 1)
    assert "mail.csv has 0.0 GB, more than" in refused(table)


def test_a_corpus_is_as_large_as_its_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.txt").write_text("two\n")
    monkeypatch.setattr(own, "LARGEST_CORPUS", 8)
    assert own.outgrown(tmp_path) is None
    monkeypatch.setattr(own, "LARGEST_CORPUS", 7)
    assert own.outgrown(tmp_path) == [tmp_path / "a.txt", tmp_path / "b.txt"]


def test_a_corpus_with_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one\n")
    (tmp_path / "texts" / "b.txt").symlink_to(tmp_path / "texts" / "a.txt")
    own.check_corpus(tmp_path / "texts")
    (tmp_path / "secret.txt").write_text("private\n")
    (tmp_path / "texts" / "c.txt").symlink_to(tmp_path / "secret.txt")
    assert f"c.txt is a link to {tmp_path}/secret.txt, outside" in refused(tmp_path / "texts", data.load_corpus)


@pytest.mark.parametrize(("content", "words"), [(b" \n", "there is no text in"), (b"\xff", "is not UTF-8")])
def test_a_corpus_that_is_none_is_told_before_a_kernel_starts(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        data.resolve(f"text:{tmp_path / 'own.txt'}", ())


def scored(path: Path, scores: list[object]) -> Path:
    path.write_text("text,score\n" + "".join(f"text {k},{score}\n" for k, score in enumerate(scores)))
    return path


def test_scores_are_numbers(tmp_path: Path) -> None:
    path = scored(tmp_path / "scores.csv", [k / 4 - 3 for k in range(50)])
    loaded = data.load_text(f"csv:{path}", vocabulary=300)
    assert (loaded.classes, len(loaded.train), len(loaded.validation), len(loaded.test)) == ((), 36, 4, 10)
    for part in (loaded.train, loaded.validation, loaded.test):
        numbers = [int(loaded.tokenizer.text(ids).removeprefix("text ")) for ids in part.inputs]
        assert part.labels.dtype == torch.float32
        assert part.labels.tolist() == [k / 4 - 3 for k in numbers]


def test_scores_that_are_none(tmp_path: Path) -> None:
    words = "has a score that is no number in row 3, 4: write numbers like 2.5 there"
    assert words in refused(scored(tmp_path / "a.csv", [1, "high", "nan", 2]))
    assert "has one score, 2: two scores or more are needed" in refused(scored(tmp_path / "b.csv", [2] * 9))
    assert "has no rows: two scores" in refused(scored(tmp_path / "c.csv", []))
    assert "has no text or no score in row 4: fill" in refused(scored(tmp_path / "d.csv", [1, 2, ""]))
    short = tmp_path / "e.csv"
    short.write_text("words,score\na,1\n")
    assert "has no column text (its first row is words, score): name the columns text,score" in refused(short)


def test_a_label_goes_before_a_score(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    path.write_text("text,label,score\n" + "".join(f"text {k},{'ab'[k % 2]},{k}\n" for k in range(20)))
    assert data.load_text(f"csv:{path}", vocabulary=300).classes == ("a", "b")


class Words(nn.Module):
    """Ids (B, T) -> the mean of a number (B, 1) that is learnt for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Embedding(300, 1)
        nn.init.zeros_(self.numbers.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.numbers(ids).mean(1)


def test_scores_can_be_learnt(tmp_path: Path) -> None:
    """The share of good words is linear in the words, so that a linear model predicts it for texts not seen."""
    path = tmp_path / "praise.csv"
    rows = [(" ".join(["good"] * k + ["bad"] * (8 - k)), k / 2, copy) for k in range(9) for copy in range(12)]
    path.write_text("text,text2,score\n" + "".join(f"{text},copy {copy},{score}\n" for text, score, copy in rows))
    loaded = data.load_text(f"csv:{path}", length=64, vocabulary=300)
    model = Words()
    training = Training(epochs=30, batch_size=32, lr=0.3)
    before = evaluate(model, loaded.test, loaded, Regression())["loss"]
    fit(model, loaded, training, objective=Regression(), seeds=[0], ledger=Ledger())
    after = evaluate(model, loaded.test, loaded, Regression(), ["pearson", "spearman"])
    assert after["loss"] < before / 20
    assert after["pearson"] > 0.95 and after["spearman"] > 0.95
