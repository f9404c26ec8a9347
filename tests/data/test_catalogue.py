"""Loading by name: official formats, variants, damage, and what "auto" turns into."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from effi import data
from effi.data import files
from effi.data.catalogue import CORPORA, NAMED, TEXTS
from effi.data.examples import checksum
from effi.errors import DataError, ParameterError
from tests.data.tiny import CIFAR_FILES, House, Server, cifar_batch, cifar_files


def test_mnist_is_read_as_written(house: House) -> None:
    house.put_mnist()
    loaded = data.load("mnist", validation=0)
    rng = np.random.default_rng(0)
    assert np.array_equal(loaded.train.inputs[:, 0], rng.integers(0, 256, (60, 28, 28), dtype=np.uint8))
    assert np.array_equal(loaded.test.inputs[:, 0], rng.integers(0, 256, (20, 28, 28), dtype=np.uint8))
    assert loaded.train.labels.tolist() == [k % 10 for k in range(60)]
    assert (loaded.name, loaded.variant, loaded.notice) == ("mnist", "official", None)


def test_cifar_is_read_as_written(house: House) -> None:
    house.put_cifar10()
    loaded = data.load("cifar10", validation=0)
    assert np.array_equal(loaded.train.inputs[10:20].flatten(1), cifar_batch(1)["data"])
    assert np.array_equal(loaded.test.inputs.flatten(1), cifar_batch(5)["data"])
    assert loaded.train.labels.tolist() == list(range(10)) * 5
    assert loaded.variant == "official"


def test_a_known_copy_of_cifar_says_what_it_is(house: House) -> None:
    official = data.load("cifar10").checksum
    contents = [pickle.dumps(cifar_batch(seed), protocol=2) for seed in reversed(range(6))]
    house.put("cifar-10-batches-py", dict(zip(CIFAR_FILES, contents, strict=True)))
    loaded = data.load("cifar10")
    assert (loaded.variant, loaded.notice) == ("batches in reverse", "In reverse.")
    assert loaded.checksum != official


def test_an_unknown_copy_of_cifar_is_refused(house: House) -> None:
    changed = {name: pickle.dumps(cifar_batch(9 + k), protocol=2) for k, name in enumerate(CIFAR_FILES)}
    place = house.put("cifar-10-batches-py", changed)
    with pytest.raises(DataError) as caught:
        data.load("cifar10")
    assert str(caught.value) == (
        f"cifar10 is damaged: {place} holds neither the official files nor a known copy; "
        "delete it and run `effi data fetch cifar10`"
    )


@pytest.mark.parametrize(("copy", "seeds"), [("official", range(6)), ("batches in reverse", range(5, -1, -1))])
@pytest.mark.parametrize("part", ["data", "labels"])
def test_one_changed_byte_accuses_its_own_batch_alone(house: House, copy: str, seeds: range, part: str) -> None:
    batches = dict(zip(CIFAR_FILES, map(cifar_batch, seeds), strict=True))
    if part == "data":
        batches["data_batch_2"]["data"][3, 7] ^= 1
    else:
        batches["data_batch_2"]["labels"][3] ^= 1
    place = house.put("cifar-10-batches-py", {name: pickle.dumps(each, protocol=2) for name, each in batches.items()})
    with pytest.raises(DataError) as caught:
        data.load("cifar10")
    assert str(caught.value) == (
        f"cifar10 is damaged: {place}/data_batch_2 does not have the checksum of the file that belongs to the others "
        f"({copy}); delete it and run `effi data fetch cifar10`"
    )


def test_a_broken_cifar_batch_is_named(house: House) -> None:
    place = house.put("cifar-10-batches-py", {**cifar_files(), "test_batch": b"<html>"})
    with pytest.raises(DataError, match=f"{place}/test_batch is no CIFAR batch .*; delete it and run"):
        data.load("cifar10")


@pytest.mark.parametrize("position", [0, 200, -1])
def test_a_changed_mnist_file_is_named_and_deleting_it_mends(house: House, position: int) -> None:
    damaged = house.put_mnist() / "train-images-idx3-ubyte.gz"
    content = bytearray(damaged.read_bytes())
    content[position] ^= 1
    damaged.write_bytes(content)
    for call in (data.load, data.fetch):
        with pytest.raises(DataError, match=f"{damaged} does not have the checksum.*; delete it and run"):
            call("mnist")
    damaged.unlink()
    assert data.fetch("mnist") == files.downloads() / "MNIST" / "raw"


def test_a_set_that_is_named_and_damaged_is_refused_before_a_kernel_starts(house: House) -> None:
    damaged = house.put_mnist() / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"other")
    with pytest.raises(DataError, match=f"{damaged} does not have the checksum"):
        data.resolve("mnist", ())


def test_a_file_that_cannot_be_opened_is_named(house: House) -> None:
    place = house.put_mnist()
    entry = files.manifest()["mnist"]
    with pytest.raises(DataError, match=f"mnist: {place} cannot be read .*: mend that or remove it"):
        files.read(entry, place)


def test_digits_need_no_download() -> None:
    loaded = data.load("digits", validation=0)
    assert (len(loaded.train), len(loaded.test), loaded.shape) == (1437, 360, (1, 8, 8))
    images = torch.cat([loaded.train.inputs, loaded.test.inputs])
    ink = (images * (16 / 255)).round()
    assert ink[0, 0, :2].tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert ink.double().mean().item() == pytest.approx(4.884164579855314, abs=1e-12)
    assert loaded.train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    counts = torch.bincount(torch.cat([loaded.train.labels, loaded.test.labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_damaged_digits_are_refused(house: House) -> None:
    manifest = house.data / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("sha256:09f66", "sha256:09f67"))
    with pytest.raises(DataError, match=r"digits\.csv\.gz does not have the checksum"):
        data.load("digits")


def test_load_passes_its_options_on() -> None:
    loaded = data.load("digits", train=100, validation=30, test=50, size=12, resize="pad", seed=1)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (100, 30, 50)
    assert loaded.shape == (1, 12, 12)
    assert loaded.train.inputs[:, :, :2].sum() == 0
    assert torch.bincount(loaded.test.labels).min() >= 4
    whole = data.load("digits", size=16)
    assert whole.shape == (1, 16, 16)
    assert whole.checksum == loaded.checksum


def test_the_validation_set_never_meets_the_test_set() -> None:
    loaded, official = data.load("digits"), data.load("digits", validation=0)
    assert loaded.test.inputs.equal(official.test.inputs)
    assert len(loaded.train) + len(loaded.validation) == len(official.train)


def test_the_checksum_covers_pixels_and_labels_of_both_parts() -> None:
    loaded = data.load("digits", validation=0)
    parts = loaded.train, loaded.test
    assert checksum(*parts) == loaded.checksum
    seen = {loaded.checksum}
    for index in range(2):
        brighter = data.Examples(parts[index].inputs + 1, parts[index].labels)
        mislabelled = data.Examples(parts[index].inputs, parts[index].labels.roll(1))
        seen |= {checksum(*parts[:index], changed, *parts[index + 1 :]) for changed in (brighter, mislabelled)}
    assert len(seen) == 5


def test_mean_and_std_are_of_the_training_images() -> None:
    loaded = data.load("digits", train=200)
    values = loaded.train.inputs.double() / 255
    assert loaded.mean == pytest.approx([values.mean().item()])
    assert loaded.std == pytest.approx([values.std(correction=0).item()])


def test_to_moves_all_three_splits() -> None:
    moved = data.load("digits", test=20).to("meta")
    assert {part.inputs.device.type for part in (moved.train, moved.validation, moved.test)} == {"meta"}
    assert (len(moved.test), moved.name) == (20, "digits")


KNOWN = (
    "mnist, cifar10, digits, imdb, sst2, cola, rte, wnli, mrpc, stsb, docstrings, grammar, wikitext-2, "
    "tinyshakespeare, folder:PATH, csv:PATH, text:PATH"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", f"unknown data set 'mnits'; did you mean 'mnist'[?] Known: {KNOWN}."),
        ("imagenet", f"unknown data set 'imagenet'; known: {KNOWN}."),
        ("sst-2", "did you mean 'sst2'[?]"),
        ("csv:", "unknown data set 'csv:'"),
        ("folder:", "unknown data set 'folder:'; did you mean 'folder:PATH'"),
        ("", "unknown data set ''"),
        ("zip:/x", "unknown data set 'zip:/x'"),
        ("folder:/no/where", "there is no /no/where: correct the path"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    for call in (data.load, partial(data.resolve, preferred=["digits"])):
        with pytest.raises(DataError, match=message):
            call(name)


def test_only_named_sets_can_be_fetched(tmp_path: object) -> None:
    with pytest.raises(DataError, match="is your own data, and nothing to fetch"):
        data.fetch(f"folder:{tmp_path}")


def test_options_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ParameterError, match="unknown resize"):
        data.load("folder:/no/where", resize="crop")


def test_auto_takes_what_is_there(house: House, server: Server) -> None:
    house.put_mnist()
    house.put_cifar10()
    assert data.resolve("auto", ["mnist", "cifar10"]) == (("mnist", "cifar10"), None)
    assert server.asked == []


def test_auto_downloads(house: House) -> None:
    assert data.resolve("auto", ["mnist"]) == (("mnist",), None)
    assert files.find(files.manifest()["mnist"]) == files.downloads() / "MNIST" / "raw"


def test_auto_falls_back_to_the_embedded_set(house: House, server: Server) -> None:
    server.content = {}
    names, notice = data.resolve("auto", ["mnist", "cifar10"])
    assert names == ("digits",)
    assert notice == (
        "mnist and cifar10: not found and not downloadable, so this run uses digits instead; "
        "set EFFI_DATA to a folder that holds the data."
    )


def test_auto_goes_without_a_missing_set(house: House, server: Server) -> None:
    house.put_mnist()
    server.content = {}
    names, notice = data.resolve("auto", ["mnist", "cifar10"])
    assert names == ("mnist",)
    assert notice.startswith("cifar10: not found")


def test_a_named_set_stands_alone_and_is_had_at_once(house: House, server: Server, tmp_path: Path) -> None:
    assert data.resolve("cifar10", ["mnist"]) == (("cifar10",), None)
    assert (house.data / "downloads" / "cifar-10-batches-py").is_dir()
    for name in ("x/1.png", "x/2.png", "y/1.png", "y/2.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).touch()
    assert data.resolve(f"folder:{tmp_path}/own", ["mnist"]) == ((f"folder:{tmp_path}/own",), None)
    with pytest.raises(DataError, match="no images in"):
        data.resolve(f"folder:{tmp_path}/own/x", ["mnist"])
    with pytest.raises(DataError, match=r"is a path: put folder: \(images\), csv: "):
        data.resolve(f"{tmp_path}/own", ["mnist"])
    server.content.clear()
    with pytest.raises(DataError, match=r"mnist is not under .* and could not be downloaded"):
        data.resolve("mnist", ["digits"])


def test_a_folder_of_data_that_is_not_there_is_told_whatever_is_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFI_DATA", str(house.shelf / "nowhere"))
    for name in ("auto", "digits"):
        with pytest.raises(DataError, match=r"EFFI_DATA names .*nowhere, which is no folder"):
            data.resolve(name, ["digits"])


def test_names_are_listed_by_what_they_hold() -> None:
    assert data.listed("images") == ["mnist", "cifar10", "digits", "folder:PATH"]
    assert data.holds("csv:some/table.csv") == "texts" and data.holds("wikitext-2") == "corpus"


def test_the_list_says_what_is_present_absent_or_damaged(house: House) -> None:
    place = house.put_mnist()
    rows = {row.name: row for row in data.available()}
    assert rows.keys() == {*NAMED, *TEXTS, *CORPORA}
    assert (rows["mnist"].where, rows["mnist"].variant, rows["mnist"].problem) == (place, "official", None)
    assert (rows["cifar10"].where, rows["cifar10"].variant, rows["cifar10"].problem) == (None, None, None)
    assert rows["digits"].variant == "official"
    (place / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    damaged = next(row for row in data.available() if row.name == "mnist")
    assert (damaged.where, damaged.variant) == (place, None)
    assert "t10k-labels-idx1-ubyte.gz does not have the checksum" in damaged.problem


def test_the_list_survives_a_misspelt_effi_data(house: House) -> None:
    shutil.rmtree(house.shelf)
    problems = {row.name: row.problem for row in data.available()}
    assert "EFFI_DATA names" in problems["mnist"]
    assert problems["digits"] is None


def test_every_named_set_is_in_the_manifest_with_checksums() -> None:
    manifest = files.manifest()
    assert manifest.keys() == {*NAMED, *TEXTS, *CORPORA}
    for entry in manifest.values():
        pinned = [each for _, _, names in entry.layouts() for each in names.values()]
        pinned += [entry.archive] if entry.archive else []
        assert pinned or entry.package
        for expected in pinned:
            kind, _, digest = expected.partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64, "lines": 64}[kind]
            int(digest, 16)
        assert entry.licence
        assert len(set(entry.classes)) == len(entry.classes)
        assert (len(entry.classes) >= 2) == (entry.name not in {*CORPORA, "stsb"})
        assert all(dataclasses.asdict(entry)[key] for key in ("title", "citation", "source"))
        assert entry.folder or entry.package


def official(name: str, **options: float) -> data.Dataset:
    """The real set, only where it is already on disk."""
    if files.find(files.manifest()[name]) is None:
        pytest.skip(f"{name} is not on this machine; set EFFI_DATA to a folder that holds it")
    return data.load(name, **options)


def test_official_mnist() -> None:
    loaded = official("mnist", validation=0)
    assert (len(loaded.train), len(loaded.test), loaded.shape) == (60_000, 10_000, (1, 28, 28))
    assert loaded.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert loaded.mean == pytest.approx([0.1307], abs=5e-5)
    assert loaded.std == pytest.approx([0.3081], abs=5e-5)


@pytest.mark.slow
def test_official_cifar10() -> None:
    loaded = official("cifar10", validation=0)
    assert (len(loaded.train), len(loaded.test), loaded.shape) == (50_000, 10_000, (3, 32, 32))
    assert [loaded.classes[k] for k in loaded.train.labels[:4]] == ["frog", "truck", "truck", "deer"]
    assert torch.bincount(loaded.train.labels).tolist() == [5000] * 10
    assert loaded.mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert loaded.std == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert bool(loaded.notice) == (loaded.variant != "official")
