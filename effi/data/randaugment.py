"""RandAugment with the operations, ranges and quirks of kentaroy47/vision-transformers-cifar10 (randomaug.py).

There, two operations of 16 are drawn per image with replacement, at strength 14 of 30. At that strength a translation
moves a CIFAR image by 46.7 of its 32 pixels, which leaves it black; the recipe was tuned so, and so it stays here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

DRAWS, STRENGTH = 2, 14 / 30
SIDE = 32  # the image side that lengths in pixels are meant for
GREY = (125, 123, 114)

Operation = Callable[[Tensor, int], Tensor]


def randaugment(images: Tensor, generator: Generator) -> Tensor:
    """uint8 (n, c, h, w), c = 1 or 3, with two operations drawn per image; the generator lies on the images' device."""
    for _ in range(DRAWS if len(images) else 0):
        images = _one_each(images, generator)
    return images


def _one_each(images: Tensor, generator: Generator) -> Tensor:
    """One operation per image; images with the same one are changed together."""
    choices = [(operation, sign) for operation in operations(generator) for sign in (-1, 1)]
    drawn = torch.randint(len(choices), (len(images),), generator=generator, device=images.device)
    order, counts = drawn.argsort(stable=True), torch.bincount(drawn, minlength=len(choices)).tolist()
    pieces = zip(choices, images[order].split(counts), strict=True)
    changed = torch.empty_like(images)
    changed[order] = torch.cat([operation(piece, sign) if len(piece) else piece for (operation, sign), piece in pieces])
    return changed


def operations(generator: Generator) -> list[Operation]:
    """The 16 operations, of a batch and a sign that only some of them heed."""
    from torchvision.transforms.v2 import functional as F

    factor = 0.1 + 1.8 * STRENGTH
    far = 100 * STRENGTH / SIDE
    slant = math.degrees(math.atan(0.3 * STRENGTH))
    return [
        lambda x, _: F.autocontrast(x),
        lambda x, _: F.equalize(x),
        lambda x, _: F.invert(x),
        lambda x, sign: F.rotate(x, sign * 30 * STRENGTH),
        lambda x, _: F.posterize(x, max(1, int(4 * STRENGTH))),
        lambda x, _: F.solarize(x, 256 * STRENGTH),
        lambda x, _: F.solarize((x + 110 * STRENGTH).clamp(max=255).byte(), 128),
        lambda x, _: F.adjust_saturation(x, factor),
        lambda x, _: F.adjust_contrast(x, factor),
        lambda x, _: F.adjust_brightness(x, factor),
        lambda x, _: F.adjust_sharpness(x, factor),
        lambda x, sign: F.affine(x, 0, [0, 0], 1, [sign * slant, 0], center=[0, 0]),
        lambda x, sign: F.affine(x, 0, [0, 0], 1, [0, sign * slant], center=[0, 0]),
        lambda x, _: _cut_out(x, generator),
        lambda x, sign: F.affine(x, 0, [sign * far * x.shape[-1], 0], 1, [0, 0]),
        lambda x, sign: F.affine(x, 0, [0, sign * far * x.shape[-2]], 1, [0, 0]),
    ]


def _cut_out(images: Tensor, generator: Generator) -> Tensor:
    """A grey rectangle around a point drawn per image, cut at the edges."""
    height, width = images.shape[-2:]
    columns = _span(width, len(images), generator, images.device)[:, None, None, :]
    rows = _span(height, len(images), generator, images.device)[:, None, :, None]
    grey = GREY if images.shape[1] == 3 else GREY[1:2]
    colour = torch.tensor(grey, dtype=torch.uint8, device=images.device)[:, None, None]
    return torch.where(rows & columns, colour, images)


def _span(side: int, count: int, generator: Generator, device: torch.device) -> Tensor:
    """Which of `side` places an interval covers, bool (count, side); it is pushed in at the start, cut at the end."""
    length = 40 * STRENGTH * side / SIDE
    centre = side * torch.rand(count, 1, generator=generator, device=device)
    start = (centre - length / 2).clamp(min=0).floor()
    place = torch.arange(side, device=device)
    return (place >= start) & (place <= start + int(length))
