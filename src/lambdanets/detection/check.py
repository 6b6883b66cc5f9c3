"""Check files of COCO's JSON, and write repaired copies: the job of `lambdanets data check` on objects."""

import json
import mmap
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdanets.data.formats import is_image as is_image_file
from lambdanets.data.left_out import LeftOut, Reason
from lambdanets.data.listing import composed, list_files, locate
from lambdanets.detection.coco import ImageRecord, find_images, find_part, read_lists, without_collection
from lambdanets.detection.data import read_image
from lambdanets.detection.matching import AREAS
from lambdanets.detection.mending import RULES, Faults, Mender, is_category, is_image, mend_listed
from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.files import make_folder, replace_file
from lambdanets.reading import UnreadableError, opened
from lambdanets.terminal import counting
from lambdanets.text import printable

# Images that are looked for to find their folder.
_TRIED: Final = 100
_RECORD: Final = ("id", "file_name", "width", "height")


@dataclass(frozen=True, kw_only=True)
class CocoReport:
    """The contents of a file, its faults and what a repair makes of it.

    Attributes:
        part: The part of the data set.
        path: The file.
        image_folder: Where its images are.
        num_images: Images that the file lists.
        num_with_objects: Sound images with at least one sound object that is no crowd.
        num_crowds: Sound annotations that stand for many objects.
        objects: Sound objects of each category, by its name; those without any too.
        sizes: Sound objects by COCO's sizes.
        faults: What is wrong.
        mended: The file after a repair.
        left_out: Images in the folder, where that is the part's own, that the file does not name.
        repaired: Where that was written; None where it was not.
    """

    part: str
    path: Path
    image_folder: Path
    num_images: int
    num_with_objects: int
    num_crowds: int
    objects: dict[str, int]
    sizes: dict[str, int]
    faults: Faults
    mended: dict[str, Any]
    left_out: LeftOut
    repaired: Path | None = None

    @property
    def empty(self) -> tuple[str, ...]:
        """Categories without an object."""
        return tuple(name for name, count in self.objects.items() if not count)

    @property
    def is_fit(self) -> bool:
        """Whether a training takes the file: it has objects, and no fault that is refused."""
        return any(self.objects.values()) and not any(RULES[kind].refused for kind in self.faults.counts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "part": self.part,
            "file": str(self.path),
            "image_folder": str(self.image_folder),
            "fit": self.is_fit,
            "images": self.num_images,
            "images_with_objects": self.num_with_objects,
            "crowds": self.num_crowds,
            "objects": self.objects,
            "sizes": self.sizes,
            "empty": self.empty,
            "faults": [
                {
                    "fault": kind,
                    "count": self.faults.counts[kind],
                    "refused": rule.refused,
                    "repair": rule.remedy,
                    "first": self.faults.examples[kind],
                }
                for kind, rule in RULES.items()
                if kind in self.faults.counts
            ],
            "left_out": self.left_out.to_list(),
            "repaired": str(self.repaired) if self.repaired else None,
        }


def find_coco_parts(root: Path, train: str, test: str) -> tuple[str, ...] | None:
    """The parts of a folder with COCO's JSON files; None where it has none.

    Where `train` and `val` are asked for and are not there, they are COCO's `train2017` and `val2017`.

    Args:
        root: The folder.
        train: The part to train with.
        test: The part to test with; empty for none.
    """
    for first, second in ((train, test), ("train2017", "val2017") if train == "train" else (train, test)):
        try:
            path, _ = find_part(root, first)
        except PathError:
            continue
        if _has_objects(path):
            return (first, second) if test else (first,)
    return None


def _has_objects(path: Path) -> bool:
    """Whether a file names annotations: other files of JSON may have the name of a part."""
    with suppress(UnreadableError), opened(path) as (descriptor, status):
        if status.st_size:
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
                return content.find(b'"annotations"') >= 0
    return False


def check_coco(
    root: Path, parts: tuple[str, ...], *, decoding: bool = False, repair: Path | None = None
) -> tuple[CocoReport, ...]:
    """Count images and objects, and find what is wrong with them.

    Args:
        root: The folder of the data set.
        parts: As in `coco.find_part`.
        decoding: Read and decode every image.
        repair: A folder for repaired copies of the JSON files, under their names. Images are not copied.

    Raises:
        ArgumentError: A copy would replace a file.
        PathError: A part is not there.
        DataError: A file is no JSON, or lacks a list.
        StorageError: The folder cannot be written.
    """
    copies = [repair / find_part(root, part)[0].name if repair else None for part in parts]
    for copy in copies:
        if copy is not None and (copy.exists() or copies.count(copy) > 1):
            raise ArgumentError(
                f"data check: repair must not replace a file, got {copy}. Use another folder."
            )
    with without_collection():
        return tuple(_report(root, part, decoding, copy) for part, copy in zip(parts, copies, strict=True))


def _report(root: Path, part: str, decoding: bool, copy: Path | None) -> CocoReport:
    path, folder = find_part(root, part)
    content = read_lists(path)
    faults = Faults()
    images = list(mend_listed("images", content["images"], is_image, faults))
    named = [image["file_name"] for image in images]
    if images:
        folder = _image_folder(root, part, images)
    images = _present(images, folder, part, decoding, faults)
    categories = list(mend_listed("categories", content["categories"], is_category, faults))
    mended = {
        **content,
        "images": images,
        "categories": categories,
        "annotations": list(Mender(images, categories, content["annotations"], faults).mended()),
    }
    if copy is not None:
        _write(copy, mended)
    counts = _counts(mended)
    # Parts may share one folder of images.
    is_own = folder in (root / part, root / "images" / part)
    return CocoReport(
        part=part,
        path=path,
        image_folder=folder,
        num_images=len(content["images"]),
        faults=faults,
        mended=mended,
        left_out=_left_out(folder, named) if is_own else LeftOut(),
        repaired=copy,
        **counts,
    )


def _left_out(folder: Path, names: list[str]) -> LeftOut:
    """Count the images of a folder that a file does not name."""
    left_out = LeftOut(num_listed=len(names))
    named = {os.path.normpath(composed(name.replace("\\", "/"))) for name in names}
    for path in list_files(os.fsencode(folder), left_out):
        if is_image_file(path) and composed(os.fsdecode(path)) not in named:
            left_out.add(Reason.UNNAMED, printable(os.path.splitext(path)[1].lower()), "")  # noqa: PTH122
    return left_out


def _image_folder(root: Path, part: str, images: list[dict[str, Any]]) -> Path:
    """The folder in which the first image is, or the next one where that is missing, and so on."""
    default = find_part(root, part)[1]
    names = (image["file_name"] for image in images[:_TRIED])
    found = ((find_images(root, part, name), name) for name in names)
    return next((folder for folder, name in found if locate(folder, name).is_file()), default)


def _present(
    images: list[dict[str, Any]], folder: Path, part: str, decoding: bool, faults: Faults
) -> list[dict[str, Any]]:
    """The images whose files are there, and can be read where that is asked for."""
    present = []
    with counting(f"{'decoding' if decoding else 'listing'} {part}", len(images)) as show:
        for number, image in enumerate(images, 1):
            show(number)
            record = ImageRecord(**{key: image[key] for key in _RECORD}, annotations=())
            if not locate(folder, record.file_name).is_file():
                faults.add("missing image file", printable(record.file_name))
                continue
            try:
                if decoding:
                    read_image(folder, record)
            except DataError as error:
                faults.add("unreadable image file", str(error))
                continue
            present.append(image)
    return present


def _counts(mended: dict[str, Any]) -> dict[str, Any]:
    """What there is of everything."""
    objects = [entry for entry in mended["annotations"] if not entry["iscrowd"]]
    by_category = Counter(entry["category_id"] for entry in objects)
    areas = [entry["area"] for entry in objects]
    names: dict[str, int] = {}
    for category in sorted(mended["categories"], key=lambda one: one["id"]):
        names[category["name"]] = names.get(category["name"], 0) + by_category[category["id"]]
    ranges = {size: limits for size, limits in AREAS.items() if size != "all"}
    return {
        "num_with_objects": len({entry["image_id"] for entry in objects}),
        "num_crowds": len(mended["annotations"]) - len(objects),
        "objects": names,
        "sizes": {size: sum(low <= area < high for area in areas) for size, (low, high) in ranges.items()},
    }


def _write(copy: Path, mended: dict[str, Any]) -> None:
    make_folder(copy.parent, "data check", "Use another folder.")
    replace_file(copy, json.dumps(mended).encode(), "data check", "Use another folder.")
