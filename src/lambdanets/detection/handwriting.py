"""Handwritten digits as shapes of any size: scikit-learn's, or an own folder of images or MNIST's files."""

import gzip
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch.nn.functional import avg_pool2d

from lambdanets.data.decode import decode
from lambdanets.data.digits import LABELS, Digits, find_ink, load_digits
from lambdanets.data.folders import open_folder
from lambdanets.data.sources import Source, Subset, holdout_split
from lambdanets.errors import DataError, PathError
from lambdanets.reading import read_bytes

# Enlarged ink of this strength and above is the digit.
_INK_LEVEL: Final = 0.5

# Ink is enlarged smoothly to at least this many pixels before it is cut at the level.
_FIELD: Final = 64

# Fraction of each class that is set aside for the second part, where a folder has only one.
_HELD_OUT: Final = 0.2

_PART_FOLDERS: Final = ("val", "test")
_IDX_PARTS: Final = ("train", "t10k", "test")

Plane = Float[np.ndarray, "_ _"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Handwriting:
    """Digits, or any drawn classes.

    Attributes:
        labels: The name of each class.
        targets: The class of each digit.
        read: Reads the ink of the digit of an index: from 0, the paper, to 1.
    """

    labels: tuple[str, ...]
    targets: Int[np.ndarray, " n"]
    read: Callable[[int], Plane]

    def __len__(self) -> int:
        return len(self.targets)


def load_handwriting(folder: Path | None = None) -> tuple[Handwriting, Handwriting]:
    """Load the digits of the training scenes and those of the validation scenes: no digit is in both.

    Args:
        folder: None: scikit-learn's digits, of which the last 500 are for validation. Else a folder with
            MNIST's idx files (of training and test, packed or not), with the folders `train` and `val` (or
            `test`) and a folder for each class in them, or with a folder for each class alone: then about a
            fifth of the digits are for validation.

    Raises:
        PathError: There is no such folder.
        DataError: There are no digits in it, or its files are damaged.
        DependencyError: scikit-learn is missing.
    """
    if folder is None:
        train, test = load_digits()
        return _bundled(train), _bundled(test)
    if not folder.is_dir():
        raise PathError(f"data scenes: digits must be a folder, got {folder}, which is none.")
    if any(folder.rglob("*idx3-ubyte*")):
        return _idx_part(folder, _IDX_PARTS[:1]), _idx_part(folder, _IDX_PARTS[1:])
    others = [folder / name for name in _PART_FOLDERS if (folder / name).is_dir()]
    if (folder / "train").is_dir() and others:
        shown = open_folder(folder / "train")
        return _from_source(shown), _from_source(open_folder(others[0], labels=shown.labels))
    whole = open_folder(folder)
    return tuple(  # type: ignore[return-value]
        _from_source(Subset(whole, indices)) for indices in holdout_split(whole, _HELD_OUT)
    )


def render_ink(ink: Plane, side: float, angle: float) -> Plane:
    """Draw ink at another size and angle.

    The ink is enlarged smoothly (bicubic) and cut at `_INK_LEVEL`: what lies above is the shape. Each number
    of the result is the fraction of a pixel that the shape covers, so half and more is its mask.

    Args:
        ink: From 0 to 1.
        side: Pixels of the longer side of the shape, before it is rotated.
        angle: In degrees, counter-clockwise.

    Returns:
        The covered fraction of each pixel, cut to what is not 0.
    """
    # Drawn several times as fine, then averaged.
    fine = 4 if side < _FIELD / 2 else 2
    factor = math.ceil(_FIELD / max(ink.shape))
    padded = Image.fromarray(np.pad(ink, 1).astype(np.float32))
    field = padded.resize((padded.width * factor, padded.height * factor), Image.Resampling.BICUBIC)
    box = Image.fromarray(np.asarray(field) >= _INK_LEVEL).getbbox() or (0, 0, *field.size)
    scale = side * fine / max(box[2] - box[0], box[3] - box[1])
    size = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    enlarged = np.asarray(field.resize(size, Image.Resampling.BICUBIC, box=box))
    # The edge is about one fine pixel wide, whatever the size.
    shape = ((enlarged - _INK_LEVEL) * max(1.0, scale * factor) + 0.5).clip(0, 1).astype(np.float32)
    return finish_shape(Image.fromarray(np.pad(shape, fine)), angle, fine)


def finish_shape(shape: Image.Image, angle: float, fine: int) -> Plane:
    """Rotate a shape that is drawn `fine` times too large, average it and cut it to what is not 0.

    Args:
        shape: Numbers from 0 to 1 (mode F).
        angle: In degrees, counter-clockwise.
        fine: Drawn pixels to a pixel, along each axis.
    """
    rotated = shape.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    coverage = np.asarray(rotated.reduce(fine)).clip(0, 1)
    coverage = np.where(coverage < 1 / 255, np.float32(0), coverage)
    rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.ones((1, 1), dtype=np.float32)
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _bundled(digits: Digits) -> Handwriting:
    # The 8×8 pixels are blurred strokes: how far each one stands out of its 3×3 neighbours is counted twice.
    # Without that, loops close and thin strokes break at any level.
    around = avg_pool2d(digits.images, 3, stride=1, padding=1)
    images = (2 * digits.images - around).clip(0, 1).squeeze(1).numpy()
    return Handwriting(labels=LABELS, targets=digits.labels.numpy(), read=lambda index: images[index])


def _from_source(source: Source) -> Handwriting:
    def read(index: int) -> Plane:
        image = decode(source.read(index), source.name(index))
        try:
            return find_ink(image)[0]
        except DataError as error:
            raise DataError(f"{source.name(index)}: {error}") from error

    return Handwriting(labels=source.labels, targets=source.targets.numpy(), read=read)


def _idx_part(folder: Path, names: tuple[str, ...]) -> Handwriting:
    """Read the images and labels of MNIST or EMNIST whose file names hold one of the names."""
    found = {}
    for kind in ("images-idx3", "labels-idx1"):
        paths = [path for path in sorted(folder.rglob(f"*{kind}-ubyte*")) if _is_part(path, names)]
        if len(paths) != 1:
            listed = ", ".join(path.name for path in paths) or "none"
            raise DataError(
                f"data scenes: {folder} must have one file *{names[0]}-{kind}-ubyte or .gz, got {listed}."
            )
        found[kind] = _read_idx(paths[0])
        if kind == "images-idx3" and paths[0].name.startswith("emnist"):
            # EMNIST stores its images by columns.
            found[kind] = found[kind].transpose(0, 2, 1)
    images, targets = found["images-idx3"], found["labels-idx1"].astype(np.int64)
    if len(images) != len(targets):
        raise DataError(
            f"data scenes: {folder} must have a label for each image, got {len(images)} and {len(targets)}."
        )
    labels = tuple(str(label) for label in range(int(targets.max(initial=0)) + 1))
    return Handwriting(
        labels=labels, targets=targets, read=lambda index: images[index].astype(np.float32) / 255
    )


# The largest of EMNIST's files, unpacked, is half of it.
_MOST_BYTES: Final = 2**30


def _is_part(path: Path, names: tuple[str, ...]) -> bool:
    return any(f"{name}-" in path.name for name in names)


def _read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an idx file of bytes: two zeros, the type 8, the number of axes, their sizes, the numbers."""
    try:
        content = read_bytes(path, limit=_MOST_BYTES)
        if path.suffix == ".gz":
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MOST_BYTES)
        axes = content[3]
        sizes = np.frombuffer(content, ">u4", axes, offset=4)
        if content[:3] != b"\0\0\x08":
            raise ValueError("another kind of file")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise DataError(f"data scenes: {path} must be an idx file of bytes, got {error}.") from error
