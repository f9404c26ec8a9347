"""What happens to images between the disk and the model, in batches on whatever device they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from effi.data.randaugment import randaugment
from effi.data.stored import as_tensor, on_disk, portions
from effi.errors import DataError, ParameterError

CROP_PADDING = 4


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """uint8 (..., channels, height, width) to float32 with zero mean and unit deviation per channel.

    `mean` and `std` are in units of [0, 1]; tensors already on the device keep the call free of copies.
    """
    mean, std = (torch.as_tensor(values, dtype=torch.float32, device=images.device) for values in (mean, std))
    return (images / 255 - mean[:, None, None]) / std[:, None, None]


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel in [0, 1], summed in integers so that every machine finds the same."""
    counts = torch.stack([_histograms(portion) for portion in portions(images)]).sum(0).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    total = counts.sum(1)
    mean = counts @ levels / total
    variance = counts @ levels.square() / total - mean.square()
    # A channel of one single value has no deviation to divide by; one grey level stands in.
    std = variance.clamp(min=0).sqrt().clamp(min=1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())


def _histograms(images: Tensor) -> Tensor:
    """How often each of the 256 levels occurs in each channel, int64 (channels, 256)."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


def check_resize(size: int | None, mode: str) -> None:
    """ParameterError for a mode that `resized` does not know or a size that no image has."""
    if mode not in _RESIZE:
        raise ParameterError(f"unknown resize {mode!r}: choose {' or '.join(_RESIZE)}")
    if size is not None and size < 1:
        raise ParameterError(f"images cannot have size {size}: ask for at least 1 pixel")


def resized(images: Tensor, size: int | None, mode: str) -> Tensor:
    """uint8 (n, c, h, w) to (n, c, size, size); mode "bilinear" (antialiased) or "pad" (zeros around it).

    Raises DataError for images too large to pad.
    """
    if size is None or images.shape[-2:] == (size, size):
        return images
    if (stored := on_disk(images)) is None:
        return _RESIZE[mode](images, size)
    _RESIZE[mode](torch.empty(1, *images.shape[1:]), size)  # to hear now of images that are too large
    return as_tensor(stored.then(lambda read, _: _RESIZE[mode](read, size)))


def _bilinear(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _pad(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[-2:]
    if size < max(height, width):
        raise DataError(f"images of {height}x{width} cannot be padded to {size}: ask for more, or resize bilinear")
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))


_RESIZE: Mapping[str, Callable[[Tensor, int], Tensor]] = {"bilinear": _bilinear, "pad": _pad}


def augment(images: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    """uint8 (n, c, h, w) with each named augmentation in turn: "flip", "crop" (padding 4), "randaugment".

    All are drawn anew per image. The generator lies on the images' device. Raises ParameterError for an unknown name.
    """
    for name in names:
        if name not in _AUGMENT:
            raise ParameterError(f"unknown augmentation {name!r}: choose from {', '.join(_AUGMENT)}")
        images = _AUGMENT[name](images, generator)
    return images


def _flip(images: Tensor, generator: Generator) -> Tensor:
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def _crop(images: Tensor, generator: Generator) -> Tensor:
    count, _, height, width = images.shape
    windows = F.pad(images, [CROP_PADDING] * 4).unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = torch.randint(2 * CROP_PADDING + 1, (2, count), generator=generator, device=images.device)
    return windows[torch.arange(count, device=images.device), :, rows, columns]


_AUGMENT: Mapping[str, Callable[[Tensor, Generator], Tensor]] = {
    "flip": _flip,
    "crop": _crop,
    "randaugment": randaugment,
}
