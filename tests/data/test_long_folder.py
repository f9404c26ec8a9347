"""Images larger than memory: the same pixels, labels and splits as in memory, from shards."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from effi import data
from effi.cost import Ledger
from effi.data import files, folder, shards, stored
from effi.errors import DataError
from effi.models.vit import ViT, ViTShape
from effi.training import Training, evaluate, fit, loop
from tests.data.tiny import House

COUNTS = {"tulip": 25, "aster": 14, "rose": 9}


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Coloured noise, of which one image is larger and one is grey."""
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        for index in range(count):
            shape = (16, 24, 3) if (name, index) == ("rose", 3) else (8, 12, 3)
            image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            path = tmp_path / "flowers" / name / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            (image.convert("L") if (name, index) == ("aster", 2) else image).save(path)
    return tmp_path / "flowers"


@pytest.fixture
def small(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Every folder is larger than memory, and a shard holds five images of 8 x 12."""
    monkeypatch.setattr(folder, "LARGEST", 0)
    monkeypatch.setattr(stored, "RESIDENT", 0)
    monkeypatch.setattr(shards, "SHARD", 5 * 8 * 12 * 3)
    return house


def in_memory(place: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> data.Dataset:
    with monkeypatch.context() as patched:
        patched.setattr(folder, "LARGEST", 2**30)
        return data.load(f"folder:{place}", **options)


@pytest.mark.parametrize(
    "options", [{}, {"train": 20, "validation": 6, "test": 5, "draw": 3}, {"size": 5}, {"size": 16, "resize": "pad"}]
)
def test_shards_hold_the_pixels_that_memory_does(
    small: House, flowers: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    large, same = data.load(f"folder:{flowers}", **options), in_memory(flowers, monkeypatch, **options)
    assert (large.name, large.classes, large.checksum, large.shape) == (
        same.name,
        same.classes,
        same.checksum,
        same.shape,
    )
    assert (large.mean, large.std) == (same.mean, same.std)
    for split, part in large.splits.items():
        assert isinstance(part.inputs, stored.Stored) and part.inputs.dtype == torch.uint8
        assert part.inputs[:].equal(same.splits[split].inputs) and part.labels.equal(same.splits[split].labels)
    index = torch.tensor([[3, 0, 19], [5, 5, 1]])
    assert large.train.inputs[index].equal(same.train.inputs[index])


def test_a_training_streams_images_as_it_reads_memory(
    small: House, flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(loop, "on_disk", lambda _: True)  # what lies on disk has an order of its own
    for one in (data.load(f"folder:{flowers}", size=8), in_memory(flowers, monkeypatch, size=8)):
        model = ViT(ViTShape(image_size=8, patch_size=4, channels=3, classes=3, width=16, depth=1), heads=2, seed=0)
        (history,) = fit(model, one, Training(epochs=2, batch_size=16, augment=("flip",)), seeds=[0], ledger=Ledger())
        found.append((history.curves["train_loss"], evaluate(model, one.test, one)))
    assert found[0] == found[1]


def test_parts_that_fit_are_read_into_memory(small: House, flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESIDENT", 15 * 8 * 12 * 3)
    loaded = data.load(f"folder:{flowers}")
    assert isinstance(loaded.train.inputs, stored.Stored)
    assert torch.is_tensor(loaded.validation.inputs) and torch.is_tensor(loaded.test.inputs)


def test_images_are_decoded_once_and_again_when_they_change(
    small: House, flowers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = data.load(f"folder:{flowers}")
    assert "folder:flowers is larger than what is read into memory: once it is made into 10 shards" in (
        capsys.readouterr().err
    )
    with monkeypatch.context() as patched:
        patched.setattr(folder, "_header", None)
        patched.setattr(folder, "_checksum", None)
        again = data.load(f"folder:{flowers}", seed=1)
    assert again.checksum == first.checksum and not capsys.readouterr().err
    Image.new("RGB", (12, 8)).save(flowers / "rose" / "000.png")
    os.utime(flowers / "rose" / "000.png", (1, 1))
    assert data.load(f"folder:{flowers}").checksum != first.checksum
    assert "larger" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named_by_its_worker(small: House, flowers: Path) -> None:
    bad = flowers / "tulip" / "007.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(DataError, match=f"image {bad} cannot be read .*: repair or remove it"):
        data.load(f"folder:{flowers}")


def test_a_damaged_shard_of_images_is_named(small: House, flowers: Path) -> None:
    data.load(f"folder:{flowers}")
    victim = sorted((files.writable() / "shards").glob("*/images-*.bin"))[2]
    good = victim.read_bytes()
    victim.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(DataError, match=f"shard {victim} of folder:flowers is damaged: .* delete it and load again"):
        data.load(f"folder:{flowers}")
    victim.unlink()
    data.load(f"folder:{flowers}")
    assert victim.read_bytes() == good


def test_images_too_large_to_pad_are_told_when_they_are_loaded(small: House, flowers: Path) -> None:
    with pytest.raises(DataError, match="images of 8x12 cannot be padded to 9"):
        data.load(f"folder:{flowers}", size=9, resize="pad")
