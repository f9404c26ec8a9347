"""Maps of width and depth against Kronecker products that are really made, at toy size."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from effi.ligo.maps import Extended, Maps, expand, grow, mix, stacked, tied
from effi.ligo.pieces import Piece, forms, split
from tests.axes.tiny import scattered
from tests.ligo.beginnings import LARGER, MODELS, SMALL, gpt

MATRIX = Piece("up.weight", None, "", None, "up", "neurons", "width")
VECTOR = Piece("up.bias", None, "", None, "up", "neurons", None)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def columns(matrix: Tensor) -> Tensor:
    """vec of the paper: columns one below the other."""
    return matrix.T.reshape(-1)


def test_both_orders_of_vec():
    """vec(B W A^T) is (A (x) B) vec(W) by columns, (B (x) A) vec(W) by rows, which is torch's reshape."""
    weight, out, into = drawn(3, 4), drawn(5, 3, seed=1), drawn(7, 4, seed=2)
    grown = expand(MATRIX, weight, Maps({"neurons": out}, {"width": into}))
    assert grown.shape == (5, 7)
    assert torch.allclose(columns(grown), torch.kron(into, out) @ columns(weight))
    assert torch.allclose(grown.reshape(-1), torch.kron(out, into) @ weight.reshape(-1))


def test_the_whole_map_is_depth_times_width():
    """vec(Theta') = (w (x) I) blockdiag(A_j (x) B_j) vec(Theta) (LiGO, Sec. 3.2), layers one below the other."""
    weights, out, into, w = drawn(2, 3, 4), drawn(2, 5, 3, seed=1), drawn(2, 6, 4, seed=2), drawn(3, 2, seed=3)
    wide = torch.block_diag(*(torch.kron(a, b) for a, b in zip(into, out, strict=True)))
    whole = torch.kron(w, torch.eye(5 * 6, dtype=w.dtype)) @ wide
    piece = Piece("h.0.up.weight", None, "h", 0, "up", "neurons", "width")
    grown = mix(w, expand(piece, weights, Maps({"neurons": out}, {"width": into})))
    expected = whole @ torch.cat([columns(layer) for layer in weights])
    assert torch.allclose(torch.cat([columns(layer) for layer in grown]), expected)


@pytest.mark.parametrize(
    ("small", "large", "extended"),
    list(product([(3, 4), (9, 2)], [(5, 30), (40, 5), (10, 4)], [(0, 0), (1, 0), (1, 1)])),
)
def test_the_cheaper_order_gives_the_same(small, large, extended):
    large = tuple(max(sizes) for sizes in zip(small, large, strict=True))
    weight, dense, given = drawn(2, *small), [], []
    for axis in range(2):
        new, old = large[axis] - small[axis], small[axis]
        if extended[axis]:
            given.append(Extended(drawn(new, old, seed=axis)))
            dense.append(torch.cat([torch.eye(old, dtype=weight.dtype), drawn(new, old, seed=axis)]))
        else:
            given.append(drawn(large[axis], old, seed=axis))
            dense.append(given[-1])
    grown = expand(MATRIX, weight, Maps({"neurons": given[0]}, {"width": given[1]}))
    assert torch.allclose(grown, torch.einsum("po,loi,qi->lpq", dense[0], weight, dense[1]))


def test_an_extended_map_keeps_old_units_to_the_bit():
    new, weight = drawn(4, 3), drawn(3, 5)
    grown = expand(MATRIX, weight, Maps({"neurons": Extended(new)}, {}))
    assert torch.equal(grown[:3], weight) and torch.allclose(grown[3:], new @ weight)
    assert torch.equal(Extended(new).dense()[:3], torch.eye(3, dtype=new.dtype))
    assert Extended(drawn(2, 4, 3)).dense().shape == (2, 7, 3)


@pytest.mark.parametrize("large", [(5, 30), (40, 5)])
@pytest.mark.parametrize("layers", [(), (2,)])
@pytest.mark.parametrize("learned", list(product((True, False), repeat=3))[:-1])
def test_gradients_of_extended_maps_are_those_of_dense_ones(large, layers, learned):
    """Rows first and columns first, maps of all layers and of each, and whatever of the three is learned."""
    given = [drawn(2, 3, 4), drawn(*layers, large[0] - 3, 3, seed=1), drawn(*layers, large[1] - 4, 4, seed=2)]
    tensors = [each.requires_grad_(wanted) for each, wanted in zip(given, learned, strict=True)]
    maps, aim = [Extended(each) for each in tensors[1:]], drawn(2, *large, seed=3)
    found, expected = (
        torch.autograd.grad(
            expand(MATRIX, tensors[0], Maps({"neurons": out}, {"width": into})),
            [each for each in tensors if each.requires_grad],
            aim,
        )
        for out, into in (maps, [each.dense() for each in maps])
    )
    assert all(torch.allclose(one, two) for one, two in zip(found, expected, strict=True))


def test_the_backward_pass_of_extended_maps_holds_the_result_alone():
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    weight, out, into = (each.requires_grad_() for each in (drawn(2, 30, 40), drawn(60, 30), drawn(20, 40)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        grown = expand(MATRIX, weight, Maps({"neurons": Extended(out)}, {"width": Extended(into)}))
    assert grown.is_contiguous()
    assert {each.untyped_storage().data_ptr() for each in kept} == {
        each.untyped_storage().data_ptr() for each in (grown, out, into)
    }


def test_vectors_take_the_map_of_rows_and_other_kinds_stay():
    vector, out = drawn(2, 3), drawn(2, 5, 3, seed=1)
    grown = expand(VECTOR, vector, tied({"neurons": out}))
    assert torch.allclose(grown, torch.stack([each @ one for each, one in zip(out, vector, strict=True)]))
    assert expand(VECTOR, vector, tied({"width": out})) is vector


@pytest.mark.parametrize("name", ["GPT", "BERT", "ViT", "transformers GPT-2"])
def test_depth_first_is_width_first_where_layers_share_maps(name: str):
    small, large = scattered(MODELS[name](SMALL)), MODELS[name](LARGER)
    wide = {kind: drawn(24, 16, seed=seed) for seed, kind in enumerate(("width", "query", "key", "value", "head"))}
    maps = {kind: each.float() for kind, each in (wide | {"neurons": drawn(48, 32, seed=9)}).items()}
    families = stacked(split(small))
    weights = {piece: drawn(4, 2, seed=place).float() for place, piece in enumerate(families)}
    depth, width = (
        grow(families, forms(large), lambda _: tied(maps), weights.__getitem__, order) for order in ("depth", "width")
    )
    for parameter, held in large.named_parameters():
        assert depth[parameter].shape == held.shape
        assert torch.allclose(depth[parameter], width[parameter], atol=1e-3, rtol=1e-4)


def test_layers_are_stacked_in_order():
    model = scattered(gpt(LARGER))
    found = {piece.family: value for piece, value in stacked(split(model)).items()}
    assert torch.equal(found["blocks.mlp.2"], torch.stack([block.mlp[2].weight for block in model.blocks]))
    assert torch.equal(found["embedding"], model.embedding.weight)


def test_each_layer_may_have_a_map_of_its_own():
    """Depth first they are those of large layers, width first those of small ones."""
    small, large = scattered(gpt(SMALL)), gpt(LARGER)
    families, w = stacked(split(small)), drawn(4, 2, seed=5).float()
    shared = {kind: drawn(24, 16, seed=7).float() for kind in ("width", "query", "key", "value")}
    for order, layers in (("depth", 4), ("width", 2)):
        own = drawn(layers, 48, 32).float()
        grown = grow(families, forms(large), lambda _, own=own: tied(shared | {"neurons": own}), lambda _: w, order)
        ups = torch.stack([block.mlp[0].weight for block in small.blocks]) @ shared["width"].T
        for layer in range(4):
            place = layer if order == "depth" else slice(None)
            expected = (w[layer][:, None, None] * (own[place] @ ups)).sum(0)
            assert torch.allclose(grown[f"blocks.{layer}.mlp.0.weight"], expected, atol=1e-3)
