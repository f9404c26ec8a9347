"""Layer densities: Erdős-Rényi with its freezing rule, and uniform."""

from __future__ import annotations

from math import prod

import pytest

from effi.errors import ParameterError
from effi.mixed_sparsity.densities import erdos_renyi, uniform

WIDTH, DEPTH, VOCABULARY = 768, 12, 50304
BLOCK = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
BLOCKS = {f"{layer}.{name}": shape for layer in range(DEPTH) for name, shape in BLOCK.items()}
GPT2 = BLOCKS | {"head": (VOCABULARY, WIDTH)}
UNEVEN = {"thin": (2, 50), "square": (20, 20), "wide": (64, 16), "column": (40, 1)}


def kept(shapes, densities) -> float:
    return sum(densities[name] * prod(shape) for name, shape in shapes.items())


def bisected(shapes, sparsity) -> dict[str, float]:
    """By brute force: the epsilon for which min(1, epsilon (n_in + n_out) / (n_in n_out)) keeps what is asked."""

    def at(epsilon: float) -> dict[str, float]:
        return {name: min(1.0, epsilon * sum(shape) / prod(shape)) for name, shape in shapes.items()}

    low, high = 0.0, float(max(map(prod, shapes.values())))
    for _ in range(200):
        middle = (low + high) / 2
        few = kept(shapes, at(middle)) < (1 - sparsity) * sum(map(prod, shapes.values()))
        low, high = (middle, high) if few else (low, middle)
    return at(high)


# --- Erdős-Rényi ---------------------------------------------------------------------------------------------


def test_gpt2_small_has_123_568_128_weights_to_make_sparse():
    assert sum(map(prod, BLOCKS.values())) == 84_934_656
    assert sum(map(prod, GPT2.values())) == 123_568_128


# Global sparsity, with the head: densities of qkv, output projection, both feed-forward matrices, and head.
@pytest.mark.parametrize(
    ("sparsity", "head", "expected"),
    [
        (0.5, True, (0.5403, 0.8104, 0.5065, 0.4114)),
        (0.8, True, (0.2161, 0.3242, 0.2026, 0.1646)),
        (0.5, False, (0.5000, 0.7500, 0.4688)),
        (0.8, False, (0.2000, 0.3000, 0.1875)),
        (0.1, True, (1.0, 1.0, 0.9420, 0.7651)),
        (0.01, True, (1.0, 1.0, 1.0, 0.9680)),
        (0.0, True, (1.0, 1.0, 1.0, 1.0)),
        (0.0, False, (1.0, 1.0, 1.0)),
    ],
)
def test_densities_of_gpt2_small(sparsity, head, expected):
    shapes = GPT2 if head else BLOCKS
    found = erdos_renyi(shapes, sparsity)
    assert list(found) == list(shapes)
    for layer in range(DEPTH):
        names = (f"{layer}.qkv", f"{layer}.out", f"{layer}.up", *(["head"] if head else []))
        assert [found[name] for name in names] == pytest.approx(list(expected), abs=5.1e-5)
        assert found[f"{layer}.down"] == found[f"{layer}.up"]


@pytest.mark.parametrize(("sparsity", "sparse"), [(0.1, {"up", "down", "head"}), (0.01, {"head"}), (0.0, set())])
def test_restoration_leaves_only_the_large_tensors_sparse(sparsity, sparse):
    found = erdos_renyi(GPT2, sparsity)
    assert {name.rpartition(".")[2] for name, density in found.items() if density != 1} == sparse


@pytest.mark.parametrize("shapes", [GPT2, BLOCKS, UNEVEN], ids=["with head", "blocks", "uneven"])
@pytest.mark.parametrize("sparsity", [1e-6, 0.01, 0.05, 0.2, 0.45, 0.7, 0.9, 0.93])
def test_the_weights_kept_are_those_asked_for_and_dense_tensors_are_exactly_dense(shapes, sparsity):
    found, reference = erdos_renyi(shapes, sparsity), bisected(shapes, sparsity)
    assert found == pytest.approx(reference, rel=1e-9)
    assert kept(shapes, found) == pytest.approx((1 - sparsity) * sum(map(prod, shapes.values())), rel=1e-12)
    assert max(found.values()) <= 1
    sparse = [found[name] * prod(shape) / sum(shape) for name, shape in shapes.items() if found[name] < 1]
    assert sparse == pytest.approx([sparse[0]] * len(sparse))  # one epsilon


def test_freezing_one_tensor_can_freeze_another():
    """At first only `a` would exceed 1; what it cannot take makes `b` exceed 1, and only then is epsilon right."""
    shapes = {"a": (10, 10), "b": (20, 20), "c": (100, 100)}
    budget = 2550
    first, second = budget / 260, (budget - 100) / 240
    assert first * 20 > 100 and first * 40 < 400 and second * 40 > 400
    found = erdos_renyi(shapes, 1 - budget / 10500)
    assert found == {"a": 1, "b": 1, "c": pytest.approx((budget - 500) / 10000)}


def test_the_smallest_sparsity_does_not_divide_by_nothing():
    for sparsity in (5e-324, 1e-17, 2**-53, 1e-15):
        assert erdos_renyi(GPT2, sparsity) == pytest.approx(dict.fromkeys(GPT2, 1.0))
        assert erdos_renyi({"only": (7, 3)}, sparsity) == pytest.approx({"only": 1.0})


def test_no_sparsity_is_dense_to_the_bit():
    """Epsilon alone would leave the second of these a hair below 1."""
    assert erdos_renyi({"first": (3, 2), "second": (10, 3)}, 0) == {"first": 1, "second": 1}


# --- uniform -------------------------------------------------------------------------------------------------


def test_uniform_gives_each_tensor_the_same():
    assert uniform(GPT2, 0.75) == dict.fromkeys(GPT2, 0.25)
    assert uniform(GPT2, 0) == dict.fromkeys(GPT2, 1)


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", [erdos_renyi, uniform])
@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_named(distribution, sparsity):
    with pytest.raises(ParameterError, match=rf"a sparsity of {sparsity:g} is outside \[0, 1\)"):
        distribution(GPT2, sparsity)


@pytest.mark.parametrize("distribution", [erdos_renyi, uniform])
def test_a_tensor_left_without_a_weight_is_named(distribution):
    shapes = {"large": (100, 100), "tiny": (2, 1)}
    with pytest.raises(ParameterError, match=r'at a sparsity of 0\.995 "tiny" would keep .* of its 2 weights'):
        distribution(shapes, 0.995)
    with pytest.raises(ParameterError, match="no tensors"):
        distribution({}, 0.5)
    with pytest.raises(ParameterError, match='"empty" would keep 0 of its 0 weights'):
        distribution({"empty": (0, 3), "large": (10, 10)}, 0.5)


def test_one_weight_is_enough():
    assert uniform({"one": (10, 10)}, 0.99) == {"one": pytest.approx(0.01)}
    with pytest.raises(ParameterError):
        uniform({"one": (10, 10)}, 0.9901)
