"""How a global sparsity is shared out among tensors: Erdős-Rényi, or the same for each (SET; RigL, Sec. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from effi.errors import ParameterError

Shapes = Mapping[str, tuple[int, int]]
ONE = 1 - 1e-9  # weight, but for rounding


def erdos_renyi(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """Density of each tensor, epsilon (n_in + n_out) / (n_in n_out), which together keep the share 1 - sparsity.

    One whose density would exceed 1 is dense, and epsilon is solved anew for the others, until none does. A sparsity of
    0 gives exactly 1 everywhere. ParameterError for a sparsity outside [0, 1), no tensor, or one that would keep less
    than one weight. Official code, "ER".
    """
    _check_sparsity(shapes, sparsity)
    kept = _kept(shapes, (1 - sparsity) * sum(map(prod, shapes.values())))
    _check_kept(shapes, kept, sparsity)
    return {name: kept[name] / prod(shape) if sparsity else 1.0 for name, shape in shapes.items()}


def uniform(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """The density 1 - sparsity for each tensor; errors as in `erdos_renyi`."""
    _check_sparsity(shapes, sparsity)
    _check_kept(shapes, {name: (1 - sparsity) * prod(shape) for name, shape in shapes.items()}, sparsity)
    return dict.fromkeys(shapes, 1 - sparsity)


def _kept(shapes: Shapes, budget: float) -> dict[str, float]:
    """Weights kept of each tensor, `budget` in all. Epsilon only rises, so that a dense tensor stays dense."""
    if not shapes:
        return {}
    epsilon = budget / sum(map(sum, shapes.values()))
    dense = {name: float(prod(shape)) for name, shape in shapes.items() if epsilon * sum(shape) > prod(shape)}
    if not dense:
        return {name: epsilon * sum(shape) for name, shape in shapes.items()}
    others = {name: shape for name, shape in shapes.items() if name not in dense}
    return dense | _kept(others, budget - sum(dense.values()))


def _check_sparsity(shapes: Shapes, sparsity: float) -> None:
    if not 0 <= sparsity < 1:
        raise ParameterError(f"a sparsity of {sparsity:g} is outside [0, 1); give the share of weights to prune")
    if not shapes:
        raise ParameterError("there are no tensors to make sparse; give at least one shape")


def _check_kept(shapes: Shapes, kept: Mapping[str, float], sparsity: float) -> None:
    for name, shape in shapes.items():
        if kept[name] < ONE:
            raise ParameterError(
                f'at a sparsity of {sparsity:g} "{name}" would keep {kept[name]:.2g} of its {prod(shape):,} weights, '
                "so no signal would pass: lower the sparsity or leave the tensor out"
            )
