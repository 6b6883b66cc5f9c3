"""Preprocessing: crops, sizes and normalisation against formulas, and its trip through JSON, also of old."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lambdanets.data import decode as decode_module
from lambdanets.data import preprocessing as module
from lambdanets.data.decode import crop_and_resize, decode
from lambdanets.data.digits import MEAN, STD, _DigitSource, load_digits
from lambdanets.data.images import ImageTest
from lambdanets.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Foreground, Preprocessing
from lambdanets.errors import ArgumentError, CheckpointError, DataError, PathError
from support.images import encoded, photo

PHOTO = Image.fromarray(photo(97, 61, seed=3))
DIGITS = Preprocessing(size=8, mean=(MEAN,), std=(STD,), foreground=Foreground())
DIGIT_FILES = Preprocessing(size=32, crop_fraction=1.0, foreground=Foreground(grid=8))
RECORDS = {
    "digits": DIGITS,
    "center": Preprocessing(size=24),
    "half": Preprocessing(size=24, crop_fraction=0.5, mean=(0.5,) * 3, std=(0.2,) * 3),
    "digit-images": DIGIT_FILES,
    "whole": Preprocessing.whole_image(24),
    "whole-grey": Preprocessing.whole_image(24, channels=1),
}
each_record = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
IMAGENET = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}


@each_record
def test_a_record_makes_the_trip_through_json(record):
    assert Preprocessing.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    ("stored", "record"),
    [
        (
            {"method": "ink", "size": 8, "fine_size": 32, "ink_share": 0.25, "mean": MEAN, "std": STD},
            DIGITS,
        ),
        ({"method": "crop", "size": 24, "fraction": None, **IMAGENET}, RECORDS["center"]),
        (
            {"method": "crop", "size": 24, "fraction": 0.5, "mean": [0.5] * 3, "std": [0.2] * 3},
            RECORDS["half"],
        ),
        ({"method": "digit-image", "size": 32, **IMAGENET}, DIGIT_FILES),
    ],
)
def test_what_earlier_versions_stored_is_read(stored, record):
    assert Preprocessing.from_dict(stored) == record


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "warp"}, r"method must be one of 'crop', 'digit-image', 'ink', got 'warp'\."),
        ({"method": "crop", "size": 8}, r"crop must have its settings, got 'fraction'\."),
        ({"size": 8}, r"description must have its settings, got 'foreground'\."),
        (
            {**DIGITS.to_dict(), "sise": 8},
            r"description must have its settings, got .*unexpected keyword argument 'sise'",
        ),
        (
            {**DIGITS.to_dict(), "size": 0},
            r"description must have its settings, got Preprocessing: size must be at least 1",
        ),
    ],
)
def test_another_description_is_refused(values, message, unchecked):
    with pytest.raises(CheckpointError, match=f"preprocessing: {message}"):
        Preprocessing.from_dict(values)


def test_impossible_settings_are_refused():
    with pytest.raises(ArgumentError, match=r"Preprocessing: size must be at least 1, got 0\."):
        Preprocessing(size=0)
    message = r"Preprocessing: mean and std must hold 1 number each \(grey\) or 3 \(colour\), got 2 and 3\."
    with pytest.raises(ArgumentError, match=message):
        Preprocessing(size=8, mean=(0.1, 0.2))
    message = r"Preprocessing: channels must be 1 \(grey\) or 3 \(colour\), got 4\."
    with pytest.raises(ArgumentError, match=message):
        Preprocessing.whole_image(8, channels=4)


@each_record
def test_another_size_and_the_image_that_is_drawn(record, tmp_path):
    pixels = np.full((60, 60), 255, np.uint8)
    pixels[10:50, 25:35] = 0
    (tmp_path / "one.png").write_bytes(encoded(pixels, "PNG"))
    for size in (16, 24):
        image, _ = record.resized(size).read(tmp_path / "one.png")
        assert tuple(image.shape) == (len(record.mean), size, size) and image.dtype == torch.float32
        shown = record.resized(size).shown(image)
        assert shown.shape == ((size, size) if len(record.mean) == 1 else (size, size, 3))
        # The stroke and the paper beside it, whichever is light.
        assert shown.min() < 0.1 and shown.max() > 0.9


def test_a_file_has_the_pixels_of_a_test(tmp_path):
    path = tmp_path / "photo é.png"
    path.write_bytes(encoded(photo(50, 40), "PNG"))
    image, inverted = RECORDS["center"].read(path)
    expected = RECORDS["center"].pixels(decode(path.read_bytes(), "x"))
    assert torch.equal(image, RECORDS["center"].normalize(expected[None])[0]) and not inverted


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((30, 40), 12, (12, 16)), ((40, 30), 12, (16, 12)), ((5, 5), 12, (12, 12)), ((9, 1), 2, (18, 2))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_shorter_side_of_a_whole_image_is_the_size(shape, size, expected, channels):
    image = Image.fromarray(np.zeros((*shape, 3), np.uint8))
    assert tuple(Preprocessing.whole_image(size, channels).pixels(image).shape) == (channels, *expected)


def test_a_whole_image_that_has_the_size_is_left_alone_and_grey_is_its_luma():
    pixels = photo(7, 5)
    image = Image.fromarray(pixels)
    assert np.array_equal(Preprocessing.whole_image(5).pixels(image).permute(1, 2, 0), pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(Preprocessing.whole_image(5, 1).pixels(image)[0].numpy() - luma).max() <= 1


@pytest.mark.parametrize("box", [(0, 0, 97, 61), (11, 3, 95, 40), (30, 30, 38, 39)])
@pytest.mark.parametrize("size", [(8, 8), (64, 40)])
def test_resizing_is_that_of_pillow_to_one_level(box, size, monkeypatch):
    expected = np.asarray(PHOTO.crop(box).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    found = crop_and_resize(PHOTO, box, size).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - expected).mean() < 0.05
    monkeypatch.setattr(decode_module, "_COPIED_PIXELS", 1)
    assert np.array_equal(crop_and_resize(PHOTO, box, size).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    ("size", "fraction", "image", "box"),
    [
        (224, None, (256, 256), (16, 16, 240, 240)),
        (224, None, (500, 400), (75, 25, 425, 375)),
        (320, None, (352, 1000), (16, 340, 336, 660)),
        (32, 1.0, (32, 32), (0, 0, 32, 32)),
        (8, None, (1, 1), (0, 0, 1, 1)),
    ],
)
def test_a_crop_is_the_middle(size, fraction, image, box):
    assert Preprocessing(size=size, crop_fraction=fraction).box(*image) == box


def test_a_crop_is_what_resizing_and_cutting_gives():
    image = Image.fromarray(photo(500, 400))
    steps = [v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()]
    expected = v2.Compose(steps)(image).float()
    found = Preprocessing(size=224).pixels(image).float()
    # Half a pixel of another place, in an image with noise of eight levels.
    assert (found - expected).abs().mean() < 3


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_become_numbers_of_mean_zero_and_deviation_one(channels):
    images = torch.randint(0, 256, (4, channels, 5, 6), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.1)[:channels]
    record = Preprocessing(size=6, mean=mean, std=std)
    found = record.normalize(images)
    for channel in range(channels):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, atol=1e-6, rtol=0)
    assert found.dtype == torch.float32
    shown = record.shown(found[0]).reshape(5, 6, channels).permute(2, 0, 1)
    torch.testing.assert_close(shown, images[0] / 255, atol=1e-6, rtol=0)


def test_numbers_of_inference_serve_gradients_too():
    with torch.inference_mode():
        module._by_channel((0.456,))
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (images * module._by_channel((0.456,))).sum().backward()
    assert images.grad.unique().item() == pytest.approx(0.456)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_normalising_is_the_same_on_a_gpu():
    images = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    normalize = Preprocessing(size=6).normalize
    torch.testing.assert_close(normalize(images.cuda()).cpu(), normalize(images))


def test_a_foreign_digit_becomes_what_its_bundled_twin_is(tmp_path):
    """The bundled digits themselves, drawn large, dark on light: the network must see almost the same."""
    _, digits = load_digits()
    test = ImageTest(source=_DigitSource(digits), preprocessing=DIGIT_FILES)
    for index in (0, 5, 77):
        stored = DIGIT_FILES.normalize(test.batch(torch.tensor([index])).images)[0]
        # The paper around it is cut off, so it has the bundled digits' own margins: none above and below.
        ink = (digits.images[index, 0].numpy() * 255).astype(np.uint8)
        large = Image.fromarray(255 - ink).resize((160, 160), Image.Resampling.BICUBIC)
        page = Image.new("L", (300, 260), 255)
        page.paste(large, (60, 50))
        page.save(tmp_path / "digit.png")
        found, inverted = DIGIT_FILES.read(tmp_path / "digit.png")
        assert inverted and found.shape == stored.shape
        # As like as images of one kind are: another digit is not.
        alike = torch.corrcoef(torch.stack([found.flatten(), stored.flatten()]))[0, 1]
        assert alike > 0.75


@each_record
def test_files_that_cannot_be_read_are_named(record, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: must be an image \(AVIF"):
        record.read(tmp_path / "text.png")
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(PathError, match=r"^image must be a file, got .*, which does not exist"):
            record.read(path)
