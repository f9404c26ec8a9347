"""What an arm leaves of its model: weights, what is computed with them as plain Python, and how inputs are prepared.

The computation is what torch.export sees of the model, written out: it needs torch alone, whatever was cut out of the
model, and no pickle. Who wants models names the arms, variant and ratio, in EFFI_KEEP_MODELS, with commas.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effi.data import Dataset, TextDataset
from effi.errors import RecordError

ASKED = "EFFI_KEEP_MODELS"
SEED = 0  # one model of an arm is enough to use it
EXAMPLES = 8  # and one text of a language model, which has outputs for each of its tokens
WHY_NOT = "why_not.txt"
HEADER = '''"""What the model computes, as torch.export wrote it out; WEIGHTS are its arguments before the input."""

import torch
from torch import device, inf, nan

WEIGHTS = {weights}

'''


def is_asked(short: str, seeds: tuple[int, ...]) -> bool:
    """Whether somebody wants the model of an arm, named by variant and ratio."""
    return SEED in seeds and short in os.environ.get(ASKED, "").split(",")


def folder(records: Path, identity: str) -> Path:
    """Where the model of a record lies."""
    return records.with_name("models") / identity


def write(place: Path, model: nn.Module, data: Dataset | TextDataset, facts: Mapping[str, Any]) -> None:
    """Leave a model in a folder, with the outputs that it has here for some test examples.

    config.json has `facts`, what the model reads and what it tells. A model that cannot be written out leaves a
    sentence in its place: what was recorded of it stands in any case.
    """
    half = place.with_name(f"{place.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        _write(half, copy.deepcopy(model).cpu().eval(), data, facts)
    except Exception as error:  # whatever the exporter raises of a model that it does not know
        (half / WHY_NOT).write_text(f"{type(error).__name__}: {error}"[:1000], "utf-8")
    shutil.rmtree(place, ignore_errors=True)
    half.rename(place)


@torch.no_grad()
def _write(place: Path, model: nn.Module, data: Dataset | TextDataset, facts: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    per_token = bool(getattr(model, "per_token", False))
    x = data.prepare(data.test.inputs[: 1 if per_token else EXAMPLES]).cpu()
    network, weights = _written_out(model, x, None if per_token or isinstance(data, Dataset) else _length(data))
    save_file(weights, place / "model.safetensors")
    (place / "network.py").write_text(network, "utf-8")
    save_file({"inputs": x.contiguous(), "outputs": model(x).float().contiguous()}, place / "check.safetensors")
    reads = _images(data) if isinstance(data, Dataset) else _text(data)
    config = {**facts, "inputs": reads, "outputs": _tells(data, per_token), "torch": torch.__version__}
    (place / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    if isinstance(data, TextDataset) and data.tokenizer is not None:
        data.tokenizer.save(place / "tokenizer.json")


def _written_out(model: nn.Module, x: Tensor, longest: int | None) -> tuple[str, dict[str, Tensor]]:
    """Python that computes the model for any number of examples, of texts up to the longest, and its weights."""
    program = _exported(model, x[[0, -1]], longest)  # of one example the exporter would learn that there is one
    graph = program.graph_module.graph
    for node in graph.nodes:
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    code = graph.python_code("self").src
    if "self." in code or "pytree" in code:
        raise RecordError("a part of the model is computed by more than torch's own operators")
    known = {**program.constants, **program.state_dict}
    names = [spec.target for spec in program.graph_signature.input_specs if spec.target is not None]
    weights = {name: known[name].detach().clone().contiguous() for name in names}
    return HEADER.format(weights=json.dumps(names, indent=4)) + code.strip() + "\n", weights


def _exported(model: nn.Module, x: Tensor, longest: int | None) -> Any:
    from torch._dynamo.exc import UserError
    from torch.export import Dim, export

    free: dict[int, Any] = {0: Dim("examples")}
    if longest is not None:
        free[1] = Dim("tokens", min=2, max=longest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return export(model, (x,), dynamic_shapes=(free,), strict=False)
        except UserError:  # to the quick way len(x) is a number; the slow one reads the model's source
            return export(model, (x,), dynamic_shapes=(free,), strict=True)


def _length(data: TextDataset) -> int:
    return data.train.inputs.shape[1]


def _images(data: Dataset) -> dict[str, Any]:
    channels, height, width = data.shape
    size = {"mode": "L" if channels == 1 else "RGB", "height": height, "width": width}
    return {"kind": "image", **size, "mean": list(data.mean), "std": list(data.std)}


def _text(data: TextDataset) -> dict[str, Any]:
    _, _, start, end, _ = data.tokenizer.special if data.tokenizer else (0,) * 5
    return {"kind": "text", "tokens": _length(data), "pad": data.pad, "start": start, "end": end}


def _tells(data: Dataset | TextDataset, per_token: bool) -> dict[str, Any]:
    if per_token:
        return {"kind": "next token"}
    return {"kind": "classes", "classes": list(data.classes)} if data.classes else {"kind": "number"}
