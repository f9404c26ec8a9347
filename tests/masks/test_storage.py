"""What a ticket weighs: the closed-form ratios, and files that agree with them and can be read again."""

from __future__ import annotations

import pytest
import torch
from scipy.sparse import csr_matrix

from effi import masks
from effi.errors import ParameterError


def ticket(sparsity: float, rows: int = 400, columns: int = 500):
    draw = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(rows, columns, generator=draw), "b": torch.randn(rows, columns, generator=draw)}
    return weights, masks.magnitude(weights, sparsity)


@pytest.mark.parametrize(("sparsity", "csr", "bitmap"), [(0.1, 1.80, 0.93), (0.3, 1.40, 0.73), (0.9, 0.20, 0.13)])
def test_ratios_to_dense(sparsity, csr, bitmap):
    weights, mask = ticket(sparsity)
    size = masks.formats(weights, mask)
    assert size["dense"] == 4 * 400_000
    assert size["dense+mask"] == size["dense"] + 50_000
    assert size["csr"] / size["dense"] == pytest.approx(csr, abs=1e-9)
    assert size["bitmap"] / size["dense"] == pytest.approx(bitmap, abs=0.005)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_files_agree_with_closed_forms(sparsity):
    weights, mask = ticket(sparsity)
    forms, files = masks.formats(weights, mask), masks.file_formats(weights, mask)
    row_pointers = 2 * 401 * 4
    for kind, size in files.items():
        header = size - forms[kind] - (row_pointers if kind == "csr" else 0)
        assert 0 < header < 700


def test_bytes_of_bf16_weights():
    weights, mask = ticket(0.5)
    half = masks.formats({name: weight.bfloat16() for name, weight in weights.items()}, mask)
    assert half == {"dense": 800_000, "dense+mask": 850_000, "csr": 200_000 * 6, "bitmap": 450_000}


def test_every_format_holds_the_ticket():
    weights, mask = ticket(0.3, 7, 9)
    expected = {name: weight * mask[name] for name, weight in weights.items()}
    for kind in ("dense", "dense+mask"):
        tensors = masks.encode(weights, mask, kind)
        assert all(torch.equal(tensors[name], expected[name]) for name in weights)
    bitmap = masks.encode(weights, mask, "bitmap")
    kept = masks.unpack(bitmap["mask"], weights)
    for name in weights:
        assert torch.equal(torch.zeros(7, 9).masked_scatter(kept[name], bitmap[name]), expected[name])
    csr = masks.encode(weights, mask, "csr")
    for name in weights:
        parts = [csr[f"{name}.{part}"] for part in ("rows", "columns", "values")]
        dense = csr_matrix(tuple(part.numpy() for part in reversed(parts)), shape=(7, 9)).toarray()
        assert torch.equal(torch.from_numpy(dense), expected[name])


def test_errors():
    weights, mask = ticket(0.3, 7, 9)
    with pytest.raises(ParameterError, match='"b"'):
        masks.formats(weights, {"a": mask["a"]})
    with pytest.raises(ParameterError, match='format "coo" is unknown; choose one of dense, '):
        masks.encode(weights, mask, "coo")
