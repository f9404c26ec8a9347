"""Selection compiled for Hopper: nothing spills, and scores, flags and masks move 16 bytes at a time."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed: there is no compiler")

import triton.language as tl

from effi.kernels.gpu import selection
from tests.kernels.compiling import compiled

READ = {"ROUNDS": selection.ROUNDS, "BLOCK": selection.BLOCK}
LAID = {"rows": "*i64", "pieces": "*i64", "state": "*i64"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "absolute", "flags"), [(tl.float32, True, True), (tl.float32, False, False), (tl.bfloat16, True, False)]
)
def test_passes_over_scores(dtype, absolute, flags):
    read = READ | {"DTYPE": dtype, "ABSOLUTE": absolute, "FLAGS": flags}
    counting = read | {"SHIFT": selection.SHIFTS[1], "BITS": selection.BITS}
    for kernel, arguments, constants in (
        (selection.count_digits, {"counts": "*i32"}, counting),
        (selection.count_ties, {"ties": "*i32"}, read),
        (selection.write_masks, {"running": "*i64"}, read),
    ):
        found = compiled(kernel, LAID | arguments, constants, unaligned=("ties",), num_warps=selection.WARPS)
        found.check()
        wide = selection.BLOCK * (dtype.primitive_bitwidth // 8 + flags) // (32 * selection.WARPS * 16)
        assert found.count("LDG.E.128") == wide, "as many loads as bytes ask for"
        assert found.count("STG.E.128") == (kernel is selection.write_masks)


def test_the_choice_of_a_digit():
    found = compiled(selection.choose_digit, {"state": "*i64", "counts": "*i32"}, {"BITS": selection.BITS}, num_warps=4)
    found.check()
