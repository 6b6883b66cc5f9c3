"""Tiny data sets with objects, as folders of COCO's JSON and image files."""

import json
from pathlib import Path

from support.images import encoded, photo

# Ids with holes, as COCO's own.
CATEGORIES = [{"id": 3, "name": "disk"}, {"id": 90, "name": "block"}]


def polygon_box(polygon):
    """The box x, y, width, height around a polygon x, y, x, y, …"""
    across, down = polygon[::2], polygon[1::2]
    left, top = min(across), min(down)
    return [left, top, max(across) - left, max(down) - top]


def coco_object(number, image, polygon, category=3, **more):
    """The entry of an object that is a polygon; `more` replaces or adds keys."""
    box = polygon_box(polygon)
    entry = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "segmentation": [polygon],
        "area": box[2] * box[3],
        "iscrowd": 0,
    }
    return entry | more


def coco_image(number, width=40, height=30, **more):
    """The entry of an image, a PNG file."""
    return {"id": number, "file_name": f"{number:04}.png", "width": width, "height": height} | more


def rectangle(left, top, width, height):
    """A rectangle as a polygon."""
    right, bottom = left + width, top + height
    return [left, top, right, top, right, bottom, left, bottom]


def coco_content(num_images=4, size=(40, 30), every=1, first_id=1):
    """A sound file: one disk and one block in every so many images, none in the others."""
    images = [coco_image(first_id + number, *size) for number in range(num_images)]
    annotations = []
    for place, image in enumerate(images):
        if place % every == 0:
            left = 2.0 + place % 5
            shapes = (rectangle(left, 3.0, 12.0, 9.0), rectangle(left + 15, 12.0, 14.0, 12.0))
            for category, polygon in zip((3, 90), shapes, strict=True):
                annotations.append(coco_object(len(annotations) + 1, image["id"], polygon, category))
    return {"images": images, "annotations": annotations, "categories": [dict(one) for one in CATEGORIES]}


def write_coco(root, part, content, *, files=True):
    """Write `annotations/instances_{part}.json` and the image files `{part}/…`; the path of the JSON file."""
    root = Path(root)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    path = root / "annotations" / f"instances_{part}.json"
    path.write_text(json.dumps(content))
    folder = root / part
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(content.get("images", []) if files else []):
        file = folder / image["file_name"]
        file.write_bytes(encoded(photo(image["width"], image["height"], seed=number), "PNG"))
    return path


def write_data_set(root, num_train=4, num_test=2, **options):
    """Write the parts `train` and `val` of a sound data set; the options are those of `coco_content`."""
    write_coco(root, "train", coco_content(num_train, **options))
    write_coco(root, "val", coco_content(num_test, first_id=1001, **options))
    return Path(root)
