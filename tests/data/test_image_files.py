"""Whole images: size, colour and normalisation, whatever the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from lambdanets.data.decode import PlainPreprocessing, read_color, read_grey
from lambdanets.errors import ArgumentError, DataError, PathError

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def _save(pixels, path):
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((30, 40), 12, (12, 16)), ((40, 30), 12, (16, 12)), ((5, 5), 12, (12, 12)), ((9, 1), 2, (18, 2))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_shorter_side_is_the_size_and_the_shape_stays(tmp_path, shape, size, expected, channels):
    path = _save(np.zeros((*shape, 3), np.uint8), tmp_path / "image.png")
    image = PlainPreprocessing(size=size, channels=channels).read(path, "explain")[0]
    assert tuple(image.shape) == (channels, *expected)
    assert image.dtype == torch.float32


def test_colour_is_normalised_by_channel_and_grey_by_their_mean(tmp_path):
    pixels = np.broadcast_to(np.array([255, 51, 0], np.uint8), (6, 6, 3))
    path = _save(np.ascontiguousarray(pixels), tmp_path / "red.png")
    colour = PlainPreprocessing(size=4).read(path, "explain")[0]
    torch.testing.assert_close(colour[:, 1, 2], (torch.tensor([1, 0.2, 0]) - MEAN) / STD)
    grey = PlainPreprocessing(size=4, channels=1).read(path, "explain")[0]
    # Luma of broadcast television, rounded to a byte.
    luma = round(0.299 * 255 + 0.587 * 51) / 255
    torch.testing.assert_close(grey[0, 1, 2], (luma - MEAN.mean()) / STD.mean(), atol=0.02, rtol=0)


def test_a_image_that_has_the_size_is_left_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = PlainPreprocessing(size=5).read(_save(pixels, tmp_path / "image.png"), "explain")[0]
    back = (image * STD[:, None, None] + MEAN[:, None, None]).movedim(0, -1)
    torch.testing.assert_close(back, torch.from_numpy(pixels) / 255, atol=1e-5, rtol=0)


def test_grey_files_and_deep_ones_have_three_equal_channels(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    plain = read_color(_save(ramp, tmp_path / "plain.png"), "explain")
    assert np.array_equal(plain, np.repeat(ramp[None] / np.float32(255), 3, axis=0))
    deep = read_color(_save(ramp.astype(np.uint16) * 100, tmp_path / "deep.png"), "explain")
    np.testing.assert_allclose(deep, plain * 255 / 252, rtol=1e-6)


def test_what_is_transparent_is_white_in_colour(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0, 0] = [200, 100, 0, 255]
    found = read_color(_save(pixels, tmp_path / "alpha.png"), "explain")
    np.testing.assert_allclose(found[:, 0, 0], np.array([200, 100, 0]) / 255, rtol=1e-6)
    assert (found[:, 1:] == 1).all()


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_color(tmp_path / "turned.jpg", "explain").shape == (3, 10, 20)


def test_errors_name_who_reads(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    for read in (read_grey, read_color, PlainPreprocessing(size=4).read):
        with pytest.raises(DataError, match=r"explain: .*text.png must be an image \(AVIF, BMP,"):
            read(tmp_path / "text.png", "explain")
        with pytest.raises(PathError, match=r"explain: image must be a file, got .*none.png, which does not"):
            read(tmp_path / "none.png", "explain")


def test_impossible_settings_are_refused():
    message = r"PlainPreprocessing: channels must be 1 \(grey\) or 3 \(colour\), got 4\."
    with pytest.raises(ArgumentError, match=message):
        PlainPreprocessing(size=8, channels=4)
    with pytest.raises(ArgumentError, match=r"PlainPreprocessing: size must be at least 1, got 0\."):
        PlainPreprocessing(size=0)
