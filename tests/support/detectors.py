"""Small detectors, and images with objects for them."""

from typing import Any

import torch
from torch import Tensor

from lambdanets.detection.backbones import create_backbone
from lambdanets.detection.mask_rcnn import Detector, build_detector
from lambdanets.training.config import DetectorConfig

SIDE = 64
RESNET = {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16), "strides": (1, 2, 2, 2), "stem": "deep"}
CONFIG: dict[str, Any] = {
    "channels": 16,
    "anchor_sizes": (8.0, 16.0, 24.0, 32.0, 48.0),
    "box_convs": 1,
    "box_features": 32,
    "mask_convs": 1,
    "proposals": 50,
    "box_samples": 32,
}


def small_detector(
    name: str = "lambda_resnet_small", *, canvas: int | None = SIDE, classes: int = 3, **settings: Any
) -> Detector:
    """A detector for images of 64 pixels; `settings` are those of `DetectorConfig`."""
    is_resnet = name == "lambda_resnet_small"
    # Lambda layers with an own norm of queries and values, and squeeze-and-excitation, are among the stages.
    options = {**RESNET, "layers": "CCCL", "lambda_blocks": {}, "scope_size": 5} if is_resnet else {}
    backbone = create_backbone(name, **options)
    return build_detector(backbone, DetectorConfig(**{**CONFIG, **settings}), classes, canvas)


def scene(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (SIDE, SIDE)) -> tuple[Tensor, Any]:
    """An image with a bright rectangle for each box x1 y1 x2 y2, labelled 1, 2, …, and its target."""
    image, masks = 0.1 * torch.rand(3, *size), torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        masks[number, y1:y2, x1:x2] = 1
        image[number % 3, y1:y2, x1:x2] = 1
    target = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": masks,
    }
    return image, target


def batch(*scenes: tuple[Tensor, Any]) -> tuple[list[Tensor], list[Any]]:
    images, targets = zip(*scenes, strict=True)
    return list(images), list(targets)
