"""Foreign images: any common file of the same digit becomes the same eight by eight."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lambdanets.data.decode import read_grey
from lambdanets.data.digits import MEAN, STD
from lambdanets.data.ink import InkPreprocessing, light_ink
from lambdanets.errors import DataError, PathError

INK = InkPreprocessing()


def _seven(ink=0, paper=255, width=12):
    image = Image.new("L", (120, 150), paper)
    ImageDraw.Draw(image).line([(30, 25), (90, 25), (50, 125)], fill=ink, width=width, joint="curve")
    return image


def _read(image, path, **options):
    image.save(path, **options)
    return INK.read(path)


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
    assert INK.read(tmp_path / "expected.png")[1]


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
    seven = np.asarray(_seven(), dtype=np.float32) / 255
    page = np.ones((150 + 2 * above, 120 + 2 * left), dtype=np.float32)
    page[above : above + 150, left : left + 120] = seven
    near, far = light_ink(seven)[0], light_ink(page)[0]
    assert np.array_equal(INK._fine_grid(near), INK._fine_grid(far))


@pytest.mark.parametrize("width", [2, 5, 25])
def test_thin_and_thick_pens_cover_alike(tmp_path, width):
    found, _ = _read(_seven(width=width), tmp_path / "pen.png")
    assert 0.2 < (found * STD + MEAN).mean() < 0.5


def test_a_blank_page_is_refused(tmp_path):
    for paper in (0, 130, 255):
        with pytest.raises(DataError, match=r"blank.png must show a digit, got an image of one brightness\."):
            _read(Image.new("L", (20, 20), paper), tmp_path / "blank.png")


def _png(size):
    file = io.BytesIO()
    Image.new("1", (size, size)).save(file, "PNG")
    return file.getvalue()


def _truncated():
    file = io.BytesIO()
    _seven().save(file, "JPEG")
    return file.getvalue()[:500]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"bad.jpg must be an image \(AVIF, BMP,.*got another kind of file"),
        (b"<html>not found</html>", "bad.jpg must be an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "bad.jpg must be an image"),
        (_truncated(), "bad.jpg cannot be read as an image: image file is truncated"),
        (_png(64)[:45], "bad.jpg cannot be read as an image"),
        (_png(9_600), "bad.jpg cannot be read as an image: Image size .* exceeds limit"),
        (_png(20_000), "bad.jpg cannot be read as an image: Image size .* exceeds limit"),
    ],
    ids=["empty", "html", "postscript", "truncated-jpeg", "truncated-png", "large", "bomb"],
)
def test_unreadable_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_grey(path, "predict")


@pytest.mark.parametrize("name", ["nowhere.png", "."])
def test_a_missing_file_is_a_path_error(tmp_path, name):
    with pytest.raises(PathError, match=r"predict: image must be a file, got "):
        read_grey(tmp_path / name, "predict")


def test_the_description_makes_the_trip():
    described = INK.to_dict()
    assert described["method"] == "ink"
    assert InkPreprocessing.from_dict(described) == INK
