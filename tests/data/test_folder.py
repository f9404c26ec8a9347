"""The reader's own images: what is accepted, how it is split, and every refusal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from effi import data, paths
from effi.data import folder
from effi.errors import DataError


def paint(path: Path, value: int | tuple[int, int, int] = 0, extent: tuple[int, int] = (6, 4)) -> None:
    """An image of one colour, `extent` wide and high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", extent, value).save(path)


def collection(root: Path, counts: Mapping[str, int]) -> Path:
    """Grey images whose value is their number within the class."""
    for name, count in counts.items():
        for index in range(count):
            paint(root / name / f"{index:03d}.png", index)
    return root


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    return collection(tmp_path / "flowers", {"tulip": 20, "aster": 10})


def test_a_folder_is_split_by_class(flowers: Path) -> None:
    loaded = data.load(f"folder:{flowers}", validation=0.25)
    assert loaded.classes == ("aster", "tulip")
    assert loaded.name == "folder:flowers"
    assert loaded.shape == (1, 4, 6)
    assert torch.bincount(loaded.test.labels).tolist() == [2, 4]
    assert torch.bincount(loaded.validation.labels).tolist() == [2, 4]
    assert torch.bincount(loaded.train.labels).tolist() == [6, 12]


def test_every_image_is_in_one_split_with_its_own_label(flowers: Path) -> None:
    loaded = data.load(f"folder:{flowers}")
    seen = [
        (label, image[0, 0, 0].item())
        for part in (loaded.train, loaded.validation, loaded.test)
        for image, label in zip(part.inputs, part.labels.tolist(), strict=True)
    ]
    assert sorted(seen) == [(0, k) for k in range(10)] + [(1, k) for k in range(20)]


def test_the_seed_decides_the_test_set_and_the_content_the_checksum(flowers: Path) -> None:
    first, again, other = (data.load(f"folder:{flowers}", seed=seed) for seed in (0, 0, 1))
    assert first.test.inputs.equal(again.test.inputs)
    assert not first.test.inputs.equal(other.test.inputs)
    assert first.checksum == other.checksum
    paint(flowers / "tulip" / "000.png", 99)
    assert data.load(f"folder:{flowers}").checksum != first.checksum


def test_a_renamed_class_changes_the_checksum(flowers: Path) -> None:
    before = data.load(f"folder:{flowers}").checksum
    (flowers / "tulip").rename(flowers / "violet")
    assert data.load(f"folder:{flowers}").checksum != before


def test_two_images_of_a_class_go_to_train_and_test(tmp_path: Path) -> None:
    loaded = data.load(f"folder:{collection(tmp_path, {'a': 2, 'b': 9})}", validation=0)
    assert (loaded.train.labels == 0).sum() == (loaded.test.labels == 0).sum() == 1


def test_images_come_to_their_most_common_size(flowers: Path) -> None:
    paint(flowers / "aster" / "big.png", 200, (60, 40))
    assert data.load(f"folder:{flowers}").shape == (1, 4, 6)
    assert data.load(f"folder:{flowers}", size=5).shape == (1, 5, 5)
    assert data.load(f"folder:{flowers}", size=9, resize="pad").shape == (1, 9, 9)


def test_one_colour_image_makes_the_set_colour(flowers: Path) -> None:
    paint(flowers / "aster" / "red.jpg", (255, 0, 0))
    loaded = data.load(f"folder:{flowers}", validation=0)
    assert loaded.shape == (3, 4, 6)
    pixels = torch.cat([loaded.train.inputs, loaded.test.inputs])
    reddest = pixels[(pixels[:, 0].float() - pixels[:, 2].float()).mean((1, 2)).argmax()]
    assert reddest[:, 2, 3].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_hidden_folders_and_other_files_do_not_count(flowers: Path) -> None:
    before = data.load(f"folder:{flowers}")
    paint(flowers / ".ipynb_checkpoints" / "a.png")
    (flowers / "README.txt").write_text("flowers")
    (flowers / "aster" / "Thumbs.db").write_text("no image")
    after = data.load(f"folder:{flowers}")
    assert (after.classes, after.checksum) == (before.classes, before.checksum)


def test_images_may_lie_deeper_and_have_capital_suffixes(flowers: Path) -> None:
    (flowers / "aster" / "2024").mkdir()
    (flowers / "aster" / "000.png").rename(flowers / "aster" / "2024" / "X.PNG")
    loaded = data.load(f"folder:{flowers}")
    assert len(loaded.train) + len(loaded.validation) + len(loaded.test) == 30


def test_a_relative_path_is_meant_from_the_workbook(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", flowers.parent)
    assert data.load("folder:flowers").checksum == data.load(f"folder:{flowers}").checksum


def refused(path: Path, **options: int) -> str:
    """The one line that the reader sees."""
    with pytest.raises(DataError) as caught:
        data.load(f"folder:{path}", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_such_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == f"there is no {tmp_path / 'nowhere'}: correct the path of your data set"
    (tmp_path / "file").write_text("x")
    assert "is no folder" in refused(tmp_path / "file")
    (tmp_path / "file.csv").touch()
    assert refused(tmp_path / "file.csv").endswith("a table of texts is csv:PATH")


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("x")
    paint(tmp_path / "loose.png")
    assert f"no images in {tmp_path}" in refused(tmp_path)


def test_one_class(tmp_path: Path) -> None:
    assert "has one class, a:" in refused(collection(tmp_path, {"a": 5}))


@pytest.mark.parametrize(("count", "words"), [(1, "has 1 image,"), (0, "has 0 images,")])
def test_a_class_with_too_few_images(tmp_path: Path, count: int, words: str) -> None:
    (tmp_path / "rare").mkdir()
    message = refused(collection(tmp_path, {"many": 5, "rare": count}))
    assert "class rare" in message
    assert words in message
    assert "add images or remove the class" in message


@pytest.mark.parametrize("content", [b"", b"no image", b"cut"])
def test_an_unreadable_image_is_named(flowers: Path, content: bytes) -> None:
    bad = flowers / "tulip" / "007.png"
    if content == b"cut":
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(bad)
        content = bad.read_bytes()[:600]
    bad.write_bytes(content)
    message = refused(flowers)
    assert str(bad) in message
    assert "repair or remove it" in message


def test_deep_pixels_are_refused_rather_than_cut_off(flowers: Path) -> None:
    deep = flowers / "tulip" / "deep.png"
    Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16)).save(deep)
    message = refused(flowers)
    assert str(deep) in message
    assert "8 bits per channel" in message


def test_too_few_images_for_what_was_asked(flowers: Path) -> None:
    assert "train=100 and validation=0.1 cannot be taken from the 24 examples" in refused(flowers, train=100)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(flowers: Path, tmp_path: Path) -> None:
    first = next(iter(sorted(flowers.iterdir())))
    inside = next(iter(sorted(first.iterdir())))
    (first / "again.png").symlink_to(inside)
    (tmp_path / "elsewhere").symlink_to(flowers)
    folder.check(flowers)
    folder.check(tmp_path / "elsewhere")
    paint(tmp_path / "secret" / "private.png")
    (first / "private.png").symlink_to(tmp_path / "secret" / "private.png")
    assert f"{first}/private.png is a link to {tmp_path}/secret/private.png, outside the folder" in refused(flowers)
    (first / "private.png").unlink()
    (flowers / "secret").symlink_to(tmp_path / "secret")
    assert f"{flowers}/secret is a link to {tmp_path}/secret, outside the folder" in refused(flowers)
