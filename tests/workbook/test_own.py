"""The reader's own checkpoint, refused before a kernel starts; and what the system refuses, with a mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from effi.errors import DataError
from effi.workbook import own
from effi.workbook.mends import mend


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


def test_a_refusal_of_the_system_gets_its_mend() -> None:
    assert "free space" in mend("OSError [Errno 28] No space left on device")
    assert "too little memory" in mend("ImportError libtorch_cpu.so: failed to map segment from shared object")
    assert mend("ValueError invalid literal") == ""
