"""CLIP as plain modules: an image and its text -> how alike they are, and images -> logits of a frozen head.

Shapes: B batch, C channels, H and W pixels, P = CHW, T tokens, N width, E embedding. A text ends with the id `end`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi.data.tokens import SPECIAL_IDS
from effi.errors import ParameterError
from effi.models.language import TextSize
from effi.models.library import check_texts, find, silent, stored_config, stored_net
from effi.seeds import seeded

# The first is also the folder's name among the data.
NAMES = ("clip-vit-base-patch32", "openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
# What the published models normalise pixels in [0, 1] by.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_PROJECTIONS = ("visual_projection", "text_projection")


@dataclass(frozen=True)
class ClipSize:
    """Sizes of the vision tower, and of the text tower unless `text` has its own; both are projected to `embedding`."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    embedding: int
    text: TextSize | None = None

    def __post_init__(self) -> None:
        self.towers()  # refuses heads that do not divide the width

    def towers(self) -> tuple[TextSize, TextSize]:
        """Sizes of the vision tower and of the text tower."""
        vision = TextSize(self.width, self.depth, self.heads, self.hidden)
        return vision, self.text or vision


# Radford et al. 2021, Table 20: ViT-B/32.
BASE = ClipSize(768, 12, 12, 3072, 32, 512, TextSize(512, 12, 8, 2048))


class TwoTowers(nn.Module):
    """A CLIPModel of transformers, `net`, behind rows (B, P + T) -> similarities (B, B) of images and texts.

    A row holds an image's normalised pixels, channel first, then its text's ids, which floats hold exactly. A
    similarity is a cosine times exp(logit_scale). A text without `end` is read at its last place.
    """

    net: Any  # the library's, which is made by name

    def __init__(self, net: nn.Module, length: int, end: int) -> None:
        super().__init__()
        self.net, self.length, self.end = net, length, end
        vision = self.net.config.vision_config
        self.image = (vision.num_channels, vision.image_size, vision.image_size)

    def forward(self, rows_BX: Tensor) -> Tensor:
        images_BP, texts_BT = rows_BX.split([rows_BX.shape[1] - self.length, self.length], 1)
        images_BE = self.embed_images(images_BP.unflatten(1, self.image))
        return _alike(images_BE, self.net.logit_scale.exp() * self.embed_texts(texts_BT.long()))

    def embed_images(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, E) of length 1 in fp32."""
        return _unit(self.net.visual_projection(self.net.vision_model(pixel_values=images_BCHW).pooler_output))

    def embed_texts(self, ids_BT: Tensor) -> Tensor:
        """Embeddings (B, E) of length 1 in fp32, of ids int64."""
        x_BTN = self.net.text_model(input_ids=ids_BT).last_hidden_state
        ends_BT = (ids_BT == self.end).long()
        # The library would read a text without an end at its first place, which has seen nothing.
        last_B = torch.where(ends_BT.any(1), ends_BT.argmax(1), ids_BT.shape[1] - 1)
        return _unit(self.net.text_projection(x_BTN[torch.arange(len(ids_BT), device=ids_BT.device), last_B]))

    def forward_flops(self, batch: int) -> dict[str, int]:
        """FLOPs of one forward by part, two per multiply-add, by layers' own sizes; causal attention counts whole."""
        images = _vision_flops(self.net.vision_model, "net.vision_model", batch)
        texts = _blocks_flops(self.net.text_model, "net.text_model", batch, self.length)
        heads = {f"net.{name}": 2 * batch * getattr(self.net, name).weight.numel() for name in _PROJECTIONS}
        return images | texts | heads | {"similarities": 2 * batch**2 * self.net.projection_dim}

    def train_flops(self, batch: int) -> int:
        """FLOPs of forward and backward: three times the forward, but images need no gradient."""
        forward = self.forward_flops(batch)
        return 3 * sum(forward.values()) - forward["net.vision_model.embeddings.patch_embedding"]


class ImageClassifier(nn.Module):
    """images BCHW (float, normalised) -> logits (B, classes): embeddings of length 1 times a frozen `head`."""

    head: Tensor

    def __init__(self, vision: nn.Module, projection: nn.Linear, head: Tensor) -> None:
        super().__init__()
        self.vision, self.projection = vision, projection
        self.register_buffer("head", head)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return _alike(_unit(self.projection(self.vision(pixel_values=images_BCHW).pooler_output)), self.head)

    def forward_flops(self, batch: int) -> dict[str, int]:
        """As in `TwoTowers`."""
        ends = {"projection": 2 * batch * self.projection.weight.numel(), "head": 2 * batch * self.head.numel()}
        return _vision_flops(self.vision, "vision", batch) | ends

    def train_flops(self, batch: int) -> int:
        """FLOPs of forward and backward: three times the forward, but neither images nor head need a gradient."""
        forward = self.forward_flops(batch)
        return 3 * sum(forward.values()) - forward["vision.embeddings.patch_embedding"] - forward["head"]


def two_towers(
    *,
    image_size: int,
    vocabulary: int,
    length: int,
    channels: int = 3,
    size: ClipSize | Literal["base"] = "base",
    end: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    hub: bool = False,
) -> TwoTowers:
    """CLIP with new weights from the "init" stream of `seed`, or with those of a checkpoint, which brings its own size.

    Texts have `length` tokens. `end` is the id that ends a text: by default a checkpoint's own, else that of a
    tokenizer trained here. A checkpoint is a folder with safetensors, a name in the hub's cache, or with `hub` a name
    to download. ParameterError for sizes that do not fit, DataError for an unusable checkpoint.
    """
    if checkpoint is not None and (size != "base" or end is not None):
        raise ParameterError('a checkpoint has its own size and end: leave size="base" and end=None beside it')
    asked = _Asked(image_size, channels, vocabulary, length)
    with seeded(seed), silent() as library:
        if checkpoint is None:
            end = SPECIAL_IDS[3] if end is None else end
            return TwoTowers(
                library.CLIPModel(_config(library, BASE if size == "base" else size, asked, end)), length, end
            )
        config = stored_config(library, checkpoint, "clip", "clip", hub=hub)
        asked.check(config)
        net = stored_net(library.CLIPModel, config, checkpoint, hub=hub, whole=True)
        return TwoTowers(net, length, _end(config.text_config))


def image_classifier(towers: TwoTowers, head: Tensor) -> ImageClassifier:
    """A classifier on a copy of the vision tower and its projection, with a frozen `head` (classes, E)."""
    vision, projection = copy.deepcopy((towers.net.vision_model, towers.net.visual_projection))
    return ImageClassifier(vision, projection, head.detach().clone())


@torch.no_grad()
def zero_shot_head(towers: TwoTowers, captions: Tensor) -> Tensor:
    """Head (classes, E) of captions, ids int64 (classes, prompts, T): what their embeddings have in common.

    Each class's is the mean over its prompts, made as long as exp(logit_scale): Radford et al. 2021, section 3.1.4.
    """
    embedded = torch.stack([towers.embed_texts(prompts).mean(0) for prompts in captions])
    return towers.net.logit_scale.exp() * _unit(embedded)


def find_checkpoint() -> str | None:
    """Folder of a published ViT-B/32 on this machine: among the data or in the hub's cache."""
    return find(NAMES[0], NAMES[1:])


@dataclass(frozen=True)
class _Asked:
    """What images and texts ask of a model."""

    image_size: int
    channels: int
    vocabulary: int
    length: int

    def check(self, config: Any) -> None:
        """ParameterError when a checkpoint does not fit them."""
        vision, text = config.vision_config, config.text_config
        if (vision.image_size, vision.num_channels) != (self.image_size, self.channels):
            raise ParameterError(
                f"the checkpoint reads {vision.num_channels} channels of {vision.image_size} pixels a side, not "
                f"{self.channels} of {self.image_size}: resize the images"
            )
        check_texts(text.vocab_size, text.max_position_embeddings, self.vocabulary, self.length)


def _config(library: Any, size: ClipSize, asked: _Asked, end: int) -> Any:
    """The library's configuration of our sizes."""
    if asked.image_size % size.patch:
        raise ParameterError(
            f"image size {asked.image_size} is not a multiple of patch size {size.patch}; choose a patch size that "
            "divides it or resize the images"
        )
    vision, text = map(_sizes, size.towers())
    vision |= {"image_size": asked.image_size, "num_channels": asked.channels, "patch_size": size.patch}
    text |= {"vocab_size": asked.vocabulary, "max_position_embeddings": asked.length}
    text |= {"bos_token_id": None, "eos_token_id": end, "pad_token_id": None}
    projected = {"projection_dim": size.embedding}
    return library.CLIPConfig(text_config=text | projected, vision_config=vision | projected, **projected)


def _sizes(size: TextSize) -> dict[str, Any]:
    names = {"hidden_size": size.width, "num_hidden_layers": size.depth}
    return names | {"num_attention_heads": size.heads, "intermediate_size": size.hidden}


def _end(config: Any) -> int:
    """The id at which a checkpoint's texts are read; those first published name a wrong one and end with the last."""
    return config.vocab_size - 1 if config.eos_token_id == 2 else config.eos_token_id


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _alike(a_BE: Tensor, b_CE: Tensor) -> Tensor:
    """Products of all pairs, BC, in fp32: in bf16 a hundred times a cosine is off by a quarter."""
    with torch.autocast(a_BE.device.type, enabled=False):
        return a_BE @ b_CE.mT


def _vision_flops(tower: Any, path: str, batch: int) -> dict[str, int]:
    stem, tokens = tower.embeddings.patch_embedding, tower.embeddings.num_patches + 1
    patches = 2 * batch * (tokens - 1) * stem.weight.numel()
    return {f"{path}.embeddings.patch_embedding": patches} | _blocks_flops(tower, path, batch, tokens)


def _blocks_flops(tower: nn.Module, path: str, batch: int, tokens: int) -> dict[str, int]:
    flops = {}
    for name, module in tower.named_modules(prefix=path):
        if isinstance(module, nn.Linear):
            flops[name] = 2 * batch * tokens * module.weight.numel()
        if hasattr(module, "out_proj"):
            mixing = 2 * batch * tokens**2 * module.out_proj.in_features
            flops |= {f"{name}.scores": mixing, f"{name}.mix": mixing}
    return flops
