"""Other libraries: how they are loaded and tried, as none has to be installed, and their ViTs at the shape of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from effi.bench.rounds import Missing, first_words
from effi.models.vit import ViTShape

Made = TypeVar("Made")
NOT_INSTALLED = "not installed: uv pip install "


def needed(module: str, package: str) -> ModuleType:
    """An optional module; Missing says how to install it, or why it does not load."""
    if find_spec(module.partition(".")[0]) is None:  # of a part, whose parent is absent, it would raise
        raise Missing(f"{NOT_INSTALLED}{package}")
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch is a RuntimeError
        raise Missing(f"does not load: {error}") from error


def _called(names: str, shape: ViTShape, heads: int) -> dict[str, int]:
    """Sizes of a ViT by a library's names for image, patch, channels, classes, width, depth and heads, in order."""
    sizes = (shape.image_size, shape.patch_size, shape.channels, shape.classes, shape.width, shape.depth, heads)
    return dict(zip(names.split(), sizes, strict=True))


def timm(shape: ViTShape, heads: int) -> nn.Module:
    """timm's VisionTransformer without class token, pooled by mean."""
    return needed("timm.models", "timm").VisionTransformer(
        **_called("img_size patch_size in_chans num_classes embed_dim depth num_heads", shape, heads),
        mlp_ratio=shape.hidden / shape.width,
        class_token=False,
        global_pool="avg",
    )


def simple_vit(shape: ViTShape, heads: int) -> nn.Module:
    """vit-pytorch's SimpleViT; its attention has no biases."""
    return needed("vit_pytorch", "vit-pytorch").SimpleViT(
        **_called("image_size patch_size channels num_classes dim depth heads", shape, heads),
        mlp_dim=shape.hidden,
        dim_head=shape.width // heads,
    )


def x_transformers(shape: ViTShape, heads: int, *, flash: bool) -> nn.Module:
    """x-transformers' ViTransformerWrapper, with its own attention or torch's fused one."""
    library = needed("x_transformers", "x-transformers")
    encoder = library.Encoder(
        dim=shape.width,
        depth=shape.depth,
        heads=heads,
        attn_dim_head=shape.width // heads,
        ff_mult=shape.hidden / shape.width,
        attn_flash=flash,
    )
    return library.ViTransformerWrapper(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        channels=shape.channels,
        num_classes=shape.classes,
        attn_layers=encoder,
    )


class Logits(nn.Module):
    """A transformers classifier that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.model(images_BCHW).logits


def transformers(shape: ViTShape, heads: int) -> nn.Module:
    """transformers' ViTForImageClassification, class token included."""
    library = needed("transformers", "transformers")
    names = "image_size patch_size num_channels num_labels hidden_size num_hidden_layers num_attention_heads"
    config = library.ViTConfig(
        **_called(names, shape, heads),
        intermediate_size=shape.hidden,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return Logits(library.ViTForImageClassification(config))


PEERS: Mapping[str, Callable[[ViTShape, int], nn.Module]] = {
    "timm": timm,
    "SimpleViT": simple_vit,
    "x-transformers": lambda shape, heads: x_transformers(shape, heads, flash=False),
    "x-transformers, fused": lambda shape, heads: x_transformers(shape, heads, flash=True),
    "transformers": transformers,
}


def tried(step: Callable[[], object]) -> Callable[[], object]:
    """The step, made once, so that its kernels are compiled; Missing where torch.compile does not work."""
    try:
        step()
    except TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Missing(f"does not compile here: {' '.join(lines[:2])}") from error
    return step


def attempted(step: Callable[[], object]) -> Callable[[], object]:
    """The step, made once, as `once` does."""
    once(step)
    return step


def once(make: Callable[[], Made]) -> Made:
    """What a library makes; Missing, with the first words of what it raised, where this machine or version cannot."""
    try:
        return make()
    except Exception as error:  # whatever it raises, the others are still to be timed
        raise Missing(f"does not run here: {first_words(error)}") from error
