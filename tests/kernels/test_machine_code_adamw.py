"""AdamW under a mask compiled for Hopper: nothing spills, and a whole block moves 16 bytes at a time."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed: there is no compiler")

from effi.kernels.gpu import adamw
from tests.kernels.compiling import compiled

NUMBERS = ("step_size", "root", "shrink", "eps", "rest1", "beta2", "rest2")


@pytest.mark.slow
def test_every_array_moves_by_wide_loads_and_stores():
    types = {"rows": "*i64", "pieces": "*i64"} | dict.fromkeys(NUMBERS, "fp32")
    found = compiled(adamw.masked_adamw, types, {"BLOCK": adamw.BLOCK}, num_warps=adamw.WARPS)
    found.check()
    of_a_thread = adamw.BLOCK // (32 * adamw.WARPS)
    assert found.count("LDG.E.128") == (4 * 4 + 1) * of_a_thread // 16, "four arrays of 4 bytes, a mask of 1"
    assert found.count("STG.E.128") == 3 * 4 * of_a_thread // 16
