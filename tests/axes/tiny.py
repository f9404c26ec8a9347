"""Tiny random models of every architecture that has a description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from effi.axes import units
from effi.models.gpt import GPT
from effi.models.language import TextSize
from effi.models.swin import swin
from effi.models.vision import cifar_vit
from effi.models.vit import ViT, ViTShape

WIDTH, HIDDEN, HEADS, DEPTH, WORDS = 16, 24, 4, 2, 50
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "max_position_embeddings": 20,
    "vocab_size": WORDS,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {**SIZES, "image_size": 8, "patch_size": 4}


class Adapter(nn.Module):
    """A model of transformers that gives one tensor."""

    def __init__(self, model: nn.Module, output: str = "logits") -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs)[self.output]


def images(side: int = 8) -> tuple[Tensor]:
    return (torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)),)


def words() -> tuple[Tensor]:
    return (torch.randint(3, WORDS, (3, 7), generator=torch.Generator().manual_seed(1)),)


def gpt2(kind: str) -> nn.Module:
    import transformers

    sizes = {"n_embd": WIDTH, "n_layer": DEPTH, "n_head": HEADS, "n_inner": HIDDEN, "n_positions": 20}
    config = transformers.GPT2Config(vocab_size=WORDS, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes)
    return getattr(transformers, kind)(config)


def language(kind: str) -> nn.Module:
    """A language model of transformers, of any kind."""
    import transformers

    if kind.startswith("GPT2"):
        return gpt2(kind)
    return getattr(transformers, kind)(getattr(transformers, kind).config_class(**SIZES))


def bert() -> nn.Module:
    import transformers

    return Adapter(transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)))


def roberta() -> nn.Module:
    import transformers

    return Adapter(transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SIZES)))


def distilbert() -> nn.Module:
    import transformers

    sizes = {"dim": WIDTH, "n_layers": DEPTH, "n_heads": HEADS, "hidden_dim": HIDDEN, "vocab_size": WORDS}
    config = transformers.DistilBertConfig(**sizes, max_position_embeddings=20)
    return Adapter(transformers.DistilBertForSequenceClassification(config))


def hugging_vit() -> nn.Module:
    import transformers

    return Adapter(transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5)))


def timm(module: str, kind: str, **more: object) -> nn.Module:
    """A model of timm; the test is left out where it is not installed."""
    models = pytest.importorskip(f"timm.models.{module}", reason="timm is not installed: uv pip install timm")
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": 5}
    return getattr(models, kind)(**sizes, mlp_ratio=HIDDEN / WIDTH, **more)


def clip() -> nn.Module:
    import transformers

    vision = {**VISION, "hidden_size": 2 * WIDTH}
    config = transformers.CLIPConfig(text_config=SIZES, vision_config=vision, projection_dim=8)
    return Adapter(transformers.CLIPModel(config), "logits_per_image")


def vit_b() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(8, 4, DEPTH, HEADS, WIDTH, HIDDEN, num_classes=5)


def swin_t() -> nn.Module:
    from torchvision.models import SwinTransformer

    # Windows that do not divide the grid and shift on one axis only: every path of the attention is walked.
    return SwinTransformer([4, 4], WIDTH, [DEPTH, DEPTH], [HEADS, HEADS], [2, 3], mlp_ratio=1.5, num_classes=5)


def text(kind: str) -> nn.Module:
    from effi.models.language import classifier

    return classifier(kind, 5, size=TEXT, vocabulary=WORDS, length=20, dropout=0.0)


@dataclass(frozen=True)
class Tiny:
    """A model, its inputs, and its closed form: parameters of a head and of a neuron of an axis.

    `wide` is in the axes of layers of twice the width, and heads under `talking` mix with each other.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    bias: bool = True
    table: int = 0
    wide: str = "no axis"
    talking: str = "no axis"

    def width(self, axis: str) -> int:
        return 2 * WIDTH if self.wide in axis else WIDTH

    def head(self, axis: str) -> int:
        """Four slices of width x head width, three biases, one column of relative positions."""
        width = self.width(axis)
        return (4 * width + 3 * self.bias) * (width // HEADS) + self.table

    def mixing(self, axis: str, heads: int) -> int:
        """Two layers over heads where they talk."""
        return 2 * heads * (heads + 1) * axis.startswith(self.talking)

    def neuron(self, axis: str) -> int:
        """A row, its bias, a column."""
        return 2 * self.width(axis) + 1


SHAPE = ViTShape(image_size=8, patch_size=4, channels=3, classes=5, width=WIDTH, depth=DEPTH, hidden=HIDDEN)
TEXT = TextSize(WIDTH, DEPTH, HEADS, HIDDEN)
SMALL = {"image_size": 8, "width": WIDTH, "heads": HEADS, "hidden": HIDDEN, "depth": DEPTH}
TINY = {
    "our ViT": Tiny(partial(ViT, SHAPE, heads=HEADS), images),
    "CIFAR ViT": Tiny(partial(cifar_vit, 5, **SMALL), images, bias=False),
    "our Swin": Tiny(
        partial(swin, 5, image_size=8, width=WIDTH, depths=(2, 2), heads=(4, 4), window=2, factors=(2, 2)),
        images,
        bias=False,
        table=9,
        wide="stages.2",
    ),
    "our GPT": Tiny(partial(GPT, WORDS, 20, TEXT, bias=True), words),
    "torchvision ViT": Tiny(vit_b, images),
    "torchvision Swin": Tiny(swin_t, partial(images, 28), table=15, wide="features.3"),
    "GPT-2": Tiny(lambda: Adapter(gpt2("GPT2LMHeadModel")), words),
    "GPT-2 classifier": Tiny(lambda: Adapter(gpt2("GPT2ForSequenceClassification")), words),
    "our GPT-2": Tiny(partial(text, "gpt2"), words),
    "our RoBERTa": Tiny(partial(text, "roberta"), words),
    "our MiniLM": Tiny(partial(text, "minilm"), words),
    "BERT": Tiny(bert, words),
    "RoBERTa": Tiny(roberta, words),
    "DistilBERT": Tiny(distilbert, words),
    "transformers ViT": Tiny(hugging_vit, images),
    "timm ViT": Tiny(partial(timm, "vision_transformer", "VisionTransformer", init_values=0.1), images),
    "timm DeiT": Tiny(partial(timm, "deit", "VisionTransformerDistilled"), images),
    "timm CaiT": Tiny(partial(timm, "cait", "Cait", mlp_ratio_token_only=HIDDEN / WIDTH), images, talking="blocks."),
    "CLIP": Tiny(clip, lambda: words() + images(), wide="vision"),
}


def scattered(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation with every parameter drawn, so that no bias or table is trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def unequal(model: nn.Module) -> dict[str, list[int]]:
    """Units to keep: one head in the first attention, two in the next, and so on; every other neuron or fewer."""
    keep: dict[str, list[int]] = {}
    for axis, count in units(model).items():
        turn = sum(axis.rpartition(".")[2] == other.rpartition(".")[2] for other in keep)
        keep[axis] = [2, 0, 3][: turn % 3 + 1] if axis.endswith("heads") else list(range(1, count, 2 + turn))
    return keep
