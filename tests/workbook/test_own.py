"""The reader's own files, refused before a kernel starts; and what the system refuses, with a mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from effi.errors import DataError
from effi.workbook import own
from effi.workbook.mends import mend


def test_a_table_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    with file.open("wb") as table:
        table.truncate(own.LARGEST["csv"])
    own.check({"dataset": f"csv:{file}"})
    with file.open("ab") as table:
        table.write(b"\n")
    with pytest.raises(DataError, match=r"own\.csv has 0\.3 GB, more than the 0\.3 GB .* give a part of it"):
        own.check({"dataset": f"csv:{file}"})
    with pytest.raises(DataError, match="give a part of it"):
        own.check({"dataset": "auto", "tasks": ["sst2", f"csv:{file}"]})


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "0.png").write_bytes(b"0")
    (folder / "cats" / "1.png").symlink_to(folder / "cats" / "0.png")
    (tmp_path / "elsewhere").symlink_to(folder)
    own.check({"dataset": f"folder:{tmp_path / 'elsewhere'}"})
    (tmp_path / "private.png").write_bytes(b"1")
    (folder / "cats" / "2.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(DataError, match=r"2\.png is a link to .*private\.png, outside the folder"):
        own.check({"dataset": f"folder:{folder}"})


def test_a_checkpoint_is_safetensors_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no safetensors \(other weights: none\)"):
        own.check({"checkpoint": str(tmp_path)})
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(DataError, match=r"other weights: pytorch_model\.bin"):
        own.check({"checkpoint": str(tmp_path)})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\xff" * 64)
    with pytest.raises(DataError, match=r"model\.safetensors is torn"):
        own.check({"checkpoint": str(tmp_path)})
    save_file({"weights": np.zeros(3)}, weights)
    own.check({"checkpoint": str(tmp_path)})
    own.check({"checkpoint": ""})


@pytest.mark.parametrize("dataset", ["auto", "cifar10", "folder:/nowhere", ""])
def test_other_data_are_not_its_matter(dataset: str) -> None:
    own.check({"dataset": dataset})


def test_a_refusal_of_the_system_gets_its_mend() -> None:
    assert "free space" in mend("OSError [Errno 28] No space left on device")
    assert "too little memory" in mend("ImportError libtorch_cpu.so: failed to map segment from shared object")
    assert mend("ValueError invalid literal") == ""
