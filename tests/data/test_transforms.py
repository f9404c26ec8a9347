"""Normalising, statistics, resizing and augmentation against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional as F

from effi.data import augment, normalise
from effi.data.randaugment import operations
from effi.data.transforms import check_resize, resized, statistics
from effi.errors import DataError, ParameterError


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_statistics_are_the_mean_and_deviation_per_channel() -> None:
    images = noise(5000, 3, 4, 5)
    mean, std = statistics(images)
    values = images.double().div(255).transpose(0, 1).flatten(1)
    assert mean == pytest.approx(values.mean(1).tolist(), abs=1e-12)
    assert std == pytest.approx(values.std(1, correction=0).tolist(), abs=1e-12)


def test_a_channel_without_deviation_stays_finite() -> None:
    images = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    assert statistics(images) == ((pytest.approx(7 / 255),), (pytest.approx(1 / 255),))
    assert normalise(images, *statistics(images)).abs().max() < 1e-4


@pytest.mark.parametrize("as_tensor", [False, True])
def test_normalise_centres_and_scales_each_channel(as_tensor: bool) -> None:
    images = noise(100, 3, 8, 8)
    mean, std = statistics(images)
    given = (torch.tensor(mean), torch.tensor(std)) if as_tensor else (mean, std)
    result = normalise(images, *given)
    assert result.dtype == torch.float32
    assert result.mean((0, 2, 3)).abs().max() < 1e-5
    assert (result.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    expected = (images[2, 1, 3, 4].item() / 255 - mean[1]) / std[1]
    assert result[2, 1, 3, 4].item() == pytest.approx(expected, abs=1e-6)


def test_normalise_takes_leading_dimensions() -> None:
    images = noise(4, 6, 3, 8, 8)
    folded = normalise(images, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert folded[1].equal(normalise(images[1], (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)))


def test_padding_centres_the_image_in_zeros() -> None:
    images = noise(3, 1, 28, 28)
    padded = resized(images, 32, "pad")
    assert padded[..., 2:30, 2:30].equal(images)
    assert padded.sum() == images.sum()
    assert resized(images, 31, "pad")[..., 1:29, 1:29].equal(images)


def test_padding_cannot_shrink() -> None:
    with pytest.raises(DataError, match=r"28x28 cannot be padded to 20.*bilinear"):
        resized(noise(3, 1, 28, 28), 20, "pad")


def test_bilinear_keeps_constants_and_averages_before_it_shrinks() -> None:
    assert (resized(torch.full((2, 3, 8, 8), 77, dtype=torch.uint8), 13, "bilinear") == 77).all()
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(32).expand(1, 1, 64, 64)
    shrunk = resized(stripes, 8, "bilinear")
    assert (shrunk.int() - 100).abs().max() < 30


@pytest.mark.parametrize("size", [5, 32])
def test_bilinear_agrees_with_floating_point(size: int) -> None:
    images = noise(4, 3, 14, 10)
    exact = F.interpolate(images.double(), (size, size), mode="bilinear", antialias=True)
    assert (resized(images, size, "bilinear").double() - exact).abs().max() <= 1


def test_images_of_the_right_size_are_left_alone() -> None:
    images = noise(2, 1, 8, 8)
    assert resized(images, 8, "bilinear") is images
    assert resized(images, None, "pad") is images


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [(8, "stretch", "unknown resize 'stretch': choose bilinear or pad"), (0, "pad", "size 0"), (-3, "pad", "size -3")],
)
def test_impossible_resizes_are_named(size: int, mode: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_resize(size, mode)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = noise(1000, 3, 5, 6)
    flipped = augment(images, ["flip"], generator())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 430 < mirrored.sum() < 570


def test_crop_takes_a_window_of_the_padded_image() -> None:
    images = noise(600, 2, 6, 7)
    cropped = augment(images, ["crop"], generator())
    padded = F.pad(images, (4, 4, 4, 4))
    offsets = {}
    for row in range(9):
        for column in range(9):
            window = padded[..., row : row + 6, column : column + 7]
            for index in (cropped == window).flatten(1).all(1).nonzero().flatten().tolist():
                offsets[index] = (row, column)
    assert len(offsets) == 600
    assert len(set(offsets.values())) > 70


def test_augmentation_follows_its_generator_and_leaves_the_images() -> None:
    images = noise(64, 1, 8, 8)
    before = images.clone()
    first, again, other = (augment(images, ("randaugment", "crop", "flip"), generator(seed)) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert images.equal(before)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape


def test_no_augmentation_gives_the_images_back() -> None:
    images = noise(4, 1, 8, 8)
    assert augment(images, (), generator()) is images


def test_an_unknown_augmentation_is_named() -> None:
    with pytest.raises(ParameterError, match="unknown augmentation 'filp': choose from flip, crop, randaugment"):
        augment(noise(4, 1, 8, 8), ["filp"], generator())


def as_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.AFFINE, matrix)


STRENGTH = 14 / 30
FACTOR = 0.1 + 1.8 * STRENGTH
SLANT = 0.3 * STRENGTH
# What the recipe's own code, written with PIL, does at strength 14 of 30; one entry per sign.
RECIPE = {
    0: [ImageOps.autocontrast],
    1: [ImageOps.equalize],
    2: [ImageOps.invert],
    3: [lambda x: x.rotate(-14), lambda x: x.rotate(14)],
    4: [lambda x: ImageOps.posterize(x, 1)],
    5: [lambda x: ImageOps.solarize(x, 256 * STRENGTH)],
    6: [lambda x: ImageOps.solarize(x.point(lambda v: int(min(255, v + 110 * STRENGTH))), 128)],
    7: [lambda x: ImageEnhance.Color(x).enhance(FACTOR)],
    8: [lambda x: ImageEnhance.Contrast(x).enhance(FACTOR)],
    9: [lambda x: ImageEnhance.Brightness(x).enhance(FACTOR)],
    10: [lambda x: ImageEnhance.Sharpness(x).enhance(FACTOR)],
    11: [lambda x: affine(x, 1, -SLANT, 0, 0, 1, 0), lambda x: affine(x, 1, SLANT, 0, 0, 1, 0)],
    12: [lambda x: affine(x, 1, 0, 0, -SLANT, 1, 0), lambda x: affine(x, 1, 0, 0, SLANT, 1, 0)],
    14: [lambda x: affine(x, 1, 0, 100 * STRENGTH, 0, 1, 0)],
    15: [lambda x: affine(x, 1, 0, 0, 0, 1, 100 * STRENGTH)],
}


@pytest.mark.parametrize("place", RECIPE)
def test_randaugment_operations_equal_those_of_the_recipe(place: int) -> None:
    image = noise(3, 32, 32)
    expected = [from_pil(change(as_pil(image))) for change in RECIPE[place]]
    for sign in (-1, 1):
        result = operations(generator())[place](image[None], sign)[0]
        wrong = [((result.int() - each.int()).abs() > 1).float().mean().item() for each in expected]
        assert min(wrong) < 0.005
        assert len(wrong) == 1 or max(wrong) > 0.5


def test_randaugment_cuts_out_a_grey_rectangle() -> None:
    images = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    cut = operations(generator())[13](images, 1)
    grey = cut[:, 0] == 125
    assert cut.amax((0, 2, 3)).tolist() == [125, 123, 114]
    rows, columns = grey.any(2), grey.any(1)
    assert grey.equal(rows[:, :, None] & columns[:, None])
    for covered in (rows, columns):
        # 40 * 14 / 30 pixels from a start at or above 0, both ends included.
        assert covered.sum(1).max() == 19
        assert covered[:, 0].float().mean().item() == pytest.approx((56 / 6 + 1) / 32, abs=0.07)


def test_randaugment_draws_two_of_sixteen_with_replacement() -> None:
    images = torch.full((6000, 1, 8, 8), 200, dtype=torch.uint8)
    images[:, :, 2:5, 3:6] = 130
    result = augment(images, ["randaugment"], generator())
    black = (result == 0).flatten(1).all(1).float().mean().item()
    # Two of the 16 leave black, which 3 of 16 would lighten again; 3 darken so far that posterising leaves black.
    assert black == pytest.approx(2 / 16 + 2 / 16 * 11 / 16 + 3 / 256, abs=0.015)
    assert len(result.flatten(1).unique(dim=0)) > 80


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (1, 1, 8, 8), (5, 3, 17, 12)])
def test_randaugment_takes_any_number_and_size(shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    result = augment(images, ["randaugment"], generator())
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert result.equal(augment(images, ["randaugment"], generator()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_augmentation_runs_where_the_images_lie() -> None:
    images = noise(64, 3, 32, 32).cuda()
    result = augment(images, ("randaugment", "crop", "flip"), torch.Generator("cuda").manual_seed(0))
    assert result.device == images.device
    assert normalise(result, (0.5,) * 3, (0.2,) * 3).device == images.device
