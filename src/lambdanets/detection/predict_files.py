"""Detection in image files: a folder of COCO's JSON of results and of drawings."""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from lambdanets.data.decode import decode
from lambdanets.data.detection import CocoConfig
from lambdanets.data.sources import read_file
from lambdanets.detection.coco import Category
from lambdanets.detection.drawing import DrawnObject, class_color, draw_objects
from lambdanets.detection.evaluation import write_results
from lambdanets.detection.predict import Detections, DetectorModel, Tiling, detect
from lambdanets.errors import DataError
from lambdanets.files import make_folder, make_inner_folder, replace_file
from lambdanets.terminal import counting
from lambdanets.text import printable

_ADVICE: Final = "Free some space or use another --out."


@dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """What was found in one file.

    Attributes:
        id: Its place among the files, from 1; `image_id` of the results.
        file_name: The path as it was given or found.
        width: Of the upright image, in pixels.
        height: Of the upright image, in pixels.
        drawing: The file with the drawing, in the folder of the results.
        counts: Objects by the name of their class, the most frequent first.
    """

    id: int
    file_name: str
    width: int
    height: int
    drawing: str
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class PredictReport:
    """What was found in all files.

    Attributes:
        results: The file of results.
        images: Each image that could be read.
        unreadable: What is wrong with each of the others.
    """

    results: Path
    images: tuple[PredictedImage, ...]
    unreadable: tuple[str, ...]


def predict_files(
    model: DetectorModel,
    paths: Sequence[Path],
    out: Path,
    *,
    categories: Sequence[Category],
    config: CocoConfig,
    min_score: float = 0.5,
    tiling: Tiling | None = None,
    device: torch.device | str = "cpu",
) -> PredictReport:
    """Find the objects of image files, and write them.

    `out/results.json` is COCO's JSON of results, with the name of the file in each; `out/images.json` the
    images with their ids, the categories, and the files that cannot be read, which are left out;
    `out/drawings` each image with its objects.

    Args:
        model: A detector in evaluation mode.
        paths: The files; the first has the id 1.
        out: The folder, which is made where there is none; files of the same names are replaced.
        categories: The classes, as in the file that the detector was trained with.
        config: The settings of the training: how an image is resized.
        min_score: Least score.
        tiling: Look at overlapping parts too.
        device: Where the model is.

    Raises:
        StorageError: The folder cannot be written.
    """
    images: list[PredictedImage] = []
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    ids = [category.id for category in categories]
    make_folder(out, "detect predict", _ADVICE)
    make_inner_folder(out / "drawings", "detect predict", _ADVICE)
    with counting("images", len(paths)) as show:
        for number, path in enumerate(paths, 1):
            name = printable(os.fspath(path))
            try:
                image = decode(read_file(os.fsencode(path), name), name)
            except DataError as error:
                unreadable.append(str(error))
                show(number)
                continue
            found = detect(model, image, config, min_score=min_score, tiling=tiling, device=device)
            stem = re.sub(r"[^\w-]+", "-", path.stem, flags=re.ASCII).strip("-")[:60]
            drawing = out / "drawings" / f"{number:06d}-{stem}.jpg"
            _draw(image, found, categories, drawing)
            results += ({**one, "file_name": name} for one in found.results(number, ids))
            counts = Counter(categories[label - 1].name for label in found.labels.tolist())
            images.append(
                PredictedImage(
                    id=number,
                    file_name=name,
                    width=image.width,
                    height=image.height,
                    drawing=str(drawing.relative_to(out)),
                    counts=dict(counts.most_common()),
                )
            )
            show(number)
    return _write(out, images, results, unreadable, categories)


def _draw(image: Image.Image, found: Detections, categories: Sequence[Category], path: Path) -> None:
    content = io.BytesIO()
    draw_objects(image, _drawn(found, categories)).save(content, "JPEG", quality=90, subsampling=0)
    replace_file(path, content.getvalue(), "detect predict", _ADVICE)


def _write(
    out: Path,
    images: Sequence[PredictedImage],
    results: Sequence[dict[str, Any]],
    unreadable: Sequence[str],
    categories: Sequence[Category],
) -> PredictReport:
    listed = {
        "images": [
            {key: getattr(image, key) for key in ("id", "file_name", "width", "height", "drawing")}
            for image in images
        ],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
        "unreadable": list(unreadable),
    }
    write_results(out / "results.json", results, "detect predict")
    replace_file(out / "images.json", json.dumps(listed, indent=2).encode(), "detect predict", _ADVICE)
    return PredictReport(results=out / "results.json", images=tuple(images), unreadable=tuple(unreadable))


def _drawn(found: Detections, categories: Sequence[Category]) -> list[DrawnObject]:
    numbers = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return [
        DrawnObject(
            box=(left, top, right, bottom),
            text=f"{categories[label - 1].name} {score:.2f}",
            color=class_color(label - 1),
            mask=None if found.masks is None else found.masks[place],
        )
        for place, ((left, top, right, bottom), label, score) in enumerate(numbers)
    ]
