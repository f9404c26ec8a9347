"""EarlyBERT's draw: the counts of BERT-base, signed quantiles, the L1 gradient, the log's off-by-one."""

from __future__ import annotations

import pytest
import torch

from effi.axes import slim, units, with_gates
from effi.early_bird.structured import Log, Penalty, draw, draw_step, kept_share, relative_cost
from effi.errors import ParameterError
from effi.models.vit import ViT, ViTShape

KINDS = ("heads", "neurons")
STEP = None  # neither listener reads it
SHAPE = ViTShape(image_size=8, patch_size=4, channels=3, classes=5, width=12, depth=2, hidden=20)


def vit() -> ViT:
    return ViT(SHAPE, heads=3)


def distinct(layers: int, heads: int, neurons: int) -> dict[str, torch.Tensor]:
    """Coefficients of a model, no two alike, in random order."""
    generator = torch.Generator().manual_seed(0)
    every = torch.randperm(layers * (heads + neurons), generator=generator).float().split([heads, neurons] * layers)
    return {f"layer.{i // 2}.{('heads', 'neurons')[i % 2]}": values for i, values in enumerate(every)}


def test_golden_counts_of_bert():
    coefficients = distinct(12, 12, 3072)
    kept = draw(coefficients)
    heads = [len(coefficients[axis]) - len(units) for axis, units in kept.items() if axis.endswith("heads")]
    neurons = [len(coefficients[axis]) - len(units) for axis, units in kept.items() if axis.endswith("neurons")]
    assert heads == [4] * 12
    assert sum(neurons) == 14_746
    assert len(set(neurons)) > 1


@pytest.mark.parametrize(("multiple", "expected"), [(1, [5, 3]), (4, [4, 4]), (8, [8, 8]), (64, [10, 10])])
def test_neurons_of_a_layer_are_the_nearest_multiple_and_its_largest(multiple, expected):
    layers = {f"{i}.neurons": torch.arange(10.0).roll(i) + 1.5 * (1 - i) for i in range(2)}
    kept = draw(layers, neurons=0.6, multiple=multiple)
    assert [len(found) for found in kept.values()] == expected
    for axis, found in kept.items():
        assert found == sorted(layers[axis].argsort(descending=True)[: len(found)].tolist())


def test_multiples_are_of_neurons_and_not_of_heads():
    heads = {"a.heads": torch.arange(12.0), "a.neurons": torch.arange(100.0)}
    kept = draw(heads, multiple=64)
    assert [len(found) for found in kept.values()] == [8, 64]


def test_golden_draw_step():
    assert draw_step(1000) == 200
    model = vit()
    gates = with_gates(model)
    log = Log(gates)
    for _ in range(3):
        log(STEP)
        with torch.no_grad():
            for coefficients in gates.coefficients.values():
                coefficients.add_(1.0)
    assert len(log) == 3
    for step in (1, 2, 3):
        assert all(torch.equal(value, torch.full_like(value, step)) for value in log.at(step).values())
    for step in (0, 4):
        with pytest.raises(ParameterError, match=f"step {step} were not logged: 3 steps were"):
            log.at(step)


def test_a_log_goes_on_from_its_state():
    gates = with_gates(vit())
    log, later = Log(gates), Log(gates)
    log(STEP)
    later.load_state_dict(log.state_dict())
    with torch.no_grad():
        for coefficients in gates.coefficients.values():
            coefficients.mul_(3.0)
    for each in (log, later):
        each(STEP)
    for step, value in ((1, 1.0), (2, 3.0)):
        assert all((taken == value).all() for taken in later.at(step).values())
    assert len(later) == len(log) == 2


def test_the_smallest_go_and_signs_count():
    heads = torch.tensor([0.1, -5.0, 0.3, 0.2, 0.4, 0.5])
    kept = draw({"a.heads": heads}, heads=1 / 3)
    assert kept == {"a.heads": [2, 3, 4, 5]}


def test_heads_go_by_layer_and_neurons_over_all_layers():
    low, high = torch.arange(5.0), torch.arange(5.0, 10.0)
    coefficients = {"a.heads": low, "b.heads": high, "a.neurons": low, "b.neurons": high}
    kept = draw(coefficients, heads=0.4, neurons=0.4)
    assert kept["a.heads"] == kept["b.heads"] == [2, 3, 4]
    assert kept["a.neurons"] == [4]
    assert kept["b.neurons"] == [0, 1, 2, 3, 4]


def test_no_layer_loses_its_last_unit():
    ties = {"a.heads": torch.ones(4), "a.neurons": torch.tensor([0.0, 0.2, 0.1]), "b.neurons": torch.ones(7)}
    kept = draw(ties, neurons=0.5)
    assert kept["a.heads"] == [0]
    assert kept["a.neurons"] == [1]
    assert kept["b.neurons"] == [0]


def test_ratio_zero_keeps_everything():
    coefficients = distinct(2, 3, 8)
    kept = draw(coefficients, heads=0.0, neurons=0.0)
    assert kept == {axis: list(range(len(values))) for axis, values in coefficients.items()}


@pytest.mark.parametrize("ratios", [{"heads": 1.0}, {"neurons": -0.1}])
def test_ratios_out_of_range_are_refused(ratios: dict[str, float]):
    with pytest.raises(ParameterError, match="no share of units to remove: give at least 0 and less than 1"):
        draw(distinct(1, 3, 4), **ratios)


def test_coefficients_that_are_not_numbers_are_refused():
    with pytest.raises(ParameterError, match=r"coefficients of a.heads are not numbers"):
        draw({"a.heads": torch.tensor([1.0, float("nan")])})


def test_the_penalty_is_the_gradient_of_the_l1_norm():
    model, x = vit(), torch.randn(2, 3, 8, 8)
    gates = with_gates(model)
    with torch.no_grad():
        for value in gates.coefficients.values():
            value.copy_(torch.linspace(-1, 1, len(value)))
    loss = model(x).square().mean()
    norms = {kind: sum(c.abs().sum() for a, c in gates.coefficients.items() if a.endswith(kind)) for kind in KINDS}
    whole = loss + 1e-2 * norms["heads"] + 3e-2 * norms["neurons"]
    wanted = torch.autograd.grad(whole, list(gates.coefficients.values()))
    model(x).square().mean().backward()
    assert not torch.allclose(next(iter(gates.coefficients.values())).grad, wanted[0], atol=1e-4)
    Penalty(gates, heads=1e-2, neurons=3e-2)(STEP)
    for value, gradient in zip(gates.coefficients.values(), wanted, strict=True):
        assert torch.allclose(value.grad, gradient, atol=1e-7)


def test_kept_share_is_that_of_the_linear_flops():
    model = vit()
    assert kept_share(model, {}) == 1.0
    keep = {
        axis: range(count // 3 * 2 if axis.endswith("heads") else count // 4) for axis, count in units(model).items()
    }

    def linear(model: ViT) -> int:
        flops = model.forward_flops(2)
        return sum(value for name, value in flops.items() if name.rpartition(".")[2] in ("qkv", "out", "mlp"))

    assert kept_share(model, keep) == pytest.approx(linear(slim(model, keep)) / linear(model), rel=1e-12)


def test_relative_cost():
    assert relative_cost(1.0) == pytest.approx((0.2 + 2) / 3)
    assert relative_cost(0.62) == pytest.approx(0.48)


def test_search_and_draw_find_the_units_that_are_not_used():
    """Units whose output weights are zero get only the penalty's gradient, shrink and are drawn out."""
    model = vit()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight[:, 4:8] = 0.0
            block.mlp[2].weight[:, ::2] = 0.0
    gates = with_gates(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("gates."))
    penalty, log = Penalty(gates, heads=0.05, neurons=0.05), Log(gates)
    optimizer = torch.optim.SGD(gates.parameters(), lr=0.5)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        x, wanted = torch.randn(8, 3, 8, 8, generator=draws), torch.ones(8, 5)
        (100 * (model(x) - wanted).square().mean()).backward()
        for listener in (penalty, log):
            listener(STEP)
        optimizer.step()
        optimizer.zero_grad()
    used = {axis: log.at(5)[axis] for axis in units(model)}
    for axis, values in used.items():
        unused = values[1:2] if axis.endswith("heads") else values[::2]
        assert torch.allclose(unused, torch.full_like(unused, 1 - 4 * 0.5 * 0.05))
    gates.remove()
    idle = {axis: values == values[1 if axis.endswith("heads") else 0] for axis, values in used.items()}
    keep = draw({axis: torch.where(unused, 0.0, 1.0) for axis, unused in idle.items()}, heads=0.4, neurons=0.4)
    assert torch.allclose(slim(model, keep)(x), model(x), atol=1e-6)
