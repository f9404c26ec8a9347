"""Which weights may be pruned: the matrices of attention and feed-forward blocks, found by structure, not by a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from torch import nn

from effi.errors import ParameterError, did_you_mean
from effi.masks.compare import sparsity
from effi.masks.fit import Mask

Part = Literal["attention", "feed-forward", "merging"]

ATTENTION = re.compile(r"att(entio)?n", re.IGNORECASE)
MERGING = re.compile(r"merging|reduction|downsample", re.IGNORECASE)
NEVER = re.compile(r"bias|position|embed|norm|stem|cpb|^(head|lm_head|classifier|pooler|score|cls)$", re.IGNORECASE)


def prunable(model: nn.Module, *, skip: Iterable[str] = (), include: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """Parameter name -> weight matrix of an attention or feed-forward block, in the order of the model.

    No embeddings, stem, positions, norms, biases, relative-position tables, pooler, classifier or language-model head;
    Swin's patch-merging matrices count. `skip` leaves out parts ("attention", "feed-forward", "merging") and names
    that contain an entry ("blocks.0."). `include` adds matrices whose names contain an entry ("pooler.dense").
    ParameterError when an entry matches nothing or nothing is left. Settings.
    """
    names = parts(model)
    for entry in skip:
        left = {name: part for name, part in names.items() if entry != part and entry not in name}
        if len(left) == len(names):
            raise ParameterError(f'skip="{entry}" matches no prunable weight; give a part or a piece of {list(names)}')
        names = left
    more = _included(model, include, names)
    if not names and not more:
        raise ParameterError(
            f"{type(model).__name__} has no prunable weight (left); blocks with attention must stand in an "
            "nn.ModuleList or nn.Sequential, and `skip` must leave some of their matrices"
        )
    return {name: parameter for name, parameter in model.named_parameters() if name in names or name in more}


def sizes(model: nn.Module, mask: Mask | None = None) -> dict[str, float]:
    """Counts of all `parameters` and of those `prunable`, and the share of a mask that is `alive`; 1 without one."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prunable": sum(weight.numel() for weight in prunable(model).values()),
        "alive": 1 - sparsity(mask) if mask else 1.0,
    }


def _included(model: nn.Module, entries: Iterable[str], names: Iterable[str]) -> set[str]:
    """Names of matrices that contain an entry; `names` are those that need none."""
    matrices, found = [name for name, parameter in model.named_parameters() if parameter.ndim > 1], set()
    for entry in entries:
        own = {name for name in matrices if entry in name}
        if not own:
            others = [name for name in matrices if name not in names]
            raise ParameterError(f'include="{entry}" matches no weight{did_you_mean(entry, others)}')
        found |= own
    return found


def parts(model: nn.Module) -> dict[str, Part]:
    """Prunable parameter name -> the part of its block that it belongs to."""
    modules, found = dict(model.named_modules()), {}
    blocks = dict(_blocks(model))
    for name, parameter in model.named_parameters():
        path, _, own = name.rpartition(".")
        block = next((block for block in blocks if path == block or path.startswith(f"{block}.")), None)
        inside = [own] if block is None else [*path[len(block) + 1 :].split("."), own]
        table = isinstance(modules[path], nn.Embedding) or any(map(NEVER.search, inside))
        if block is not None and parameter.ndim == 2 and not table:
            found[name] = _part(blocks[block], inside[:-1])
    return found


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Elements of the outermost lists that hold attention, and the patch mergings that stand between them."""
    lists: list[str] = []
    for path, module in model.named_modules():
        nested = any(path.startswith(f"{outer}.") for outer in lists)
        if nested or not isinstance(module, nn.ModuleList | nn.Sequential) or not _attends(module):
            continue
        lists.append(path)
        for name, element in module.named_children():
            if _attends(element) or MERGING.search(type(element).__name__):
                yield f"{path}.{name}".lstrip("."), element


def _attends(module: nn.Module) -> bool:
    return any(_is_attention(path.rpartition(".")[2], inner) for path, inner in module.named_modules())


def _is_attention(name: str, module: nn.Module) -> bool:
    return bool(ATTENTION.search(name)) or type(module).__name__.endswith("Attention")


def _part(block: nn.Module, path: list[str]) -> Part:
    """The part of the block that the module at `path` belongs to."""
    chain, module = [("", block)], block
    for name in filter(None, path):
        module = getattr(module, name)
        chain.append((name, module))
    if any(_is_attention(name, module) for name, module in chain):
        return "attention"
    if any(MERGING.search(name) or MERGING.search(type(module).__name__) for name, module in chain):
        return "merging"
    return "feed-forward"
