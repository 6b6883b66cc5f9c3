"""R5: folders with every kind of broken image: what is readable, what is counted, in how much memory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.decode import decode
from lambdanets.data.folders import open_folder
from lambdanets.data.images import ImageTest, ImageTraining
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.task import ReadableTest
from lambdanets.data.transforms import TrainTransform
from lambdanets.errors import DataError
from support.images import encoded, make_folder, photo, plant
from support.privileges import without_override

TRANSFORM = TrainTransform(size=16, augment=AugmentConfig())


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder of two classes, one of them with a file of each kind."""
    root = tmp_path_factory.mktemp("bad images é")
    make_folder(root, ["good", "mixed"], each=4)
    return root, plant(root / "mixed")


def by_name(source):
    return {
        os.path.basename(os.fsdecode(source.paths[index])): index  # noqa: PTH119
        for index in range(len(source))
    }


def test_readable_files_have_their_pixels(planted):
    root, files = planted
    source = open_folder(root)
    index = by_name(source)
    images = {name: decode(source.read(index[name]), name) for name in files.readable}
    assert {image.mode for image in images.values()} == {"RGB"}
    pixels = {name: np.asarray(image).astype(int) for name, image in images.items()}
    assert (pixels["animated.gif"] == [255, 0, 0]).all()
    assert np.abs(pixels["cmyk.jpg"] - photo()).mean() < 12
    assert np.array_equal(pixels["sixteen.png"], np.repeat(photo()[..., :1], 3, axis=2))
    # Each grey level is as opaque as it is light: x² / 255 over white.
    grey = photo()[..., 0] / 255
    expected = 255 * (grey * grey + (1 - grey))
    assert np.abs(pixels["palette.png"][..., 0] - expected).max() <= 1
    assert pixels["turned.jpg"].shape == (10, 20, 3)
    assert pixels["turned.jpg"][:, :8].min() > 240 and pixels["turned.jpg"][:, 12:].max() < 15
    assert np.abs(pixels[os.fsdecode(b"named-\xe9\xff.jpg")] - photo()).mean() < 12


def test_unreadable_files_are_data_errors_with_their_names(planted):
    root, files = planted
    source = open_folder(root)
    for name, message in files.unreadable.items():
        index = by_name(source)[name]
        with pytest.raises(DataError, match=rf"^{root}/mixed/{name}: {message}"):
            decode(source.read(index), source.name(index))


@pytest.mark.parametrize("epoch", [0, 1])
def test_training_counts_each_and_goes_on(planted, epoch):
    root, files = planted
    data = ImageTraining(source=open_folder(root), seed=0, transform=TRANSFORM)
    reports = set()
    for part in data.order(epoch).split(5):
        images, targets, unreadable = data.batch(epoch, part)
        assert len(images) == len(targets) == len(part)
        reports |= set(unreadable)
    names = {sentence.partition(": ")[0].rpartition("/")[2] for sentence in reports}
    assert names == files.unreadable.keys()
    assert len(reports) == len(files.unreadable)
    for sentence in reports:
        assert "\n" not in sentence and sentence.encode()


def test_a_test_stops_at_the_first_or_says_how_many_are_left(planted):
    root, files = planted
    test = ImageTest(source=open_folder(root), preprocessing=Preprocessing(size=16))
    with pytest.raises(DataError, match=r"mixed/empty\.jpg: must be an image"):
        test.batch(torch.arange(len(test)))
    batch = ReadableTest(test).batch(torch.arange(len(test)))
    assert int((batch.targets >= 0).sum()) == 8 + len(files.readable) == len(test) - len(batch.unreadable)
    assert len(batch.unreadable) == len(files.unreadable)


def test_a_file_without_permission_is_counted_or_ends_a_test(tmp_path):
    make_folder(tmp_path, ["good", "mixed"], each=2)
    (tmp_path / "mixed" / "000.jpg").chmod(0)
    source = open_folder(tmp_path)
    message = r"mixed/000\.jpg: cannot be read: Permission denied\.$"
    training = ImageTraining(source=source, seed=0, transform=TRANSFORM)
    test = ImageTest(source=source, preprocessing=Preprocessing(size=16))
    with without_override():
        (sentence,) = training.batch(0, torch.arange(4)).unreadable
        with pytest.raises(DataError, match=message):
            test.batch(torch.arange(4))
    assert re.search(message, sentence)


# What reading may add to the memory of a process that has imported torch and transformed one small image: how
# much that process takes by itself differs between the builds of torch.
MOST_ADDED = 750e6

# Reads every file of a folder in training and prints by how much the peak of memory rises, in bytes, and what
# was counted. The kernel's VmHWM is of this program alone; ru_maxrss would begin with what was before it.
READING = """
import json, re, sys
from pathlib import Path
import torch
from PIL import Image
from lambdanets.data.folders import open_folder
from lambdanets.data.images import ImageTraining
from lambdanets.data.config import AugmentConfig
from lambdanets.data.transforms import TrainTransform

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

source, transform = open_folder(Path(sys.argv[1])), TrainTransform(size=224, augment=AugmentConfig())
transform(Image.new("RGB", (64, 64)), (0, 0, 0))
before = peak()
data = ImageTraining(source=source, seed=0, transform=transform)
unreadable = data.batch(0, data.order(0)).unreadable
print(json.dumps([peak() - before, len(set(unreadable))]))
"""


def reading(root):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READING, str(root)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_all_of_it_without_much_memory(planted):
    root, files = planted
    added, counted = reading(root)
    assert added < MOST_ADDED
    assert counted == len(files.unreadable)


def largest_images():
    """As many pixels as are allowed, in the formats that take most memory."""
    flat = np.tile(np.arange(7800, dtype=np.uint8), (7800, 1))
    colour = np.repeat(flat[..., None], 3, axis=2)
    small = colour[:5500, :5500]
    yield "cmyk.jpg", encoded(Image.fromarray(colour).convert("CMYK"), progressive=True, subsampling=0)
    yield "alpha.png", encoded(np.dstack([colour, flat]), "PNG", compress_level=1)
    yield "float.tif", encoded(small[..., 0].astype(np.float32), "TIFF", compression="tiff_lzw")
    yield "next.jp2", encoded(small, "JPEG2000")
    yield "new.avif", encoded(colour, "AVIF", quality=10, speed=10)


@pytest.mark.slow
def test_the_largest_allowed_images_without_much_memory(tmp_path):
    for name, content in largest_images():
        folder = tmp_path / Path(name).stem / "class"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        added, counted = reading(folder.parent)
        print(f"{name}: {added / 1e9:.2f} GB")
        assert counted == 0, name
        assert added < MOST_ADDED, name
