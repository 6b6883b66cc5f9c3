"""Read COCO's JSON: images, categories and the objects of each image, refused in one sentence where wrong."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from lambdanets.data.listing import locate
from lambdanets.errors import DataError, PathError
from lambdanets.reading import read_json, reading
from lambdanets.text import printable

T = TypeVar("T")

# Polygons; a run-length encoding of a mask; or none.
Segmentation = list[list[float]] | dict[str, Any] | None

# Where the JSON file of a part may lie, below the root.
_FILES: Final = (
    "annotations/instances_{part}.json",
    "annotations/{part}.json",
    "{part}.json",
    "{part}/_annotations.coco.json",
    "{part}/annotations.json",
)
# JSON has integers that no float holds.
_ENDLESS: Final = 1e100
# COCO's own files have 0.5 GB.
_MOST_BYTES: Final = 2**32
_ADVICE: Final = "`lambdanets data check` names all faults, and --repair OUT writes a mended copy."


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A class of objects; the ids of a file may have holes."""

    id: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One object of an image, or a crowd of them.

    Attributes:
        id: Its number in the file.
        category_id: The number of its category in the file.
        box: Left, top, width and height in pixels of the image, from its upper left corner.
        segmentation: Polygons, each x, y, x, y, …; or a mask in run lengths; or none.
        area: Area in square pixels, by which evaluations sort objects into sizes.
        is_crowd: Whether it stands for many objects, which nobody is trained on.
    """

    id: int
    category_id: int
    box: tuple[float, float, float, float]
    segmentation: Segmentation
    area: float
    is_crowd: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """An image of the file; its objects are given in its pixels, width by height of them."""

    id: int
    file_name: str
    width: int
    height: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """The contents of a file.

    Attributes:
        path: The file.
        image_folder: What the names of its images are relative to.
        categories: In the order of their ids; the label of one is its position + 1.
        images: In the order of the file, those without objects too.
    """

    path: Path
    image_folder: Path
    categories: tuple[Category, ...]
    images: tuple[ImageRecord, ...]


def label_numbers(categories: Iterable[Category]) -> dict[int, int]:
    """The label of each category id: from 1, without holes, in the order of the categories."""
    return {category.id: number for number, category in enumerate(categories, start=1)}


def find_part(root: Path, part: str) -> tuple[Path, Path]:
    """The JSON file of a part, and the folder of its images.

    The folder is `{part}`, `images/{part}`, `images` or the root, the first that is there; for a JSON file
    the one that it lies in.

    Args:
        root: The folder of the data set.
        part: A name such as `train2017`, or a JSON file below the root.

    Raises:
        PathError: There is no such file; the message lists where it was looked for.
    """
    if part.endswith(".json"):
        file = root / part
        if not file.is_file():
            raise PathError(f"coco: {file} must be a file of COCO's JSON, got none.")
        return file, file.parent
    looked = [pattern.format(part=part) for pattern in _FILES]
    found = next((root / name for name in looked if (root / name).is_file()), None)
    if found is None:
        raise PathError(
            f"coco: {root} must hold the JSON file of part {part!r}, got none. Looked for"
            f" {', '.join(looked)}."
        )
    return found, next(folder for folder in _folders(root, part) if folder.is_dir())


def _folders(root: Path, part: str) -> tuple[Path, ...]:
    return root / part, root / "images" / part, root / "images", root


def find_images(root: Path, part: str, first: str) -> Path:
    """The folder of a part's images: the first of those that may be it in which an image is found.

    Args:
        root: The folder of the data set.
        part: As in `find_part`; a file such as `instances_val.json` has the folders of `val` too.
        first: The file name of an image.
    """
    path, folder = find_part(root, part)
    stem = path.stem.removeprefix("instances_") if part.endswith(".json") else part
    return next((one for one in (folder, *_folders(root, stem)) if locate(one, first).is_file()), folder)


def read_part(root: Path, part: str) -> CocoFile:
    """Read a part of a data set, wherever it lies below the root.

    Args:
        root: The folder of the data set.
        part: As in `find_part`.

    Raises:
        PathError: There is no such file.
        DataError: `read_coco` refuses it.
    """
    read = read_coco(find_part(root, part)[0])
    return replace(read, image_folder=find_images(root, part, read.images[0].file_name))


def read_coco(path: Path, image_folder: Path | None = None) -> CocoFile:
    """Read a file of COCO's JSON.

    Left out, `iscrowd` is 0, `segmentation` none and `area` that of the box. Boxes may be empty or lie
    outside of their image: what is seen of them is for those who use them.

    Args:
        path: The file.
        image_folder: The folder of its images; that of the file unless given.

    Raises:
        PathError: There is no such file.
        DataError: It is no JSON, lacks a key, or has a value of a wrong kind; an id is there twice; an
            object belongs to no image or to no category; a number is not finite.
    """
    with without_collection():
        content = read_lists(path)
        categories = tuple(sorted(_unique(path, content, "categories", _category), key=lambda one: one.id))
        if not categories:
            raise DataError(f"coco: {path} must have at least one category, got none.")
        shapes = {record.id: record for record in _unique(path, content, "images", _image)}
        if not shapes:
            raise DataError(f"coco: {path} must have at least one image, got none.")
        return CocoFile(
            path=path,
            image_folder=path.parent if image_folder is None else image_folder,
            categories=categories,
            images=tuple(_with_objects(path, content, categories, shapes)),
        )


def read_lists(path: Path) -> dict[str, list[Any]]:
    """The three lists of a file: images, annotations and categories, with entries of any kind.

    Raises:
        PathError: There is no such file.
        DataError: It is no JSON, or lacks one of the lists.
    """
    if not os.path.lexists(path):
        raise PathError(f"coco: {path} must be a file of COCO's JSON, got none.")
    with reading("coco", path, "be a file of JSON"):
        content = read_json(path, limit=_MOST_BYTES, any_number=True)
    if not isinstance(content, dict):
        raise DataError(f"coco: {path} must hold an object, got {type(content).__name__}.")
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise DataError(f"coco: {path} must have the key '{key}', got {_listed(content)}.")
        if not isinstance(content[key], list):
            raise DataError(f"coco: {path} must have a list of {key}, got {type(content[key]).__name__}.")
    return content


def is_whole(value: object) -> bool:
    """Whether a value of JSON is an integer."""
    return type(value) is int


def is_finite(value: object) -> bool:
    """Whether a value of JSON is a finite number, and none that no image has."""
    return type(value) in (int, float) and abs(value) < _ENDLESS  # type: ignore[arg-type]


def is_text(value: object) -> bool:
    """Whether a value of JSON is a text that is not empty."""
    return isinstance(value, str) and value != ""


def is_size(value: object) -> bool:
    """Whether a value of JSON is a positive integer."""
    return type(value) is int and value > 0


def is_box(value: object) -> bool:
    """Whether a value of JSON is a list of four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))


def segmentation_fault(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation, as the end of "must be …, got …"; None where nothing is.

    No polygons at all are not wrong: the object has no mask.

    Args:
        segmentation: A value of JSON.
        height: Rows of the image.
        width: Columns of the image.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, height, width)
    if not isinstance(segmentation, list):
        return f"polygons or run lengths, got {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list):
            return f"a list of polygons, got a list of {type(polygon).__name__}"
        try:
            # Not finite where one of them is not.
            total = sum(polygon)
        except (TypeError, OverflowError):
            return "polygons of numbers, got another kind"
        if not abs(total) < _ENDLESS:
            return "polygons of finite numbers, got one that is not"
        if len(polygon) % 2:
            return f"polygons of pairs x, y, got {len(polygon)} numbers"
    return None


def _rle_fault(encoded: dict[str, Any], height: int, width: int) -> str | None:
    counts, size = encoded.get("counts"), encoded.get("size")
    if size != [height, width]:
        return f"run lengths with the image's size [{height}, {width}], got {size}"
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        return "run lengths with counts from 0 (a text or a list), got others"
    if sum(counts) != height * width:
        return f"run lengths of {height * width} pixels in all, got {sum(counts)}"
    return None


def _unpacked(text: str) -> list[int] | None:
    """The counts in COCO's text form: five bits in each character; None where it ends too early.

    pycocotools reads over the end of a text that is too short, so nothing is given to it unread.
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("utf-8", "replace"):
        bits = code - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts if not shift else None


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python from looking for cycles while lists are made by the million: most of the time otherwise."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _unique(path: Path, content: dict[str, Any], key: str, parse: Callable[[Any, str], T]) -> Iterator[T]:
    seen = set()
    for number, entry in enumerate(content[key]):
        parsed: Any = parse(entry, f"coco: {path}, {key}[{number}]")
        if parsed.id in seen:
            raise DataError(f"coco: {path} must have ids once in {key}, got {parsed.id} twice. {_ADVICE}")
        seen.add(parsed.id)
        yield parsed


def _with_objects(
    path: Path, content: dict[str, Any], categories: tuple[Category, ...], shapes: dict[int, ImageRecord]
) -> Iterator[ImageRecord]:
    """The images with their objects."""
    known = {category.id for category in categories}
    objects: dict[int, list[Annotation]] = {number: [] for number in shapes}
    ids = set()
    entries = content["annotations"]
    for number, entry in enumerate(entries):
        where = f"coco: {path}, annotations[{number}]"
        # Memory of the parsed JSON is given back as it is read.
        entries[number] = None
        image = shapes.get(_field(entry, "image_id", is_whole, "an integer", where))
        if image is None:
            raise DataError(
                f"{where} must belong to an image of the file, got {entry['image_id']}. {_ADVICE}"
            )
        annotation = _annotation(entry, image, where)
        if annotation.category_id not in known:
            got = annotation.category_id
            raise DataError(f"{where} must belong to a category of the file, got {got}. {_ADVICE}")
        if annotation.id in ids:
            raise DataError(
                f"coco: {path} must have ids once in annotations, got {annotation.id} twice. {_ADVICE}"
            )
        ids.add(annotation.id)
        objects[image.id].append(annotation)
    for image in shapes.values():
        yield ImageRecord(
            id=image.id,
            file_name=image.file_name,
            width=image.width,
            height=image.height,
            annotations=tuple(objects.pop(image.id)),
        )


def _field(entry: Any, key: str, fits: Callable[[Any], bool], kind: str, where: str) -> Any:
    """A value of an entry, of the right kind."""
    if not isinstance(entry, dict):
        raise DataError(f"{where} must be an object, got {type(entry).__name__}.")
    if key not in entry:
        raise DataError(f"{where} must have the key '{key}', got {_listed(entry)}.")
    value = entry[key]
    if not fits(value):
        raise DataError(f"{where} must have {kind} as {key}, got {value!r:.60}.")
    return value


def _category(entry: Any, where: str) -> Category:
    return Category(
        id=_field(entry, "id", is_whole, "an integer", where),
        name=printable(_field(entry, "name", is_text, "a text", where)),
    )


def _image(entry: Any, where: str) -> ImageRecord:
    return ImageRecord(
        id=_field(entry, "id", is_whole, "an integer", where),
        file_name=_field(entry, "file_name", is_text, "a text", where),
        width=_field(entry, "width", is_size, "a positive integer", where),
        height=_field(entry, "height", is_size, "a positive integer", where),
        annotations=(),
    )


def _annotation(entry: Any, image: ImageRecord, where: str) -> Annotation:
    left, top, width, height = _field(entry, "bbox", is_box, "four finite numbers", where)
    segmentation = entry.get("segmentation") or None
    fault = segmentation_fault(segmentation, image.height, image.width)
    if fault:
        raise DataError(f"{where}: segmentation must be {fault}. {_ADVICE}")
    area = entry.setdefault("area", width * height)
    crowd = entry.setdefault("iscrowd", 0)
    if not is_finite(area):
        raise DataError(f"{where} must have a finite number as area, got {area!r:.60}. {_ADVICE}")
    if crowd not in (0, 1):
        raise DataError(f"{where} must have 0 or 1 as iscrowd, got {crowd!r:.60}. {_ADVICE}")
    return Annotation(
        id=_field(entry, "id", is_whole, "an integer", where),
        category_id=_field(entry, "category_id", is_whole, "an integer", where),
        box=(float(left), float(top), float(width), float(height)),
        segmentation=segmentation,
        area=float(area),
        is_crowd=bool(crowd),
    )


def _listed(content: dict[str, Any]) -> str:
    return ", ".join(f"'{key}'" for key in list(content)[:8]) or "none"
