"""What the parameters of the notebook may be."""

from __future__ import annotations

import pytest

from effi import spec
from effi.errors import ParameterError
from effi.minimal.parameters import PARAMETERS, patch_pixels


@pytest.mark.parametrize(("patches", "pixels", "wanted"), [(4, 32, 8), (8, 32, 4), (4, 8, 2), (1, 28, 28)])
def test_patches_divide_an_image(patches: int, pixels: int, wanted: int) -> None:
    assert patch_pixels(patches, pixels) == wanted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patches": 0}, "patches is 0; give a whole number of at least 1"),
        ({"patches": -4}, "patches is -4; give a whole number of at least 1"),
        ({"patches": 5}, "patches=5 does not divide 32 pixels; give 1, 2, 4, 8, 16 or 32"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"variant": {"depth": 2}}, "depth of variant would relabel the arms"),
        ({"variant": {"width": 50}}, "width=50 of variant is cut into up to 4 heads; give a multiple of 4"),
        ({"variant": {"width": -4}}, "width is -4"),
        ({"training": {"loss": "mse"}}, "unknown option of training 'loss'"),
        ({"training": {"steps": 500}}, "training is counted in epochs here; give epochs instead of steps"),
        ({"training": {"epochs": None, "steps": 500}}, "training is counted in epochs here"),
    ],
)
def test_a_mistake_is_one_sentence(values: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        spec.check(PARAMETERS, values)


def test_few_patches_of_a_small_image_say_what_fits() -> None:
    with pytest.raises(ParameterError, match="patches=16 does not divide 8 pixels; give 1, 2, 4 or 8"):
        patch_pixels(16, 8)


def test_what_the_notebook_says_it_may_be_is_allowed() -> None:
    spec.check(
        PARAMETERS, {"patches": 8, "loss": "mse", "variant": {"norm": "post", "width": 64}, "training": {"epochs": 50}}
    )
