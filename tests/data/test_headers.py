"""What is refused before it is decoded: too many pixels, scans, blocks and strips; thin images stay small."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from lambdanets.data.decode import decode
from lambdanets.data.formats import _ENDINGS, ENDINGS, FORMATS, UNREAD_ENDINGS
from lambdanets.data.headers import check_image
from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.errors import DataError
from support.images import encoded, photo


def test_endings_are_pillow_s():
    """Of each format that is allowed all that Pillow knows, and of the others those that show an image."""
    Image.init()
    registered = Image.EXTENSION
    for format, endings in _ENDINGS.items():
        known = {ending for ending, owner in registered.items() if owner == format}
        assert set(endings) - known <= {".mpo"}, format
        assert known <= set(endings), format
    no_images = {".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg", ".pdf", ".palm"}
    others = {ending for ending, owner in registered.items() if owner not in FORMATS}
    assert others - UNREAD_ENDINGS - no_images - {".mpo"} == set()
    assert not UNREAD_ENDINGS & {ending.decode() for ending in ENDINGS}


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"DIB"}))
def test_each_allowed_format_passes(format):
    check_image(encoded(photo(), format), "x")


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_scans(count):
    """A progressive JPEG whose last scan stands there again and again."""
    whole = encoded(photo(16, 16), progressive=True)
    scans = whole.count(b"\xff\xda")
    return whole[:-2] + whole[whole.rfind(b"\xff\xda") : -2] * (count - scans) + whole[-2:]


def tiff_of(num_strips):
    start = 8 + 2 + 12 * 9 + 4
    sizes = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 3, 8)]
    entries = [(*entry[:2], 1, entry[2]) for entry in sizes]
    entries[5:5] = [(273, 4, num_strips, start)]
    entries += [(279, 4, num_strips, start)]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, 9) + packed + bytes(4) + struct.pack("<I", 200) * num_strips * 2


PNG = encoded(photo(), "PNG")
GIF = encoded(Image.new("P", (4, 4)), "GIF")
JPEG = encoded(photo())
WIDE = encoded(Image.new("1", (9_000, 9_000)), "PNG")
ENDLESS = {
    "scans": (with_scans(101), "must be a JPEG of at most 100 scans, got more."),
    "segments": (
        JPEG[:2] + b"\xff\xfe\0\2" * 70_000 + JPEG[2:],
        "must have at most 65,536 blocks, got more.",
    ),
    "chunks": (PNG[:33] + chunk(b"abCd") * 70_000 + PNG[33:], "must have at most 65,536 blocks, got more."),
    "texts": (
        PNG[:33] + chunk(b"tEXt", b"k\0v") * 70_000 + PNG[33:],
        "must have at most 65,536 blocks, got more.",
    ),
    "comments": (
        GIF[: GIF.index(b",")] + b"!\xfe" + b"\1x" * 70_000 + b"\0" + GIF[GIF.index(b",") :],
        "must have at most 65,536 blocks, got more.",
    ),
    "strips": (tiff_of(2**20 + 1), "must be a TIFF of at most 1,048,576 strips, got 1,048,577."),
    "turned-strips": (b"MM\0*" + struct.pack(">IHHHII", 8, 1, 324, 4, 2**31, 8), "got 2,147,483,648."),
    "zero": (PNG[:16] + bytes(8) + PNG[24:], "must be an image (AVIF, "),
    "hidden-size": (
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(WIDE), 22) + WIDE,
        "must have at most 61,000,000 pixels, got 9000×9000.",
    ),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_is_endless_is_refused_in_one_sentence(case, monkeypatch):
    content, message = ENDLESS[case]
    if case != "hidden-size":
        # Not decoded.
        monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(DataError) as found:
        decode(content, "a.jpg")
    assert str(found.value).startswith("a.jpg: ") and message in str(found.value)


ORDINARY = {
    "progressive": with_scans(100),
    "thumbnail": JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 602) + b"\xff\xda" * 300 + JPEG[2:],
    "trailing": encoded(photo(), progressive=True) + b"\xff\xda" * 300,
    "fill": JPEG[:2] + b"\xff" * 300 + JPEG[2:],
    "chunks": PNG[:33] + chunk(b"abCd") * 6_000 + PNG[33:],
    "frames": encoded(
        Image.new("L", (9, 9)),
        "GIF",
        save_all=True,
        append_images=[Image.new("L", (9, 9), i) for i in range(200)],
    ),
    "comment": GIF[: GIF.index(b",")] + b"!\xfe" + b"\1x" * 60_000 + b"\0" + GIF[GIF.index(b",") :],
    "strips": tiff_of(64),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_what_is_long_and_whole_is_read(case):
    with Image.open(io.BytesIO(ORDINARY[case])) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(decode(ORDINARY[case], "x")), expected)


THIN = [(60_000, 40), (40, 60_000), (61_000, 1), (1, 61_000)]


@pytest.mark.parametrize("size", THIN)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_thin_image_is_cropped_or_refused(size, channels):
    image = Image.new("RGB", size)
    pixels = Preprocessing(size=224).pixels(image)
    assert pixels.shape == (3, 224, 224)
    with pytest.raises(
        DataError, match=r"^x: a whole image must be at most 32 times as long as wide, got \d+×"
    ):
        Preprocessing.whole_image(224, channels).apply(image, "x")
    longest = Preprocessing.whole_image(16, channels).apply(Image.new("RGB", (320, 10)), "x")[0]
    assert longest.shape == (channels, 16, 512)


@pytest.mark.parametrize("size", [(60_000, 40), (40, 60_000)])
def test_a_thin_digit_is_refused(size):
    digits = Preprocessing(size=8, mean=(0.3,), std=(0.4,), foreground=Foreground())
    image = Image.new("RGB", size)
    image.paste("white", (5, 5, size[0] - 5, size[1] - 5))
    with pytest.raises(
        DataError, match=r"^x: must show a digit of at most 11,585 pixels a side, got \d+×\d+\.$"
    ):
        digits.apply(image, "x")


@pytest.mark.slow
def test_the_memory_of_thin_images(tmp_path):
    """Decoded, and cropped for a test and for a training: a process stays as small as with a small image."""
    program = """
import resource, sys
from PIL import Image
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.decode import decode
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.transforms import TrainTransform
image = decode(open(sys.argv[1], "rb").read(), "x")
Preprocessing(size=224).pixels(image)
TrainTransform(size=224, augment=AugmentConfig())(image, (1, 2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for name, size in (("small.png", (64, 40)), ("thin.png", (60_000, 40))):
        Image.new("RGB", size).save(tmp_path / name)
        peaks.append(int(subprocess.check_output([sys.executable, "-c", program, tmp_path / name])))
    # 7 MB of pixels, and what the decoder needs; in kB.
    assert peaks[1] - peaks[0] < 100_000, peaks
