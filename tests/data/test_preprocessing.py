"""Files for trained networks: each method, its trip through JSON, and digits on the way of files."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from lambdanets.data.digit_images import DigitImagePreprocessing, DigitSource
from lambdanets.data.digits import load_digits
from lambdanets.data.images import ImageTest
from lambdanets.data.ink import InkPreprocessing
from lambdanets.data.preprocessing import CropPreprocessing, preprocessing_from_dict
from lambdanets.data.sources import Source
from lambdanets.data.task import Preprocessing
from lambdanets.data.transforms import Normalization, TestTransform
from lambdanets.errors import CheckpointError, DataError, PathError
from support.images import encoded, photo

TRAIN, TEST = load_digits()
METHODS = (
    InkPreprocessing(),
    CropPreprocessing(size=24),
    CropPreprocessing(size=24, fraction=0.5, mean=(0.5,) * 3, std=(0.2,) * 3),
    DigitImagePreprocessing(size=32),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_method_makes_the_trip_through_json(method):
    assert isinstance(method, Preprocessing)
    assert preprocessing_from_dict(json.loads(json.dumps(method.to_dict()))) == method


def test_an_unknown_method_or_setting_is_refused():
    message = r"preprocessing: method must be one of 'ink', 'crop', 'digit-image', got 'warp'\."
    with pytest.raises(CheckpointError, match=message):
        preprocessing_from_dict({"method": "warp"})
    with pytest.raises(
        CheckpointError, match=r"preprocessing: 'crop' must have its settings, got 'fraction'\."
    ):
        preprocessing_from_dict({"method": "crop", "size": 8})


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_another_size_and_the_image_that_is_drawn(tmp_path, method):
    pixels = np.full((60, 50), 255, np.uint8)
    pixels[10:50, 20:30] = 0
    (tmp_path / "one.png").write_bytes(encoded(pixels, "PNG"))
    for size in (16, 24):
        image, _ = method.resized(size).read(tmp_path / "one.png", "explain")
        assert tuple(image.shape[1:]) == (size, size)
        shown = method.resized(size).shown(image)
        assert shown.shape[:2] == (size, size)
        # The stroke and the paper beside it, whichever is light.
        assert shown.min() < 0.1 and shown.max() > 0.9


def test_a_file_is_read_as_the_test_reads_it(tmp_path):
    path = tmp_path / "photo é.png"
    path.write_bytes(encoded(photo(50, 40), "PNG"))
    image, inverted = CropPreprocessing(size=24).read(path)
    with Image.open(path) as opened:
        expected = TestTransform(size=24)(opened.convert("RGB"))
    assert torch.equal(image, Normalization()(expected[None])[0]) and not inverted


def test_errors_name_who_reads(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"predict: .*text\.png: must be an image \(AVIF"):
        CropPreprocessing(size=8).read(tmp_path / "text.png")
    with pytest.raises(PathError, match=r"explain: image must be a file, got .*none\.png, which does not"):
        CropPreprocessing(size=8).read(tmp_path / "none.png", "explain")


def test_digits_are_files_of_four_times_the_size():
    source = DigitSource(TEST)
    assert isinstance(source, Source)
    assert (len(source), source.labels[3], source.name(7)) == (500, "3", "digit 7")
    assert torch.equal(source.targets, TEST.labels)
    for index in (0, 123, 499):
        with Image.open(io.BytesIO(source.read(index)), formats=["PNG"]) as image:
            pixels = np.asarray(image).astype(float) / 255
        assert pixels.shape == (32, 32)
        digit = TEST.images[index, 0].numpy()
        for row in range(32):
            for column in range(32):
                assert abs(pixels[row, column] - digit[row // 4, column // 4]) <= 0.5 / 255 + 1e-6


def test_a_foreign_digit_becomes_what_its_bundled_twin_is(tmp_path):
    """The bundled digits themselves, drawn large, dark on light: the network must see almost the same."""
    test = ImageTest(source=DigitSource(TEST), transform=TestTransform(size=32, fraction=1.0))
    method = DigitImagePreprocessing(size=32)
    for index in (0, 5, 77):
        stored = Normalization()(test.batch(torch.tensor([index])).images)[0]
        # The paper around it is cut off, so it has the bundled digits' own margins: none above and below.
        ink = (TEST.images[index, 0].numpy() * 255).astype(np.uint8)
        large = Image.fromarray(255 - ink).resize((160, 160), Image.Resampling.BICUBIC)
        page = Image.new("L", (300, 260), 255)
        page.paste(large, (60, 50))
        page.save(tmp_path / "digit.png")
        found, inverted = method.read(tmp_path / "digit.png")
        assert inverted and found.shape == stored.shape
        # As like as images of one kind are: another digit is not.
        alike = torch.corrcoef(torch.stack([found.flatten(), stored.flatten()]))[0, 1]
        assert alike > 0.75
