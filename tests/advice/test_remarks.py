"""What is said of one's own data in advance."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from effi.advice.remarks import remarks


def image(path: Path, size: tuple[int, int], colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, colour).save(path)


def test_images_passed_over_tiny_and_double_are_named(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png", (16, 16), 1)
    image(tmp_path / "b" / "same.png", (16, 16), 1)
    image(tmp_path / "b" / "tiny.png", (16, 3), 2)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    assert remarks("folder", tmp_path) == [
        "1 file is no image and passed over: b/notes.txt.",
        "1 file is narrower than 8 pixels: b/tiny.png.",
        "1 of the images is a copy of another: the test split may hold what was trained on.",
    ]


def test_clean_data_draws_no_remark(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png", (16, 16), 1)
    image(tmp_path / "b" / "2.png", (16, 16), 2)
    assert remarks("folder", tmp_path) == []


def test_rows_that_stand_twice_and_short_texts(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('text,label\n"a\nb",x\n"a\nb",x\nc,y\n"a\nb",y\n')
    assert remarks("csv", table) == ["1 of the rows is a copy of another: the test split may hold what was trained on."]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "1.txt").write_text("x" * 150_000)
    (short,) = remarks("text", corpus)
    assert short.startswith("The text has 150 kB")
    (corpus / "2.txt").write_text("x" * 50_000)
    assert remarks("text", corpus) == []
