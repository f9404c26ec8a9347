"""The block-sparse kernels compiled for Hopper: nothing spills, and products in bf16 are those of tensor cores."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed: there is no compiler")

import torch

from effi.kernels.gpu import block_sparse
from effi.kernels.gpu.block_sparse import SLICE, sizes
from tests.kernels.compiling import Machine, compiled

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def product(dtype: str, size: int, unit: str) -> Machine:
    """`unit` names the weight's stride of 1: that of inputs forward, of outputs for the gradient of x."""
    types = dict.fromkeys(("x", "weight", "y"), f"*{dtype}") | dict.fromkeys(("places", "counts"), "*i32")
    types |= dict.fromkeys(("most", "x_stride", "y_stride", "out_stride", "in_stride", "tokens"), "i32")
    how = sizes(size, DTYPES[dtype])
    warps = how.pop("num_warps")
    constants = {"SIZE": size, unit: 1, **how}
    del types[unit]
    return compiled(block_sparse.multiply, types, constants, unaligned=("counts", "tokens", "most"), num_warps=warps)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("unit", ["in_stride", "out_stride"])
def test_products_in_bf16_are_made_by_tensor_cores_from_what_is_loaded_ahead(size, unit):
    found = product("bf16", size, unit)
    found.check()
    assert found.count("HGMMA") >= 4 and found.count("LDGSTS.E.BYPASS.128") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 128])
def test_products_in_fp32_round_nothing(size):
    found = product("fp32", size, "in_stride")
    found.check()
    assert found.count("FFMA") >= 64 and not found.count("HGMMA", "HMMA")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "size", "by"), [("bf16", 128, "HGMMA"), ("bf16", 32, "HMMA"), ("fp32", 64, "FFMA")])
def test_gradients_of_live_blocks(dtype, size, by):
    types = dict.fromkeys(("slope", "x", "gradient"), f"*{dtype}") | {"live": "*i32"}
    types |= dict.fromkeys(("tokens", "slope_stride", "x_stride", "gradient_stride"), "i32")
    constants = {"SIZE": size, "PART": min(size, SLICE), "SLICE": SLICE}
    found = compiled(block_sparse.differentiate, types, constants, unaligned=("live", "tokens"))
    found.check()
    assert found.count(by) >= 4
