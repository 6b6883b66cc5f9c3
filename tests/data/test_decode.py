"""Bytes that become images: every mode, upright, on white, and nothing but a `DataError` for the rest."""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lambdanets.data import headers as module
from lambdanets.data.decode import decode
from lambdanets.errors import DataError
from support.images import encoded, photo

PIXELS = photo()


def pixels_of(data):
    image = decode(data, "x")
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_jpeg_has_the_pixels_that_pillow_gives():
    data = encoded(photo(500, 400), quality=85)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    assert np.array_equal(pixels_of(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX"])
def test_formats_without_loss_give_the_pixels_back(kind):
    assert np.array_equal(pixels_of(encoded(PIXELS, kind)), PIXELS)


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG2000"])
def test_formats_with_loss_give_almost_the_pixels_back(kind):
    found = pixels_of(encoded(PIXELS, kind, quality=95) if kind != "JPEG2000" else encoded(PIXELS, kind))
    assert np.abs(found.astype(int) - PIXELS).mean() < 8


def test_grey_of_one_eight_and_sixteen_bits():
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 32)
    grey = np.repeat(ramp[..., None], 3, axis=2)
    assert np.array_equal(pixels_of(encoded(ramp, "PNG")), grey)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(pixels_of(encoded(ramp.astype(np.uint16) * 257, kind)), grey)
        assert np.array_equal(pixels_of(encoded(ramp.astype(np.uint16) * 256 + 255, kind)), grey)
    black_and_white = Image.fromarray(ramp).point(lambda value: 255 * (value > 99), "1")
    assert np.array_equal(pixels_of(encoded(black_and_white, "PNG")), np.where(grey > 99, 255, 0))


def test_numbers_without_a_range_go_up_to_their_largest():
    ramp = np.arange(256).reshape(8, 32)
    grey = np.repeat(ramp[..., None], 3, axis=2)
    for numbers in (ramp / 255, ramp * 1e6):
        assert np.array_equal(pixels_of(encoded(numbers.astype(np.float32), "TIFF")), grey)
    assert np.array_equal(pixels_of(encoded((ramp * 1000).astype(np.int32), "TIFF")), grey)
    strange = np.where(ramp == 0, np.nan, ramp / 255).astype(np.float32)
    strange[0, 1] = -5
    assert pixels_of(encoded(strange, "TIFF"))[0, :3, 0].tolist() == [0, 0, 2]


def test_what_is_transparent_is_white():
    alpha = np.full(PIXELS.shape[:2], 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    colour = np.dstack([PIXELS, alpha])
    share = alpha[..., None] / 255
    expected = share * PIXELS + (1 - share) * 255
    for kind in ("PNG", "TIFF"):
        assert np.abs(pixels_of(encoded(colour, kind)) - expected).max() <= 1
    grey = pixels_of(encoded(Image.merge("LA", Image.fromarray(colour).split()[2:]), "PNG"))
    assert np.abs(grey - expected[..., 2:]).max() <= 1


def test_a_palette_with_transparent_colours():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    assert pixels_of(encoded(image, "PNG"))[0].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
    clear = pixels_of(encoded(image, "PNG", transparency=bytes([255, 0, 255])))
    assert clear[0].tolist() == [[200, 0, 0], [255, 255, 255], [0, 0, 200]]
    assert pixels_of(encoded(image, "GIF", transparency=2))[0, 2].tolist() == [255, 255, 255]


def test_colour_with_a_transparent_one():
    pixels = np.array([[[1, 2, 3], [9, 8, 7]]], np.uint8)
    found = pixels_of(encoded(pixels, "PNG", transparency=(1, 2, 3)))
    assert found[0].tolist() == [[255, 255, 255], [9, 8, 7]]


def test_cmyk_is_turned_into_colours():
    flat = np.zeros((16, 16, 3), np.uint8) + np.array([200, 30, 60], np.uint8)
    found = pixels_of(encoded(Image.fromarray(flat).convert("CMYK"), quality=95))
    assert np.abs(found.astype(int) - flat).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_each_orientation_is_undone(orientation, kind):
    # What a viewer sees when it does not turn, by orientation: row 0 and column 0 of the stored image.
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p.transpose(1, 0, 2)[::-1],
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    }[orientation](PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    found = pixels_of(encoded(np.ascontiguousarray(stored), kind, exif=exif, **options)).astype(int)
    assert found.shape == PIXELS.shape
    assert np.abs(found - PIXELS).mean() < (10 if kind == "JPEG" else 0.01)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif"])
def test_damaged_metadata_do_not_matter(exif):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = pixels_of(encoded(PIXELS, exif=exif))
    assert np.array_equal(found, pixels_of(encoded(PIXELS)))
    assert not heard


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded(monkeypatch):
    wide = encoded(photo(41, 30), "PNG")
    heavy = [
        encoded(PIXELS, "WEBP"),
        encoded(PIXELS, "JPEG2000"),
        encoded((PIXELS[..., 0] / 9).astype(np.float32), "TIFF"),
    ]
    monkeypatch.setattr(module, "_MAX_PIXELS", 1200)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(DataError, match=r"^a: must have at most 1,200 pixels, got 41×30\.$"):
        decode(wide, "a")
    for data in heavy:
        with pytest.raises(DataError, match=r"^a: must have at most 600 pixels, got 40×30\.$"):
            decode(data, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"bad\.jpg: must be an image \(AVIF, BMP,.*got another kind of file\."),
        (b"<html>not found</html>", r"bad\.jpg: must be an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", r"bad\.jpg: must be an image"),
        (
            encoded(PIXELS)[:500],
            r"bad\.jpg: cannot be read as an image: (image file is truncated|Truncated File Read)",
        ),
        (encoded(PIXELS, "PNG")[:45], r"bad\.jpg: cannot be read as an image"),
        (
            encoded(Image.new("1", (9_600, 9_600)), "PNG"),
            r"read as an image: Image size .* exceeds",
        ),
        (
            encoded(Image.new("1", (20_000, 20_000)), "PNG"),
            r"read as an image: Image size .* exceeds",
        ),
    ],
    ids=["empty", "html", "postscript", "truncated-jpeg", "truncated-png", "large", "bomb"],
)
def test_unreadable_files_are_named(content, message):
    with pytest.raises(DataError, match=message):
        decode(content, "bad.jpg")


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (250, 0)])
def test_a_contrasting_background_lets_light_ink_be_seen(ink, paper):
    drawn = np.zeros((8, 8, 4), np.uint8)
    drawn[2:6, 3:5] = (ink, ink, ink, 255)
    found = np.asarray(decode(encoded(drawn, "PNG"), "a", background="contrast"))
    assert (found[2:6, 3:5] == ink).all() and (found[0] == paper).all()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "ICO", "PPM", "AVIF"]),
    data=st.data(),
)
def test_damaged_bytes_give_a_image_or_a_data_error(kind, data):
    whole = bytearray(encoded(photo(20, 16), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    stop = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    try:
        image = decode(bytes(whole[:stop]), "some name")
    except DataError as error:
        assert str(error).startswith("some name: ")
        assert str(error).endswith(".") and not str(error).endswith("..")
    else:
        assert image.mode == "RGB"


def test_any_error_of_a_decoder_is_a_data_error(monkeypatch):
    def broken(*arguments, **keywords):
        raise ZeroDivisionError

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(DataError, match=r"^x\.jpg: cannot be read as an image: ZeroDivisionError\.$"):
        decode(b"", "x.jpg")
