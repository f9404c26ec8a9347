"""Images with captions, to pretrain on which caption is whose: both as one row of bytes, which the training loop takes.

Shapes: C channels, H, W pixels, T token ids of a caption.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from effi.data.examples import Dataset, Examples
from effi.data.transforms import normalise
from effi.errors import ParameterError
from effi.seeds import generator

BYTE = 256
MOST_IDS = BYTE**2


@dataclass(frozen=True, kw_only=True)
class PairDataset(Dataset):
    """Images with a caption each, in three splits; labels are the classes of the images.

    Inputs are uint8 (n, C*H*W + 2*T): the bytes of an image, then two of each id, the lower one first. Two captions
    of one class in a batch are both right, but a contrastive loss takes all but an image's own for wrong, as CLIP's
    does (Radford et al. 2021).
    """

    size: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.size

    @property
    def length(self) -> int:
        """Token ids of a caption."""
        return (self.train.inputs.shape[-1] - self._pixels) // 2

    @property
    def _pixels(self) -> int:
        channels, height, width = self.shape
        return channels * height * width

    def prepare(self, inputs: Tensor) -> Tensor:
        """What a model reads: float32 (..., C*H*W + T), normalised pixels and then ids, all of which are exact."""
        images = normalise(inputs[..., : self._pixels].unflatten(-1, self.shape), *self._scale)
        low, high = inputs[..., self._pixels :].float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.cat([images.flatten(-3), low + BYTE * high], -1)


def paired(images: Dataset, captions: Tensor, *, seed: int = 0) -> PairDataset:
    """Images with captions int64 (classes, prompts, T) of token ids: each gets one of its class's prompts by chance.

    Raises ParameterError for captions of another shape, or ids that two bytes do not hold.
    """
    _check(images, captions)
    streams = {name: generator(seed, f"captions of {name}") for name in images.splits}
    chosen = {name: _paired(part, captions, streams[name]) for name, part in images.splits.items()}
    return PairDataset(
        images.name,
        **chosen,
        classes=images.classes,
        checksum=_checksum(images, captions),
        variant=images.variant,
        mean=images.mean,
        std=images.std,
        notice=images.notice,
        size=images.shape,
    )


def _paired(images: Examples, captions: Tensor, stream: torch.Generator) -> Examples:
    draw = torch.randint(captions.shape[1], (len(images),), generator=stream)
    device = images.inputs.device
    ids = captions.to(device)[images.labels, draw.to(device)]
    written = torch.stack([ids % BYTE, ids // BYTE], -1).to(torch.uint8)
    return Examples(torch.cat([images.inputs.flatten(1), written.flatten(1)], 1), images.labels)


def _checksum(images: Dataset, captions: Tensor) -> str:
    """`sha256:...` over the images' checksum and every id."""
    content = images.checksum.encode() + captions.long().cpu().contiguous().numpy().tobytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _check(images: Dataset, captions: Tensor) -> None:
    if captions.ndim != 3 or captions.shape[0] != len(images.classes) or 0 in captions.shape:
        raise ParameterError(
            f"captions of shape {tuple(captions.shape)} do not fit the {len(images.classes)} classes of {images.name}: "
            "give (classes, prompts, tokens)"
        )
    if captions.is_floating_point() or captions.min() < 0 or captions.max() >= MOST_IDS:
        raise ParameterError(f"captions must be token ids from 0 to {MOST_IDS - 1}: encode them with a tokenizer")
