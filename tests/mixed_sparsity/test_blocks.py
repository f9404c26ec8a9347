"""Blocks of weights: their scores and masks, and a layer that computes what the dense one does under their mask."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi import masks
from effi.bench.blocks import block_linear as cases
from effi.bench.blocks import layers
from effi.cost import count_flops
from effi.errors import ParameterError
from effi.mixed_sparsity.blocks import BlockSparseLinear, Layout, block_linear, block_mask, block_scores, whole_mask
from effi.mixed_sparsity.evolution import Evolution, evolve
from effi.seeds import generator
from tests.bench.conftest import complete

SIZE = 4
# Rows and columns of blocks that are empty, full, and read several runs of neighbours.
UNEVEN = torch.tensor(
    [
        [1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1],
        [0, 0, 0, 1, 0],
        [1, 0, 0, 0, 1],
        [1, 1, 0, 1, 1],
    ]
).bool()
NONE, ALL = torch.zeros_like(UNEVEN), torch.ones_like(UNEVEN)
ONE = torch.arange(30).view(6, 5) == 13
LAYOUTS = {"uneven": UNEVEN, "none": NONE, "all": ALL, "one": ONE}
OUT, IN = (SIZE * blocks for blocks in UNEVEN.shape)


@pytest.fixture(params=["by blocks", "at once"])
def way(request, monkeypatch) -> str:
    """Both ways to compute, which a rule chooses from otherwise."""
    monkeypatch.setattr(Layout, "pays", request.param == "by blocks")
    return request.param


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed, "blocks"), dtype=dtype)


def full(kept: torch.Tensor, size: int = SIZE) -> torch.Tensor:
    """By counting rather than repeating."""
    rows, columns = (torch.arange(side * size) // size for side in kept.shape)
    return kept[rows][:, columns]


def layer(kept: torch.Tensor, *, bias: bool = True, seed: int = 0) -> BlockSparseLinear:
    linear = nn.Linear(IN, OUT, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(noise(OUT, IN, seed=seed))
    made = BlockSparseLinear(linear, SIZE)
    made.set_mask(kept)
    return made


def differences(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest one."""
    return float((a - b).detach().abs().max())


# --- weights as blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l1", "frobenius"])
def test_scores_are_those_of_loops(norm):
    weights = {"a": noise(6, 9), "b": nn.Parameter(noise(3, 6, seed=1))}
    scores = block_scores(weights, 3, norm=norm)
    assert {name: tuple(score.shape) for name, score in scores.items()} == {"a": (2, 3), "b": (1, 2)}
    for name, score in scores.items():
        assert not score.requires_grad
        for row, line in enumerate(score.tolist()):
            for column, found in enumerate(line):
                block = weights[name][3 * row : 3 * row + 3, 3 * column : 3 * column + 3].flatten().tolist()
                expected = sum(map(abs, block)) if norm == "l1" else math.sqrt(sum(value**2 for value in block))
                assert found == pytest.approx(expected, rel=1e-6)


def test_masks_of_weights_and_of_blocks_are_each_others():
    mask = {"uneven": UNEVEN, "none": NONE[:2], "all": ALL[:, :3]}
    whole = whole_mask(mask, SIZE)
    assert all(torch.equal(kept, full(mask[name])) for name, kept in whole.items())
    back = block_mask(whole, SIZE)
    assert back.keys() == mask.keys() and all(torch.equal(kept, mask[name]) for name, kept in back.items())
    assert masks.layer_sparsity(whole) == masks.layer_sparsity(mask)


def test_a_magnitude_mask_of_blocks_keeps_the_strongest():
    weights = {"a": noise(16, 16), "b": noise(8, 32, seed=1)}
    scores = block_scores(weights, 4)
    kept = masks.magnitude(scores, 0.6)
    assert sum(int(each.sum()) for each in kept.values()) == 32 - int(0.6 * 32)
    inside, outside = (
        torch.cat([scores[name][each if alive else ~each] for name, each in kept.items()]) for alive in (True, False)
    )
    assert inside.min() > outside.max()


def test_an_evolution_moves_blocks_as_it_moves_weights():
    weights, gradients = {"w": noise(32, 32)}, {"w": noise(32, 32, seed=1)}
    mask = masks.magnitude(block_scores(weights, 4), 0.75)
    weights = {"w": weights["w"] * full(mask["w"])}
    options, scores = Evolution(drop=0.5, mix=math.inf), block_scores(weights, 4)
    found = evolve(
        scores,
        mask,
        {"w": 0.75},
        share=0.0,
        gradients=block_scores(gradients, 4),
        options=options,
        generator=generator(0, "topology"),
    )
    assert int(found.mask["w"].sum()) == 16 and found.facts["pruned"] == 8
    weakest = sorted(scores["w"][mask["w"]].tolist())[:8]
    assert set(scores["w"][mask["w"] & ~found.mask["w"]].tolist()) <= set(weakest)
    strongest = block_scores(gradients, 4)["w"]
    free = ~mask["w"] | torch.isin(scores["w"], torch.tensor(weakest))
    new = found.activated["gradient"]["w"]
    assert new.any() and strongest[new].min() >= strongest[free].topk(8).values.min()


@pytest.mark.parametrize(
    ("shape", "size"), [((6, 8), 4), ((8, 6), 4), ((8, 8), 0), ((8,), 4), ((8, 8, 8), 4), ((4, 4), 8)]
)
def test_a_matrix_that_does_not_part_is_named(shape, size):
    for function, value in ((block_scores, noise(*shape)), (block_mask, torch.ones(shape).bool())):
        with pytest.raises(ParameterError, match=rf'"some.weight" of shape .* blocks of {size} x {size}'):
            function({"some.weight": value}, size)


def test_what_is_no_mask_of_blocks_or_no_norm_is_refused():
    kept = full(UNEVEN)
    kept[0, 0] = False
    with pytest.raises(ParameterError, match='"w" keeps parts of blocks of 4'):
        block_mask({"w": kept}, SIZE)
    with pytest.raises(ParameterError, match='unknown norm "l2" of blocks; use l1 or frobenius'):
        block_scores({"w": noise(4, 4)}, 4, norm="l2")


# --- the product and its gradients ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("lead", [(7,), (2, 3), (2, 1, 3), ()])
def test_the_layer_is_the_dense_one_under_the_mask(way, name, lead):
    kept = LAYOUTS[name]
    sparse, x = layer(kept), noise(*lead, IN, seed=2).requires_grad_()
    dense, y_gradient = noise(*lead, IN, seed=2).requires_grad_(), noise(*lead, OUT, seed=3)
    masked = (sparse.weight.detach() * full(kept)).requires_grad_()
    bias = sparse.bias.detach().clone().requires_grad_()
    y, expected = sparse(x), F.linear(dense, masked, bias)
    y.backward(y_gradient)
    expected.backward(y_gradient)
    assert differences(y, expected) < 1e-5 and differences(x.grad, dense.grad) < 1e-5
    assert differences(sparse.weight.grad, masked.grad * full(kept)) < 1e-5
    assert differences(sparse.bias.grad, bias.grad) < 1e-5
    assert sparse.weight.grad[~full(kept)].count_nonzero() == 0


@pytest.mark.parametrize("size", [16, 32])
def test_random_layouts_of_real_sizes_agree_in_single_precision(size):
    """Within 1e-5 of the largest value, chosen by the rule itself."""
    kept = torch.rand(384 // size, 256 // size, generator=generator(size, "blocks")) < 0.15
    weight, layout = noise(384, 256).requires_grad_(), Layout(kept, size)
    x, y_gradient = noise(200, 256, seed=1).requires_grad_(), noise(200, 384, seed=2)
    other, masked = x.detach().clone().requires_grad_(), (weight.detach() * full(kept, size)).requires_grad_()
    y, expected = block_linear(x, weight, layout), F.linear(other, masked)
    y.backward(y_gradient)
    expected.backward(y_gradient)
    wanted = masked.grad * full(kept, size)
    for found, right in ((y, expected), (x.grad, other.grad), (weight.grad, wanted)):
        assert differences(found, right) < 1e-5 * differences(right, torch.zeros_like(right))


@pytest.mark.parametrize("name", LAYOUTS)
def test_gradients_are_those_of_finite_differences(way, name):
    x, weight = noise(3, IN, dtype=torch.float64), noise(OUT, IN, seed=1, dtype=torch.float64)
    layout = Layout(LAYOUTS[name], SIZE)
    assert torch.autograd.gradcheck(
        lambda x, weight: block_linear(x, weight, layout), (x.requires_grad_(), weight.requires_grad_())
    )


def test_weights_off_the_mask_are_not_read(way, monkeypatch):
    """Nor is memory that nobody wrote: filled with what is no number, it would show."""
    sparse, x = layer(UNEVEN), noise(5, IN).requires_grad_()
    expected = sparse(x)
    with torch.no_grad():
        sparse.weight[~full(UNEVEN)] = math.nan
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *shape: self.new_full(shape, math.nan))
    y = sparse(x)
    y.sum().backward()
    assert torch.equal(y, expected)
    assert x.grad.isfinite().all() and sparse.weight.grad.isfinite().all()


def test_a_dense_gradient_is_that_of_every_weight_when_asked(way):
    sparse, x, y_gradient = layer(UNEVEN, bias=False), noise(5, IN), noise(5, OUT, seed=1)
    sparse.dense_gradient = True
    sparse(x).backward(y_gradient)
    assert differences(sparse.weight.grad, y_gradient.t() @ x) < 1e-5
    assert sparse.weight.grad[~full(UNEVEN)].count_nonzero() == int((~full(UNEVEN)).sum())
    sparse.weight.grad, sparse.dense_gradient = None, False
    sparse(x).backward(y_gradient)
    assert differences(sparse.weight.grad, (y_gradient.t() @ x) * full(UNEVEN)) < 1e-5


def test_only_gradients_that_are_needed_are_made(way):
    sparse, x = layer(UNEVEN, bias=False), noise(5, IN)
    sparse(x).sum().backward()
    assert x.grad is None and sparse.weight.grad is not None
    sparse.weight.grad, sparse.weight.requires_grad = None, False
    x.requires_grad_()
    sparse(x).sum().backward()
    assert x.grad is not None and sparse.weight.grad is None
    with torch.no_grad():
        assert not sparse(x).requires_grad


def test_inputs_may_lie_anyhow_in_memory(way):
    """Transposed, cut, expanded, and with an expanded gradient."""
    sparse = layer(UNEVEN)
    for x in (noise(IN, 6).t(), noise(6, 2 * IN)[:, ::2], noise(1, IN).expand(6, IN), noise(3, 2, IN).transpose(0, 1)):
        x = x.detach().requires_grad_()
        y = sparse(x)
        y.sum().backward()
        masked = sparse.weight.detach() * full(UNEVEN)
        assert differences(y, F.linear(x, masked, sparse.bias)) < 1e-5
        assert differences(x.grad, masked.sum(0).expand_as(x)) < 1e-5


def test_under_autocast_it_computes_in_half_precision(way):
    sparse, x = layer(UNEVEN), noise(8, IN).requires_grad_()
    expected = sparse(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        y = sparse(x)
    y.sum().backward()
    assert y.dtype == torch.bfloat16 and sparse.weight.grad.dtype == x.grad.dtype == torch.float32
    assert differences(y.float(), expected) < 0.05 * float(expected.abs().max())


def test_live_blocks_alone_are_multiplied(monkeypatch):
    """Counted by torch: three products, each of the live share of the dense one."""
    monkeypatch.setattr(Layout, "pays", True)
    x, weight = noise(10, IN).requires_grad_(), noise(OUT, IN).requires_grad_()
    for kept in LAYOUTS.values():
        counted = count_flops(lambda kept=kept: block_linear(x, weight, Layout(kept, SIZE)).sum().backward())
        assert counted == 3 * 2 * 10 * int(kept.sum()) * SIZE**2


def test_lines_are_the_live_blocks_of_a_row_or_column():
    layout, x = Layout(UNEVEN, SIZE), noise(3, IN)
    assert [line.places.tolist() for line in layout.rows[:4]] == [[0, 1, 3], [], [0, 1, 3, 4], [3]]
    assert [line.places.tolist() for line in layout.columns[:3]] == [[0, 2, 4, 5], [0, 2, 5], []]
    line, run = layout.rows[0], Layout(ALL[:, 1:4], SIZE).rows[0].run
    assert line.run is None and torch.equal(line.of(x, 1), x[:, [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15]])
    assert (run, layout.rows[3].run, layout.rows[1].run) == (slice(0, 12), slice(12, 16), slice(0, 0))
    assert layout.rows[3].of(x, 1)._base is x  # neighbours are not copied


@pytest.mark.parametrize(("size", "density"), [(16, 1 / 4), (32, 2 / 5), (64, 4 / 7), (128, 8 / 11)])
def test_the_rule_turns_where_a_product_of_few_outputs_stops_to_gain(size, density):
    """A block of s outputs takes as long as s + 48 of the dense product."""
    for share, pays in ((0.9 * density, True), (1.1 * density, False)):
        kept = masks.random({"w": torch.empty(3072 // size, 768 // size)}, 1 - share)["w"]
        assert Layout(kept, size).pays == pays
    assert Layout(ALL, SIZE).whole and not Layout(UNEVEN, SIZE).whole
    assert not Layout(ALL, size).pays and Layout(NONE, size).pays


def test_what_does_not_fit_is_refused():
    layout, x, weight = Layout(UNEVEN, SIZE), noise(3, IN), noise(OUT, IN)
    for inputs, matrix in ((noise(3, IN + 4), weight), (x, noise(OUT, IN + 4)), (x, noise(IN, OUT))):
        with pytest.raises(ParameterError, match=r"a layout of 24 x 20 weights meets a weight of shape"):
            block_linear(inputs, matrix, layout)
    sparse = layer(UNEVEN)
    for kept in (UNEVEN.t(), UNEVEN.float(), full(UNEVEN)):
        with pytest.raises(ParameterError, match=r"a mask of blocks is .* this layer needs \(6, 5\) torch.bool"):
            sparse.set_mask(kept)
    with pytest.raises(ParameterError, match=r'"weight" of shape .* does not part'):
        BlockSparseLinear(nn.Linear(IN, OUT + 1), SIZE)


# --- the layer in a training ---------------------------------------------------------------------------------


def test_a_layer_takes_over_the_parameters_of_another():
    linear = nn.Linear(IN, OUT)
    model = nn.Sequential(linear)
    before = copy.deepcopy(model.state_dict())
    model.set_submodule("0", BlockSparseLinear(linear, SIZE))
    assert model[0].weight is linear.weight and model[0].bias is linear.bias
    assert list(model.state_dict()) == list(before)
    x = noise(3, IN)
    assert differences(model(x), linear(x)) < 1e-6  # at first all blocks live
    twin = copy.deepcopy(model)
    twin[0].set_mask(NONE)
    assert torch.equal(twin(x), twin[0].bias.expand(3, OUT)) and not torch.equal(model(x), twin(x))


def test_a_mask_given_is_not_watched():
    sparse, kept, x = layer(UNEVEN), UNEVEN.clone(), noise(3, IN)
    sparse.set_mask(kept)
    expected = sparse(x)
    kept.zero_()
    assert torch.equal(sparse(x), expected)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_training_goes_as_under_a_held_mask_while_blocks_move(way, name):
    """A dense layer whose weights are held at zero, step by step, through changes of the mask."""
    optimizers = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, eps=1e-3),
    }
    sparse, x, goal = layer(UNEVEN), noise(16, IN), noise(16, OUT, seed=1)
    dense = nn.Linear(IN, OUT)
    dense.load_state_dict(sparse.state_dict())
    pairs = [(model, optimizers[name](model.parameters())) for model in (sparse, dense)]
    for kept in (UNEVEN, UNEVEN.flip(0), ALL, UNEVEN.flip(1), NONE, UNEVEN):
        sparse.set_mask(kept)
        for model, optimizer in pairs:
            masks.hold(model, optimizer, {"weight": full(kept)})
            for _ in range(3):
                F.mse_loss(model(x), goal).backward()
                optimizer.step()
                optimizer.zero_grad()
        assert sparse.weight[~full(kept)].count_nonzero() == 0
        assert differences(sparse.weight, dense.weight) < 1e-5 and differences(sparse.bias, dense.bias) < 1e-5
    assert sparse.weight.count_nonzero() == int(full(UNEVEN).sum())


def test_a_mask_may_change_between_forward_and_backward(way):
    """The gradient is that of what was computed."""
    sparse, x = layer(UNEVEN, bias=False), noise(4, IN)
    y = sparse(x)
    sparse.set_mask(~UNEVEN)
    y.sum().backward()
    assert differences(sparse.weight.grad, x.sum(0).expand(OUT, IN) * full(UNEVEN)) < 1e-5


# --- the benchmark -------------------------------------------------------------------------------------------


def test_layers_are_timed_beside_the_dense_one():
    case = layers(8, (16, 32), tokens=4, sparsities=(0.5, 0.75))
    assert case.reference == "dense" and list(complete(case)) == ["dense", "50 %", "75 %", "torchao, 2:4"]
    dense, half, quarter = (case.competitors[name]().flops for name in ("dense", "50 %", "75 %"))
    assert dense == 3 * 2 * 4 * 16 * 32 and (half, quarter) == (dense // 2, dense // 4)
    assert [each.reference for each in cases()] == ["dense"] * 3
