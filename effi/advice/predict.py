"""Load the model that lies beside this file, and predict: python predict.py IMAGE | TEXT [TEXT] | --check.

It needs torch and safetensors, pillow for images and tokenizers for texts, and nothing of the workbook. A language
model goes on with the text. --check holds its outputs to those that the model had when it was trained, on the test
examples in check.safetensors, which nothing else needs.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

MORE = 20  # tokens that a language model adds
CLOSE = 1e-4  # of the largest output: another machine adds in another order


class Model:
    """Prepared inputs -> outputs; `config` says what both are."""

    def __init__(self, folder: Path) -> None:
        network, weights = runpy.run_path(str(folder / "network.py")), load_file(folder / "model.safetensors")
        self.folder, self.config = folder, json.loads((folder / "config.json").read_text("utf-8"))
        self._forward, self._weights = network["forward"], [weights[name] for name in network["WEIGHTS"]]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        outputs: Tensor = self._forward(None, *self._weights, x)[0]
        return outputs.float()


def predict(model: Model, given: Sequence[str]) -> str:
    """What the model tells of an image's path, a text or a pair of texts."""
    reads, tells = model.config["inputs"], model.config["outputs"]
    if tells["kind"] == "next token":
        return continued(model, given[0])
    (outputs,) = model(image(given[0], reads) if reads["kind"] == "image" else text(model, given))
    if tells["kind"] == "number":
        return f"{outputs.item():.4f}"
    shares = sorted(zip(outputs.softmax(-1).tolist(), tells["classes"], strict=True), reverse=True)
    return "\n".join(f"{share:.4f} {name}" for share, name in shares)


def image(path: str, reads: dict[str, Any]) -> Tensor:
    """An image file as the model reads it, (1, C, H, W)."""
    import numpy as np
    from PIL import Image

    size = reads["width"], reads["height"]
    with Image.open(path) as file:
        file.draft(reads["mode"], size)
        plain = file.convert(reads["mode"])
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(plain).reshape(size[1], size[0], -1)).permute(2, 0, 1)
    mean, std = (torch.tensor(reads[name])[:, None, None] for name in ("mean", "std"))
    return ((pixels / 255 - mean) / std)[None]


def text(model: Model, given: Sequence[str]) -> Tensor:
    """One text, or two that belong together, as ids (1, T)."""
    words, reads = tokenizer(model), model.config["inputs"]
    start, end, most = reads["start"], reads["end"], reads["tokens"]
    parts = [f" {each}" for each in given]
    if len(parts) == 1:
        ids = [start, *words.encode(*parts, add_special_tokens=False).ids, end]
        return torch.tensor([ids if len(ids) <= most else [*ids[: most - 1], end]])
    words.enable_truncation(most - 3, strategy="longest_first")
    found = words.encode(*parts, add_special_tokens=False)
    first = found.sequence_ids.count(0)
    return torch.tensor([[start, *found.ids[:first], end, *found.ids[first:], end]])


def continued(model: Model, begun: str) -> str:
    """A text with the tokens that the model holds for likeliest, one by one."""
    words, most = tokenizer(model), model.config["inputs"]["tokens"]
    ids = words.encode(begun, add_special_tokens=False).ids
    if not ids:
        sys.exit("Give a text to go on with.")
    for _ in range(MORE):
        seen = ids[-most:]
        outputs = model(torch.tensor([seen + [0] * (most - len(seen))]))  # what stands behind is not seen
        ids.append(int(outputs[0, len(seen) - 1].argmax()))
    return str(words.decode(ids))


def tokenizer(model: Model) -> Any:
    """As the model's texts were cut: a text that spells a special token is text."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    words.encode_special_tokens = True
    return words


def check(model: Model) -> str:
    """That the outputs are those of the model in its run."""
    known = checked(model)
    apart = float((model(known["inputs"]) - known["outputs"]).abs().max())
    said = f"Test examples, {len(known['outputs'])}: outputs at most {apart:.1e} from those in the run"
    if apart > CLOSE * float(known["outputs"].abs().max()):
        sys.exit(f"{said}, which is too much.")
    return said


def checked(model: Model) -> dict[str, Tensor]:
    """Prepared "inputs" of some test examples, and the "outputs" of the model in its run."""
    return load_file(model.folder / "check.safetensors")


def main() -> None:
    """As the first lines say."""
    given = sys.argv[1:]
    if not given:
        sys.exit(__doc__)
    model = Model(Path(__file__).parent)
    print(check(model) if given == ["--check"] else predict(model, given))


if __name__ == "__main__":
    main()
