"""Files of objects and detections of them, at random: crowds, empty images, ids with holes, ties."""

from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from lambdanets.detection.coco import Annotation, Category, CocoFile, ImageRecord

CATEGORIES = (Category(id=1, name="cat"), Category(id=7, name="dog"), Category(id=90, name="unseen"))


def file_of(*images, categories=CATEGORIES):
    return CocoFile(
        path=Path("objects.json"), image_folder=Path("images"), categories=categories, images=tuple(images)
    )


def image_of(number, *annotations, width=160, height=120):
    return ImageRecord(
        id=number, file_name=f"{number}.png", width=width, height=height, annotations=annotations
    )


def object_of(number, box, category=1, *, crowd=False, area=None):
    """An object that is an octagon in its box; a crowd is given as run lengths, as in COCO's files."""
    x, y, width, height = box
    points = octagon(x, y, width, height)
    polygons = [points]
    if crowd:
        polygons = coco_mask.merge(coco_mask.frPyObjects(polygons, 120, 160))
        polygons["counts"] = polygons["counts"].decode()
    return Annotation(
        id=number,
        category_id=category,
        box=tuple(map(float, box)),
        segmentation=polygons,
        area=float(area if area is not None else width * height * 0.8),
        is_crowd=crowd,
    )


def octagon(x, y, width, height):
    corners = [(0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)]
    return [float(number) for u, v in corners for number in (x + u * width, y + v * height)]


def result_of(image, box, score, category=1, *, points=None):
    mask = coco_mask.frPyObjects([points or octagon(*box)], image.height, image.width)[0]
    return {
        "image_id": image.id,
        "category_id": category,
        "bbox": [*map(float, box)],
        "score": float(score),
        "segmentation": {"size": [image.height, image.width], "counts": mask["counts"].decode()},
    }


def random_file(seed=0, num_images=12):
    """Images with up to 7 objects, every fourth without; ids that are neither dense nor in order."""
    draw = np.random.default_rng(seed)
    images, number = [], 0
    for place in range(num_images):
        objects = []
        for _ in range(0 if place % 4 == 3 else draw.integers(1, 8)):
            width, height = draw.choice([6, 20, 50, 110, 150]), draw.choice([8, 25, 40, 80, 115])
            box = (draw.uniform(0, 160 - width), draw.uniform(0, 120 - height), width, height)
            objects.append(object_of(number, box, int(draw.choice([1, 7])), crowd=bool(draw.random() < 0.15)))
            number += 1
        images.append(image_of(1000 - 7 * place, *objects))
    return file_of(*images)


def random_results(file, seed=0):
    """Most objects found, some twice or as another class, beside false ones; scores with ties."""
    draw = np.random.default_rng((seed, 1))
    results = []
    for image in file.images:
        boxes = [(one.box, one.category_id) for one in image.annotations for _ in range(draw.integers(0, 3))]
        boxes += [((5, 5, 30, 20), 7)] * int(draw.integers(0, 3))
        for (x, y, width, height), category in boxes:
            x, y = np.clip([x + draw.normal(0, 2), y + draw.normal(0, 2)], 0, [150, 110])
            width, height = min(width * draw.uniform(0.8, 1.2), 160 - x), min(height, 120 - y)
            chosen = category if draw.random() < 0.8 else int(draw.choice([1, 7, 90]))
            results.append(result_of(image, (x, y, width, height), round(float(draw.random()), 1), chosen))
    return sorted(results, key=lambda result: result["image_id"])


def perfect_results(file):
    """Every object, with its own mask."""
    results = []
    for image in file.images:
        for one in image.annotations:
            if not one.is_crowd:
                results.append(result_of(image, one.box, 0.9, one.category_id, points=one.segmentation[0]))
    return results


def detections_of(boxes, labels, scores, *, seed=0):
    """What a detector returns for an image, with masks at random."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "masks": torch.rand(len(labels), 1, 28, 28, generator=draw),
    }


def target_of(place, scale=(1.0, 1.0)):
    return {"image_id": torch.tensor(place), "scale": torch.tensor(scale, dtype=torch.float64)}
