"""Foreign images: any common file of the same digit becomes the same eight by eight."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lambdanets.data.digits import MEAN, STD, draw_digit
from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.errors import DataError

DIGITS = Preprocessing(size=8, mean=(MEAN,), std=(STD,), foreground=Foreground())


def _seven(ink=0, paper=255, width=12):
    image = Image.new("L", (120, 150), paper)
    ImageDraw.Draw(image).line([(30, 25), (90, 25), (50, 125)], fill=ink, width=width, joint="curve")
    return image


def _read(image, path, **options):
    image.save(path, **options)
    return DIGITS.read(path)


@pytest.fixture
def expected(tmp_path):
    return _read(_seven(), tmp_path / "expected.png")[0]


def test_the_result_is_like_the_bundled_digits(expected):
    pixels = expected[0] * STD + MEAN
    assert pixels.shape == (8, 8)
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6
    assert 0.25 <= pixels.mean() <= 0.45
    # The bar of a seven, then its foot; every value a count of a 4 by 4 block, as in the bundled digits.
    assert pixels[0].mean() > 0.6 and pixels[7].mean() < 0.5
    torch.testing.assert_close(pixels * 16, (pixels * 16).round(), atol=1e-4, rtol=0)


def test_light_on_dark_is_the_same_and_is_told(tmp_path, expected):
    light, inverted = _read(_seven(ink=255, paper=0), tmp_path / "light.png")
    assert torch.equal(light, expected) and not inverted
    assert DIGITS.read(tmp_path / "expected.png")[1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16", "I", "F", "LAB"])
def test_modes(tmp_path, expected, mode):
    image = _seven()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    elif mode == "LAB":
        image = Image.merge("LAB", [image, Image.new("L", image.size, 128), Image.new("L", image.size, 128)])
    else:
        image = image.convert(mode)
    found, _ = _read(image, tmp_path / "image.tiff")
    assert (found - expected).abs().max() < 0.5


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm"])
def test_formats(tmp_path, expected, ending):
    found, _ = _read(_seven(), tmp_path / f"seven.{ending}")
    assert (found - expected).abs().max() < 0.5


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_paper(tmp_path, expected, ink):
    image = Image.new("RGBA", (120, 150), (90, 90, 90, 0))
    image.paste(Image.new("RGBA", image.size, (ink, ink, ink, 255)), mask=_seven(ink=255, paper=0))
    found, inverted = _read(image, tmp_path / "alpha.png")
    assert torch.equal(found, expected) and inverted == (ink == 0)


def test_a_palette_with_a_transparent_colour(tmp_path, expected):
    image = Image.fromarray((np.asarray(_seven()) < 128).astype(np.uint8), mode=None).convert("P")
    image.putpalette([200, 30, 30, 0, 0, 0])
    found, _ = _read(image, tmp_path / "palette.gif", transparency=0)
    assert torch.equal(found, expected)


def test_exif_rotation_is_undone(tmp_path, expected):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = _seven().transpose(Image.Transpose.ROTATE_90)
    found, _ = _read(turned, tmp_path / "turned.png", exif=exif)
    assert torch.equal(found, expected)


@settings(max_examples=20, deadline=None)
@given(left=st.integers(0, 200), above=st.integers(0, 200))
def test_a_wider_margin_changes_nothing(left, above):
    page = Image.new("L", (120 + 2 * left, 150 + 2 * above), 255)
    page.paste(_seven(), (left, above))
    near, far = (draw_digit(image, 8, Foreground())[0] for image in (_seven(), page))
    assert np.array_equal(near, far)


@pytest.mark.parametrize("width", [2, 5, 25])
def test_thin_and_thick_pens_cover_alike(tmp_path, width):
    found, _ = _read(_seven(width=width), tmp_path / "pen.png")
    assert 0.2 < (found * STD + MEAN).mean() < 0.5


def test_a_blank_page_is_refused(tmp_path):
    for paper in (0, 130, 255):
        with pytest.raises(DataError, match=r"blank.png: must show a digit, got an image of one"):
            _read(Image.new("L", (20, 20), paper), tmp_path / "blank.png")
