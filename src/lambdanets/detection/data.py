"""Images with objects as training and test data, from COCO's files."""

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from lambdanets.data.decode import decode
from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.data.differences import UNKNOWN_SIZE, part_changes
from lambdanets.data.fingerprint import sample_sizes, update_with_names
from lambdanets.data.headers import opened
from lambdanets.data.images import first_readable
from lambdanets.data.listing import locate
from lambdanets.data.seeds import generator, permutation, purpose
from lambdanets.data.sources import read_file
from lambdanets.data.task import Batch, TestData, TrainingData
from lambdanets.detection.coco import (
    Category,
    CocoFile,
    ImageRecord,
    label_numbers,
    read_part,
    without_collection,
)
from lambdanets.detection.geometry import has_shape
from lambdanets.detection.rle import mask_library
from lambdanets.detection.samples import (
    NUM_DRAWS,
    Drawing,
    Sample,
    collate,
    fitted_view,
    jittered_view,
    paste_objects,
)
from lambdanets.errors import DataError
from lambdanets.text import printable

_ORDER: Final = purpose("detection order")
_JITTER: Final = purpose("detection jitter")
_PASTE: Final = purpose("detection copy-paste")
_PASTED_JITTER: Final = purpose("detection copy-paste jitter")

_ORIENTATION: Final = 0x0112
# The orientations of EXIF that exchange width and height, and what turns an upright image back.
_TURNED_BACK: Final = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, kw_only=True)
class DetectionTask:
    """A data set of images with objects, ready for use.

    Attributes:
        train: Images to train on, with the targets that `samples.collate` makes.
        test: Images to judge by, whole ones, with such targets.
        categories: The categories of the training; the label of one is its position + 1.
        test_file: The file of the test images, with these categories.
        most_objects: The most objects of a training image.
        fingerprint: Describes both parts, as `data.fingerprint.fingerprint_task` does.
    """

    train: TrainingData
    test: TestData
    categories: tuple[Category, ...]
    test_file: CocoFile
    most_objects: int
    fingerprint: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each category."""
        return tuple(category.name for category in self.categories)


def load(
    config: CocoConfig, augment: JitterConfig, *, seed: int, masks: bool, max_unreadable: int
) -> DetectionTask:
    """Read both parts of a data set and make them ready.

    Args:
        config: Where they are, and the sizes of images.
        augment: How training changes images.
        seed: Decides with epoch and index what training shows.
        masks: Whether targets have masks: objects without one are then left out.
        max_unreadable: Image files, one after another, that may be unreadable in training.

    Raises:
        ArgumentError: No folder is given.
        PathError: A part is not there.
        DataError: A file is not to be trusted; there is nothing to train on; the test has other categories
            than the training, or an image file that is not there.
        DependencyError: Masks need pycocotools.
    """
    config.check_ready()
    rasterise = masks or augment.copy_paste > 0
    if rasterise:
        mask_library()
    root = Path(config.root)
    train = read_part(root, config.train)
    _check_objects(train, masks)
    test, test_file = load_test(config, train.categories, str(train.path), masks=masks)
    return DetectionTask(
        train=_DetectionTraining(
            records=_Packed.pack(train.images),
            folder=train.image_folder,
            drawing=Drawing(labels=label_numbers(train.categories), masks=masks, rasterise=rasterise),
            config=config,
            canvas=_canvas(config),
            augment=augment,
            seed=seed,
            max_in_a_row=max_unreadable,
        ),
        test=test,
        categories=train.categories,
        test_file=test_file,
        most_objects=max(len(image.annotations) for image in train.images),
        fingerprint={
            "classes": _named(train.categories),
            "train": _fingerprint_file(train),
            "test": _fingerprint_file(test_file),
        },
    )


def changes_of_test(made: Mapping[str, Any], file: CocoFile) -> str:
    """Say how a file differs from the test part of a fingerprint; empty where it does not."""
    now = _fingerprint_file(file), _named(file.categories)
    return part_changes((made["test"], made["classes"]), now)


def _named(categories: Iterable[Category]) -> list[str]:
    return [f"{one.name} (id {one.id})" for one in categories]


def _fingerprint_file(file: CocoFile) -> dict[str, Any]:
    """Describe the images of a file and their objects by what can be compared, without reading an image.

    It is what `data.fingerprint.fingerprint_part` gives; the digest covers ids, names and sizes of images,
    and the category and the box of each object.
    """
    numbers = label_numbers(file.categories)
    objects = [one for image in file.images for one in image.annotations]
    names = (
        f"{one.id} {one.width} {one.height} {len(one.annotations)} {one.file_name}" for one in file.images
    )
    digest = hashlib.sha256()
    update_with_names(digest, (name.encode("utf-8", "surrogatepass") for name in names))
    digest.update(np.array([(one.category_id, *one.box) for one in objects], dtype="<f8").tobytes())
    by_class = np.bincount([numbers[one.category_id] - 1 for one in objects], minlength=len(file.categories))

    def size(index: int) -> int:
        path = locate(file.image_folder, file.images[index].file_name)
        return path.stat().st_size if path.is_file() else UNKNOWN_SIZE

    return {
        "images": len(file.images),
        "objects": len(objects),
        "by_class": by_class.tolist(),
        "digest": digest.hexdigest(),
        "sizes": sample_sizes(len(file.images), len(file.categories), size),
    }


def load_test(
    config: CocoConfig, categories: tuple[Category, ...], origin: str, *, masks: bool
) -> tuple[TestData, CocoFile]:
    """Read the test part of a data set for a detector of these categories, and make it ready.

    Args:
        config: Where it is, and the sizes of images.
        categories: What the labels 1, 2, … stand for.
        origin: The file or the run that they come from, for the message.
        masks: Whether targets have masks.

    Raises:
        PathError: The part is not there.
        DataError: Its file is not to be trusted, has other categories, or names images that are not there.
    """
    file = read_part(Path(config.root), config.test)
    _check_categories(file, categories, origin)
    file = replace(file, categories=categories)
    _check_files(file)
    test = _DetectionTest(
        records=_Packed.pack(file.images),
        folder=file.image_folder,
        drawing=Drawing(labels=label_numbers(categories), masks=masks, rasterise=masks),
        config=config,
        canvas=_canvas(config),
    )
    return test, file


def _canvas(config: CocoConfig) -> int | None:
    """The side of the square that images are padded to; None: batches have the size of their largest."""
    return config.image_size if config.shortest_side is None else None


def fit_image(
    image: Image.Image, config: CocoConfig
) -> tuple[UInt8[Tensor, "3 height width"], tuple[float, float]]:
    """Resize an image as tests do.

    Returns:
        The pixels, not padded; and pixels of the result per pixel of the image, along height and width.
    """
    view = fitted_view(image.width, image.height, config)
    return view.pixels(image), view.scale


def read_image(folder: Path, record: ImageRecord) -> Image.Image:
    """Decode an image of a data set, at the orientation that its objects are given in.

    Width and height in the COCO file decide between an image that is turned upright, as its EXIF asks, and
    its pixels as they are stored, which pycocotools' users often labelled. Where both have that size
    (squares, half turns), it is upright.

    Raises:
        DataError: It cannot be read, or has another size; the message begins with its path.
    """
    path = locate(folder, record.file_name)
    name = printable(str(path))
    content = read_file(str(path).encode("utf-8", "surrogateescape"), name)
    image = decode(content, name)
    expected = (record.width, record.height)
    if image.size == expected:
        return image
    turn = _TURNED_BACK.get(_orientation(content, name))
    if turn is not None and image.size == expected[::-1]:
        return image.transpose(turn)
    raise DataError(
        f"{name}: must have {record.width}×{record.height} pixels as its COCO file says, got"
        f" {image.width}×{image.height}."
    )


def _orientation(content: bytes, name: str) -> int:
    with opened(content, name) as image:
        found: int = image.getexif().get(_ORIENTATION, 1)
        return found


def _check_objects(train: CocoFile, masks: bool) -> None:
    objects = [one for record in train.images for one in record.annotations if not one.is_crowd]
    if not objects:
        raise DataError(f"coco: {train.path} must have objects to train on, got none.")
    if masks and not any(map(has_shape, objects)):
        raise DataError(
            f"coco: {train.path} must have masks of its objects, got boxes alone. Use --detector.no-masks."
        )


def _check_categories(test: CocoFile, categories: tuple[Category, ...], origin: str) -> None:
    known = {category.id: category.name for category in categories}
    other = [one for one in test.categories if known.get(one.id) != one.name]
    if other:
        raise DataError(
            f"coco: {test.path} must have categories of {origin} alone, by id and name, got"
            f" {other[0].id} '{other[0].name}'{f' and {len(other) - 1} more' if len(other) > 1 else ''}."
        )


def _check_files(file: CocoFile) -> None:
    """Look for the test images now: the first test comes hours later."""
    missing = [one.file_name for one in file.images if not locate(file.image_folder, one.file_name).is_file()]
    if missing:
        raise DataError(
            f"coco: {file.path} must name images of {file.image_folder}, got {printable(missing[0])!r}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, which are not there."
        )


@dataclass(frozen=True, eq=False)
class _Packed:
    """Records in one block of memory: a quarter of the objects' own, and not copied by worker processes."""

    content: bytes
    starts: Int[Tensor, " n_plus_1"]

    @staticmethod
    def pack(records: Iterable[ImageRecord]) -> "_Packed":
        with without_collection():
            packed = [pickle.dumps(record, pickle.HIGHEST_PROTOCOL) for record in records]
        ends = torch.tensor([0, *map(len, packed)]).cumsum(0)
        return _Packed(b"".join(packed), ends)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> ImageRecord:
        start, end = self.starts[index : index + 2].tolist()
        record: ImageRecord = pickle.loads(memoryview(self.content)[start:end])
        return record


@dataclass(frozen=True, kw_only=True)
class _DetectionImages:
    """Image files with their objects.

    Attributes:
        records: What the COCO file says of each.
        folder: Where the files are.
        drawing: How objects become targets.
        config: Sizes of images.
        canvas: Side of the square; None: as large as the largest of a batch.
    """

    records: _Packed
    folder: Path
    drawing: Drawing
    config: CocoConfig
    canvas: int | None

    def __len__(self) -> int:
        return len(self.records)

    def _read(self, index: int) -> tuple[Image.Image, ImageRecord]:
        record = self.records[index]
        return read_image(self.folder, record), record

    def _batch(self, samples: list[Sample], indices: list[int], unreadable: list[str]) -> Batch:
        images, targets = collate(samples, indices, self.canvas, masks=self.drawing.masks)
        return Batch(images, targets, tuple(unreadable))


@dataclass(frozen=True, kw_only=True)
class _DetectionTraining(_DetectionImages):
    """Training images: a pure function of (seed, epoch, index).

    Where a file cannot be read, the next one that can stands in for it, with its own objects.
    """

    augment: JitterConfig
    seed: int
    max_in_a_row: int

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        return permutation(len(self), _ORDER, self.seed, epoch)

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        samples, shown, unreadable = [], [], []
        for index in indices.tolist():
            seed = (self.seed, epoch, index)
            sample, found, reasons = self._jittered(index, (_JITTER, *seed))
            unreadable += reasons
            rng = generator(_PASTE, *seed)
            if rng.random() < self.augment.copy_paste:
                source, _, reasons = self._jittered(int(rng.integers(len(self))), (_PASTED_JITTER, *seed))
                unreadable += reasons
                sample = paste_objects(sample, source, rng.random(len(source.labels)))
            samples.append(sample)
            shown.append(found)
        return self._batch(samples, shown, unreadable)

    def _jittered(self, index: int, seed: tuple[int, ...]) -> tuple[Sample, int, list[str]]:
        (image, record), found, reasons = first_readable(self._read, index, len(self), self.max_in_a_row)
        draws = generator(*seed).random(NUM_DRAWS).tolist()
        view = jittered_view(image.width, image.height, self.config, self.augment, draws)
        return self.drawing.sample(image, record, view), found, reasons


class _DetectionTest(_DetectionImages):
    """Test images: whole, at the size that fits."""

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        samples = []
        for index in indices.tolist():
            image, record = self._read(index)
            view = fitted_view(image.width, image.height, self.config)
            samples.append(self.drawing.sample(image, record, view))
        return self._batch(samples, indices.tolist(), [])
