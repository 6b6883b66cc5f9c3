"""A detector without weights: finds rectangles of pure color on white, as a network would report them."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects, label

from lambdanets.detection.coco import Category

# Ids with a hole, as COCO has them.
CATEGORIES = (Category(id=3, name="red"), Category(id=7, name="blue & <b>"))
COLORS = ((255, 0, 0), (0, 0, 255))


def painted(width, height, *objects):
    """White with rectangles: (label from 1, left, top, right, bottom)."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for kind, left, top, right, bottom in objects:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=COLORS[kind - 1])
    return image


class ColoredDetector:
    """Called as a detector in evaluation mode; `sizes` are those of the images it has seen."""

    def __init__(self, masks=True):
        self.masks, self.sizes = masks, []

    def __call__(self, images):
        assert all(image.min() >= 0 and image.max() <= 1 for image in images)
        self.sizes += [tuple(image.shape[1:]) for image in images]
        return [self._detect(image.numpy()) for image in images]

    def _detect(self, pixels):
        boxes, labels, scores = [], [], []
        for kind, color in enumerate(COLORS, 1):
            distance = np.abs(pixels - np.array(color)[:, None, None] / 255).max(axis=0)
            for rows, columns in find_objects(label(distance < 0.5)[0]):
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(kind)
                # The larger, the surer: between 0.5 and 1.
                area = (rows.stop - rows.start) * (columns.stop - columns.start)
                scores.append(1 - 0.5 / (1 + area / 100))
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float32),
        }
        return found | ({"masks": torch.ones(len(labels), 1, 28, 28)} if self.masks else {})
