"""The page of a detector's examples: best, worst, missed and false detections, in one file of HTML."""

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lambdanets.detection.analysis import Error, Judged, judge
from lambdanets.detection.coco import Annotation, CocoFile, ImageRecord
from lambdanets.detection.data import read_image
from lambdanets.detection.drawing import (
    Color,
    Corners,
    DrawnObject,
    class_color,
    draw_objects,
    tint_masks,
)
from lambdanets.detection.matching import Result
from lambdanets.errors import DataError
from lambdanets.files import make_folder, replace_file
from lambdanets.text import printable, shown_value

# Crops of a section, and of one class among the best.
_MOST: Final = 18
_MOST_OF_A_CLASS: Final = 3
_MOST_IMAGES: Final = 8

# Longer sides of a crop and of an image on the page, in pixels.
_CROP_SIDE, _IMAGE_SIDE = 180, 380

# What is shown around an object: this fraction of its longer side, and at least so many pixels.
_MARGIN, _MIN_MARGIN = 0.4, 8.0

_TRUTH: Final[Color] = (255, 255, 255)

_KINDS: Final[Mapping[Error, str]] = {
    "class": "another class",
    "place": "not the right place",
    "both": "neither class nor place",
    "double": "an object found twice",
    "background": "nothing is there",
}


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """An image on the page.

    Attributes:
        url: The data URL of a JPEG file; None where the image cannot be read.
        size: Its width and height.
        title: Such as `cat 0.98`.
        details: What is said below.
    """

    url: str | None
    size: tuple[int, int]
    title: str
    details: str


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A heading, what is shown, and the figures."""

    name: str
    heading: str
    text: str
    figures: list[_Figure]


def write_page(
    path: Path,
    file: CocoFile,
    results: Sequence[Result],
    *,
    title: str,
    scores: Mapping[str, float | None] | None = None,
    min_score: float = 0.5,
) -> None:
    """Write the page; it needs no other file and no network, and is below 2 MB.

    Args:
        path: The file; its folder is made where there is none.
        file: The objects, with their images.
        results: The detections of all its images, with masks or without.
        title: The heading, such as the name of the run.
        scores: Scores to show by their names, as fractions.
        min_score: Detections below it are left out, so objects that only they find count as missed.

    Raises:
        DataError: A result does not fit the file.
        StorageError: The page cannot be written.
    """
    page = _Page(file, [one for one in results if one["score"] >= min_score])
    environment = Environment(
        loader=PackageLoader("lambdanets.detection", ""),
        autoescape=True,
        finalize=shown_value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("detections.html").render(
        title=title,
        min_score=min_score,
        scores=scores or {},
        counts=page.counts(),
        sections=[page.best(), page.worst(), page.missed(), page.false()],
    )
    make_folder(path.parent, "detect eval", "Use another --out.")
    replace_file(path, text.encode(), "detect eval", "Use another --out.")


class _Page:
    """The detections of a file, judged, and the figures of them."""

    def __init__(self, file: CocoFile, results: Sequence[Result]) -> None:
        self._file, self._results = file, results
        self._judgement = judge(file, results)
        self._objects = {
            number: (image, one)
            for number, (image, one) in enumerate(
                ((image, one) for image in file.images for one in image.annotations), 1
            )
        }
        self._images = {image.id: image for image in file.images}
        self._names = {category.id: category.name for category in file.categories}
        self._colors = {one.id: class_color(place) for place, one in enumerate(file.categories)}
        self._pixels: Callable[[int], Image.Image] = lru_cache(2)(self._read)

    def counts(self) -> dict[str, int]:
        """The numbers of the table at the top."""
        errors = Counter(one.error for one in self._judgement.detections)
        found = len({one.target for one in self._judgement.detections if one.error is None})
        return {
            "images": len(self._file.images),
            "objects": len(self._judgement.objects),
            "objects found": found,
            "objects found wrongly": len(self._judgement.objects) - found - len(self._judgement.missed),
            "objects missed": len(self._judgement.missed),
            "detections": len(self._judgement.detections),
            **{f"false: {words}": errors[kind] for kind, words in _KINDS.items()},
        }

    def best(self) -> _Section:
        """The right detections of the highest scores, a few of each class."""
        of_class: Counter[int] = Counter()
        chosen: list[Judged] = []
        for one in self._judgement.detections:
            if one.error is None and of_class[one.category] < _MOST_OF_A_CLASS and len(chosen) < _MOST:
                of_class[one.category] += 1
                chosen.append(one)
        return _Section(
            name="best",
            heading="Best",
            text="The right detections with the highest scores, at most"
            f" {_MOST_OF_A_CLASS} of each class, with their masks.",
            figures=[self._crop(one, "") for one in chosen],
        )

    def worst(self) -> _Section:
        """The images with the most missed objects and false detections for what is there."""
        wrong: dict[int, float] = {}
        details: dict[int, Counter[str]] = defaultdict(Counter)
        for one in self._judgement.detections:
            if one.error is not None:
                details[self._results[one.number - 1]["image_id"]]["false"] += 1
        for number in self._judgement.missed:
            details[self._objects[number][0].id]["missed"] += 1
        for image, counts in details.items():
            objects = sum(not one.is_crowd for one in self._images[image].annotations)
            wrong[image] = counts.total() / (objects + counts["false"])
        order = sorted(details, key=lambda image: (-wrong[image], -details[image].total(), image))
        return _Section(
            name="worst",
            heading="Worst images",
            text="Most missed objects and false detections for what there is. White: what is there.",
            figures=[self._whole(self._images[image], details[image]) for image in order[:_MOST_IMAGES]],
        )

    def missed(self) -> _Section:
        """The largest objects that no detection has."""
        chosen = sorted(self._judgement.missed, key=lambda number: (-self._objects[number][1].area, number))
        figures = []
        for number in chosen[:_MOST]:
            image, one = self._objects[number]
            truth = self._truth(one)
            figure = self._figure(image, truth.box, [truth], title=self._names[one.category_id])
            figures.append(figure)
        return _Section(
            name="missed",
            heading="Missed",
            text="The largest objects that no detection has.",
            figures=figures,
        )

    def false(self) -> _Section:
        """The wrong detections of the highest scores."""
        chosen = [one for one in self._judgement.detections if one.error is not None][:_MOST]
        return _Section(
            name="false",
            heading="False",
            text="The wrong detections with the highest scores. White: the object that is there, if any.",
            figures=[self._crop(one, _KINDS[one.error or "background"]) for one in chosen],
        )

    def _crop(self, one: Judged, details: str) -> _Figure:
        result = self._results[one.number - 1]
        shown = [self._detection(result)]
        if one.error is not None and one.target is not None:
            truth = self._objects[one.target][1]
            shown.append(self._truth(truth))
            details = f"{details}: {self._names[truth.category_id]}" if one.error == "class" else details
        title = f"{self._names[result['category_id']]} {result['score']:.2f}"
        image = self._images[result["image_id"]]
        return self._figure(image, shown[0].box, shown, title=title, details=details)

    def _whole(self, image: ImageRecord, counts: Mapping[str, int]) -> _Figure:
        found = [self._detection(one, "name") for one in self._results if one["image_id"] == image.id]
        shown = [*found, *(self._truth(one) for one in image.annotations if not one.is_crowd)]
        details = ", ".join(f"{counts[kind]} {kind}" for kind in ("missed", "false") if counts[kind])
        box = (0.0, 0.0, float(image.width), float(image.height))
        return self._figure(image, box, shown, title=details, side=_IMAGE_SIDE, margin=False)

    def _detection(self, result: Result, text: str = "") -> DrawnObject:
        left, top, width, height = result["bbox"]
        category = result["category_id"]
        return DrawnObject(
            box=(left, top, left + width, top + height),
            text=f"{self._names[category]} {result['score']:.2f}" if text else "",
            color=self._colors[category],
            mask=result.get("segmentation"),
        )

    def _truth(self, one: Annotation) -> DrawnObject:
        left, top, width, height = one.box
        return DrawnObject(box=(left, top, left + width, top + height), text="", color=_TRUTH)

    def _figure(
        self,
        image: ImageRecord,
        box: Corners,
        shown: Sequence[DrawnObject],
        *,
        title: str,
        details: str = "",
        side: int = _CROP_SIDE,
        margin: bool = True,
    ) -> _Figure:
        name = printable(image.file_name)
        size = f"{round(box[2] - box[0])}×{round(box[3] - box[1])} px"
        details = " · ".join(part for part in (details, size, name) if part)
        try:
            pixels = self._pixels(image.id)
        except DataError:
            return _Figure(url=None, size=(side, side), title=title, details=details)
        part = _cut(pixels, box if not margin else _around(box, pixels.size), shown, side)
        return _Figure(url=_jpeg_url(part), size=part.size, title=title, details=details)

    def _read(self, image_id: int) -> Image.Image:
        return read_image(self._file.image_folder, self._images[image_id])


def _around(box: Corners, size: tuple[int, int]) -> Corners:
    """A box with something around it, inside of the image."""
    left, top, right, bottom = box
    margin = max(_MARGIN * max(right - left, bottom - top), _MIN_MARGIN)
    return (
        max(0.0, left - margin),
        max(0.0, top - margin),
        min(float(size[0]), right + margin),
        min(float(size[1]), bottom + margin),
    )


def _cut(image: Image.Image, box: Corners, shown: Sequence[DrawnObject], side: int) -> Image.Image:
    """Cut a part out of an image, tinted by masks, and draw boxes at the size of the page."""
    left, top, right, bottom = round(box[0]), round(box[1]), round(box[2]), round(box[3])
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    part = tint_masks(image, shown).crop((left, top, right, bottom))
    factor = side / max(part.size)
    size = (max(1, round(part.width * factor)), max(1, round(part.height * factor)))
    kind = Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC
    boxes = [
        DrawnObject(
            box=(
                (one.box[0] - left) * factor,
                (one.box[1] - top) * factor,
                (one.box[2] - left) * factor,
                (one.box[3] - top) * factor,
            ),
            text=one.text,
            color=one.color,
        )
        for one in shown
    ]
    return draw_objects(part.resize(size, kind), boxes, min_side=1)


def _jpeg_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
