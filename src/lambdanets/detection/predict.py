"""Objects found in images of any kind and size: whole or in tiles, in pixels of the original."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from lambdanets.data.detection import CocoConfig
from lambdanets.detection.data import fit_image
from lambdanets.detection.rle import Rle, sample_mask
from lambdanets.ranges import Range, Rate, check_settings

# Two detections of one class that overlap by more are one object, found in two tiles.
_SAME_OBJECT: Final = 0.5

# A box that ends this near to the border of a tile, in pixels of the original and as a fraction of the tile,
# is cut there.
_CUT_PIXELS, _CUT_FRACTION = 2.0, 0.01

# A cut detection is a part of a whole one of its class that covers so much of it.
_PART: Final = 0.5

# Tiles that a detector looks at together.
_TOGETHER: Final = 4


@runtime_checkable
class DetectorModel(Protocol):
    """A detector in evaluation mode.

    It takes images of values from 0 to 1, and gives for each `boxes` (left, top, right, bottom in its
    pixels), `labels` from 1, `scores`, and `masks` (n, 1, side, side): the probabilities in each box.
    """

    def __call__(self, images: list[Float[Tensor, "3 _ _"]]) -> list[dict[str, Tensor]]:
        """Detect the objects of each image."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a large image is cut.

    Attributes:
        side: Side of a tile in pixels of the original.
        overlap: Fraction of it that two neighbours share: objects up to that size are whole in one of them.
    """

    side: Annotated[int, Range(1, 8192)] = 1024
    overlap: Rate = 0.2

    def __post_init__(self) -> None:
        check_settings(self)

    def windows(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """Left, top, right and bottom of the tiles, which cover the image with at least the overlap."""
        return [
            (left, top, min(left + self.side, width), min(top + self.side, height))
            for top, left in product(self._starts(height), self._starts(width))
        ]

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        # Moved apart evenly, so that no tile reaches beyond the image.
        step = max(1.0, self.side * (1 - self.overlap))
        num_steps = -int(-(length - self.side) // step)
        return [round(place * (length - self.side) / num_steps) for place in range(num_steps + 1)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The objects of an image, those with the highest scores first.

    Attributes:
        boxes: Left, top, right and bottom in pixels of the upright original.
        labels: Class of each, counted from 1.
        scores: Between 0 and 1.
        masks: Run lengths of the size of the original; None of a detector without masks.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int[Tensor, " n"]
    scores: Float[Tensor, " n"]
    masks: tuple[Rle, ...] | None

    def __len__(self) -> int:
        return len(self.scores)

    def results(self, image_id: int, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The objects as COCO's JSON of results has them.

        Args:
            image_id: The id of the image.
            category_ids: The id of each category in the file that the detector was trained with.
        """
        numbers = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        for place, ((left, top, right, bottom), label, score) in enumerate(numbers):
            mask = {} if self.masks is None else {"segmentation": self.masks[place]}
            yield {
                "image_id": image_id,
                "category_id": category_ids[label - 1],
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
                **mask,
            }


def detect(
    model: DetectorModel,
    image: Image.Image,
    config: CocoConfig,
    *,
    min_score: float = 0.5,
    tiling: Tiling | None = None,
    device: torch.device | str = "cpu",
) -> Detections:
    """Find the objects of an image.

    With tiles, the image is looked at as a whole too, for objects larger than the overlap. What a border
    inside of the image cuts gives way to a whole object of its class that covers half of it, and stays where
    there is none; two of one class that overlap by an IoU above 0.5 become the one of the higher score.

    Args:
        model: A detector in evaluation mode.
        image: An upright image in red, green and blue.
        config: The settings of the training: how an image is resized.
        min_score: Least score.
        tiling: Look at overlapping parts too, for small objects of large images.
        device: Where the model is.
    """
    whole = (0, 0, *image.size)
    windows = [whole]
    if tiling is not None:
        windows += [window for window in tiling.windows(*image.size) if window != whole]
    found: list[dict[str, Tensor]] = []
    for start in range(0, len(windows), _TOGETHER):
        found += _look(model, image, windows[start : start + _TOGETHER], config, device)
    merged = {name: torch.cat([one[name] for one in found]) for name in found[0]}
    merged = _chosen(merged, merged["scores"] >= min_score)
    if len(windows) > 1:
        merged = _merge(merged)
    order = merged["scores"].argsort(descending=True, stable=True)
    merged = _chosen(merged, order)
    masks = None
    if "masks" in merged:
        # One at a time: a mask of the whole image is never beside another.
        size = (image.height, image.width)
        masks = tuple(
            sample_mask(mask[0], box, size, (down, across))
            for mask, box, (down, across) in zip(
                merged["masks"], merged["boxes"], merged["shift"].tolist(), strict=True
            )
        )
    return Detections(boxes=merged["boxes"], labels=merged["labels"], scores=merged["scores"], masks=masks)


def _look(
    model: DetectorModel,
    image: Image.Image,
    windows: Sequence[tuple[int, int, int, int]],
    config: CocoConfig,
    device: torch.device | str,
) -> list[dict[str, Tensor]]:
    """Detect in parts of an image; boxes in pixels of the image, and whether a border cuts them."""
    fitted = [fit_image(image.crop(window), config) for window in windows]
    with torch.inference_mode():
        outputs = model([pixels.to(device).float() / 255 for pixels, _ in fitted])
    found = []
    for window, (_, scale), output in zip(windows, fitted, outputs, strict=True):
        left, top, right, bottom = window
        output = {name: output[name].detach().cpu() for name in _NAMES if name in output}
        boxes = output["boxes"].double() / torch.tensor(scale, dtype=torch.float64)[[1, 0, 1, 0]]
        sides = boxes.new_tensor([right - left, bottom - top, right - left, bottom - top])
        boxes = boxes.clamp(min=0).minimum(sides) + boxes.new_tensor([left, top, left, top])
        has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        cut = _is_cut(boxes, window, image.size)
        # Half a pixel of the network's image, by which targets of masks are moved.
        shift = (0.5 / torch.tensor(scale, dtype=torch.float64)).expand(len(boxes), 2)
        found.append(_chosen({**output, "boxes": boxes, "cut": cut, "shift": shift}, has_area))
    return found


_NAMES: Final = ("boxes", "labels", "scores", "masks")


def _is_cut(
    boxes: Float[Tensor, "n 4"], window: tuple[int, int, int, int], size: tuple[int, int]
) -> Bool[Tensor, " n"]:
    """Whether a border of the window that lies inside of the image cuts the box."""
    width, height = size
    borders = boxes.new_tensor(window)
    inside = torch.tensor([window[0] > 0, window[1] > 0, window[2] < width, window[3] < height])
    margin = max(_CUT_PIXELS, _CUT_FRACTION * max(window[2] - window[0], window[3] - window[1]))
    return (((boxes - borders).abs() <= margin) & inside).any(dim=1)


def _merge(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out parts of whole objects, and objects that two tiles have found."""
    from torchvision.ops import batched_nms

    kept = _chosen(found, ~_is_part(found["boxes"], found["labels"], found["cut"]))
    chosen = batched_nms(kept["boxes"], kept["scores"].double(), kept["labels"], _SAME_OBJECT)
    return _chosen(kept, chosen)


def _is_part(
    boxes: Float[Tensor, "n 4"], labels: Int[Tensor, " n"], cut: Bool[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Whether a box is cut, and one of its class that is not covers enough of it."""
    is_part = torch.zeros_like(cut)
    whole = boxes[~cut]
    # One at a time: thousands of tiles find hundreds of thousands.
    for place in cut.nonzero()[:, 0].tolist():
        box = boxes[place]
        first, last = torch.maximum(box[:2], whole[:, :2]), torch.minimum(box[2:], whole[:, 2:])
        common = (last - first).clamp(min=0).prod(dim=1)
        enough = common > _PART * (box[2:] - box[:2]).prod()
        is_part[place] = (enough & (labels[~cut] == labels[place])).any()
    return is_part


def _chosen(found: Mapping[str, Tensor], indices: Tensor) -> dict[str, Tensor]:
    return {name: values[indices] for name, values in found.items()}
