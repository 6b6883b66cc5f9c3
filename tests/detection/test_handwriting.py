"""Digits of any size: what a shape covers, which digits are set aside, and folders that users have."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from lambdanets.data.digits import load_digits
from lambdanets.detection.handwriting import load_handwriting, render_ink
from lambdanets.errors import DataError, PathError
from support.images import encoded


def square(first=2, last=6, size=8):
    """Ink in the rows and columns from `first` to `last`."""
    ink = np.zeros((size, size), np.float32)
    ink[first:last, first:last] = 1
    return ink


@pytest.mark.parametrize("side", [8.0, 9.5, 33.0, 96.0])
def test_a_shape_has_the_side_that_is_asked_for(side):
    coverage = render_ink(square(), side, 0.0)
    mask = coverage >= 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert abs(len(rows) - side) <= 1 and abs(len(columns) - side) <= 1
    assert coverage.min() >= 0 and coverage.max() == 1
    # A square but for its corners, which enlarging rounds off.
    assert coverage.sum() == pytest.approx(side**2, rel=0.12)


def test_a_shape_turns_counter_clockwise():
    bar = np.zeros((12, 12), np.float32)
    bar[2:10, 5:7] = 1
    mask = render_ink(bar, 64.0, 15.0) >= 0.5
    upper, lower = (np.flatnonzero(mask[row]).mean() for row in (8, len(mask) - 9))
    rise = len(mask) - 17
    assert np.degrees(np.arctan2(lower - upper, rise)) == pytest.approx(15, abs=1)


def test_a_hole_stays_open():
    ring = square(1, 7)
    ring[3:5, 3:5] = 0
    mask = render_ink(ring, 48.0, 0.0) >= 0.5
    assert not mask[20:28, 20:28].any() and mask[24, 2:10].all()


def test_scikit_learn_s_digits_are_split_as_everywhere():
    train, val = load_handwriting()
    bundled = load_digits()
    assert (len(train), len(val)) == tuple(map(len, bundled)) and train.labels == tuple("0123456789")
    assert np.array_equal(val.targets, bundled[1].labels.numpy())
    # 3×3 neighbours as loops over one digit.
    plain, sharp = bundled[1].images[7, 0].numpy(), val.read(7)
    padded = np.pad(plain, 1)
    for row in range(8):
        for column in range(8):
            mean = padded[row : row + 3, column : column + 3].mean()
            expected = min(max(2 * plain[row, column] - mean, 0), 1)
            assert sharp[row, column] == pytest.approx(expected, abs=1e-6)


def idx(numbers):
    return (
        bytes([0, 0, 8, numbers.ndim]) + struct.pack(f">{numbers.ndim}I", *numbers.shape) + numbers.tobytes()
    )


def plant_idx(folder, prefix="", parts=("train", "t10k")):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    kept = {}
    for part, num in zip(parts, (5, 3), strict=True):
        images = rng.integers(0, 256, (num, 28, 20), np.uint8)
        kept[part] = images, np.arange(num, dtype=np.uint8) % 3
        (folder / f"{prefix}{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{prefix}{part}-labels-idx1-ubyte").write_bytes(idx(kept[part][1]))
    return kept


def test_the_files_of_mnist(tmp_path):
    kept = plant_idx(tmp_path / "mnist")
    for hands, (images, targets) in zip(load_handwriting(tmp_path / "mnist"), kept.values(), strict=True):
        assert hands.labels == ("0", "1", "2") and np.array_equal(hands.targets, targets)
        assert np.allclose(hands.read(2), images[2] / 255)


def test_the_images_of_emnist_are_upright(tmp_path):
    kept = plant_idx(tmp_path / "emnist", "emnist-letters-", ("train", "test"))
    train, _ = load_handwriting(tmp_path / "emnist")
    assert np.allclose(train.read(1), kept["train"][0][1].T / 255)


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), None])
def test_a_folder_for_each_class(parts, tmp_path):
    for part in parts or ("",):
        for label, bar in (("seven", 3), ("two", 12)):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(5):
                pixels = np.full((20, 16), 240, np.uint8)
                pixels[4 + number : 16, bar] = 20
                (tmp_path / part / label / f"{number}.png").write_bytes(
                    encoded(Image.fromarray(pixels), "PNG")
                )
    train, val = load_handwriting(tmp_path)
    assert train.labels == val.labels == ("seven", "two")
    assert (len(train), len(val)) == ((10, 10) if parts else (6, 4))
    index = list(val.targets).index(1)
    ink = val.read(index)
    assert ink.shape == (20, 16) and ink[15, 12] == 1 and ink[:, 3].max() == 0


def test_folders_that_are_none(tmp_path):
    with pytest.raises(
        PathError, match=r"data scenes: digits must be a folder, got .*nowhere, which is none\."
    ):
        load_handwriting(tmp_path / "nowhere")
    plant_idx(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    message = r"data scenes: .*mnist must have one file \*t10k-labels-idx1-ubyte or \.gz, got none\."
    with pytest.raises(DataError, match=message):
        load_handwriting(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match=r"mnist must have a label for each image, got 3 and 4\."):
        load_handwriting(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte must be an idx file of bytes, got "):
        load_handwriting(tmp_path / "mnist")


def test_a_blank_digit_is_named(tmp_path):
    for number in range(5):
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / f"{number}.png").write_bytes(encoded(Image.new("L", (9, 9), 255), "PNG"))
    with pytest.raises(DataError, match=r"one/2\.png: must show a digit, got an image of one brightness\."):
        load_handwriting(tmp_path)[1].read(0)
