"""Mask R-CNN and Faster R-CNN of torchvision on any backbone: the page where everything is put together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign, box_area, box_iou

from lambdanets.detection.backbones import PyramidBackbone, drop_classifier
from lambdanets.detection.norms import count_norms, replace_norms
from lambdanets.errors import ArgumentError
from lambdanets.training.config import DetectorConfig

Target = dict[str, Tensor]

_ASPECT_RATIOS: Final = (0.5, 1.0, 2.0)
# Maps of a region that the heads read; the mask is twice as wide as its own.
_BOX_CELLS: Final = 7
_MASK_CELLS: Final = 14
# A region is read from the finest level on which its side has fewer cells: 112 pixels at stride 4, which is
# equation 1 of the paper on feature pyramids. The sizes of anchors have no say, or masks in small scenes
# would be read from a few cells.
_CELLS_OF_REGION: Final = 28
# Objects of an image that are compared with all anchors at once: the differences take 20 times the memory of
# the result.
_OBJECTS_AT_ONCE: Final = 200
# Images are padded to a multiple of it where there is no square that all of them are fitted into.
_PADDED_TO: Final = 32
# Draws the anchors and regions of a loss in evaluation mode.
_LOSS_SEED: Final = 0


class Detector(FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """Faster R-CNN, and with a mask head Mask R-CNN: `build_detector` makes it.

    A call takes a list of images, (3, height, width) between 0 and 1, and in training mode their targets. In
    training mode it gives the losses by name: `loss_classifier`, `loss_box_reg`, `loss_objectness`,
    `loss_rpn_box_reg` and, with masks, `loss_mask`. In evaluation mode it gives for each image `boxes` (n, 4)
    as x1 y1 x2 y2 in pixels of the image that was given, `labels` (n), `scores` (n), and `masks`
    (n, 1, 28, 28): probabilities inside the box, not pasted into the image.

    Paper: §5 (Mask R-CNN); Table 14.
    """

    def set_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Keep less of the backbone for backward, and compute it again.

        Raises:
            ArgumentError: A backbone without that switch.
        """
        switch = getattr(self.backbone.network, "set_gradient_checkpointing", None)
        if switch is None:
            raise ArgumentError(
                "exec.gradient_checkpointing must be off for a backbone without that switch, got"
                f" {type(self.backbone.network).__name__}."
            )
        switch(enabled)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile backbone and pyramid; the sizes of all that follows change from image to image."""
        self.backbone.compile(*arguments, **options)


def build_detector(
    backbone: nn.Module, config: DetectorConfig, num_classes: int, canvas: int | None = None
) -> Detector:
    """Put a detector on a backbone, which becomes a part of it: without its classifier, with other norms.

    Args:
        backbone: A network with `features`, `channels` and `strides`, such as `create_backbone` gives; with
            its weights, if it has any, since frozen norms keep its statistics.
        config: Everything behind the backbone.
        num_classes: Classes of objects, without the background.
        canvas: Side in pixels of the square that all images fit into, to which they are padded. None: a batch
            is padded to its largest image.

    Raises:
        ArgumentError: A backbone without features; another number of anchor sizes than there are levels.
    """
    norm_layer = None if config.norm == "frozen" else nn.BatchNorm2d
    body = PyramidBackbone(drop_classifier(backbone), config.channels, norm_layer)
    strides = _check_anchors(body.levels, config)
    channels = config.channels
    if config.box_convs:
        convs = [channels] * config.box_convs
        size = (channels, _BOX_CELLS, _BOX_CELLS)
        box_head: nn.Module = FastRCNNConvFCHead(size, convs, [config.box_features], norm_layer)
    else:
        box_head = TwoMLPHead(channels * _BOX_CELLS**2, config.box_features)
    box_predictor = FastRCNNPredictor(config.box_features, num_classes + 1)
    if config.class_agnostic:
        box_predictor.bbox_pred = _ForEachClass(nn.Linear(config.box_features, 4), num_classes + 1)
    model = Detector(
        body,
        rpn_anchor_generator=_Anchors(config.anchor_sizes, strides),
        rpn_pre_nms_top_n_train=2 * config.proposals,
        rpn_pre_nms_top_n_test=config.proposals,
        rpn_post_nms_top_n_train=config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        box_roi_pool=_RegionPool(body.levels, _BOX_CELLS),
        box_head=box_head,
        box_predictor=box_predictor,
        box_score_thresh=config.least_score,
        box_detections_per_img=config.most_detections,
        box_batch_size_per_image=config.box_samples,
    )
    model.transform = _Normalize(canvas or _PADDED_TO, model.transform)
    model.rpn.box_similarity = _iou_in_chunks
    if config.masks:
        heads = model.roi_heads
        heads.mask_roi_pool = _RegionPool(body.levels, _MASK_CELLS)
        heads.mask_head = MaskRCNNHeads(channels, [channels] * config.mask_convs, 1, norm_layer)
        heads.mask_predictor = MaskRCNNPredictor(channels, channels, num_classes + 1)
        if config.class_agnostic:
            last = nn.Conv2d(channels, 1, 1)
            heads.mask_predictor.mask_fcn_logits = _ForEachClass(last, num_classes + 1)
    replace_norms(model, config.norm)
    return model


class _ForEachClass(nn.Module):
    """What a layer gives, once for each class: the heads of torchvision choose by the class."""

    def __init__(self, layer: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_classes = num_classes

    def forward(self, features: Float[Tensor, "n d *size"]) -> Float[Tensor, "n repeated *size"]:
        given = self.layer(features)
        return given.repeat(1, self.num_classes, *[1] * (given.ndim - 2))


def _check_anchors(levels: dict[str, int], config: DetectorConfig) -> tuple[int, ...]:
    """The strides of the levels, the pooled one too; raise unless each has its size of anchors."""
    strides = (*levels.values(), 2 * max(levels.values()))
    if len(config.anchor_sizes) != len(strides):
        raise ArgumentError(
            f"build_detector: detector.anchor_sizes must have {len(strides)} numbers, one for each level of"
            f" strides {', '.join(map(str, strides))}, got {len(config.anchor_sizes)}."
        )
    return strides


def detect_and_judge(
    model: Detector, images: Sequence[Float[Tensor, "3 _ _"]], targets: Sequence[Target]
) -> tuple[list[Target], dict[str, Float[Tensor, ""]]]:
    """The detections of images and the losses by name, in evaluation mode.

    Norms take their running statistics, and anchors and regions are drawn by a seed of their own: the losses
    depend on the weights and the batch alone, and torch's random state stays as it was. Backbone and pyramid
    run once for both.

    Args:
        model: A detector in evaluation mode.
        images: Between 0 and 1; of any sizes.
        targets: One for each image: `boxes` (n, 4) in pixels, `labels` (n) from 1, `masks` (n, height, width)
            where the model has masks; n may be 0.
    """
    padded, moved = model.transform(list(images), list(targets))
    features = model.backbone(padded.tensors)
    proposals, _ = model.rpn(padded, features)
    detections, _ = model.roi_heads(features, proposals, padded.image_sizes)
    devices = [images[0].device.index or 0] if images[0].is_cuda else []
    with torch.random.fork_rng(devices), _marked_as_training(model.rpn, model.roi_heads):
        torch.manual_seed(_LOSS_SEED)
        proposals, of_proposals = model.rpn(padded, features, moved)
        _, of_heads = model.roi_heads(features, proposals, padded.image_sizes, moved)
    return detections, {**of_heads, **of_proposals}


@contextmanager
def _marked_as_training(*modules: nn.Module) -> Iterator[None]:
    """Switch modules alone, not what is in them."""
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False


def norm_counts(model: Detector) -> dict[str, dict[str, int]]:
    """The norms of each part of a detector that has any: class name -> how many there are."""
    heads = model.roi_heads
    parts = {
        "backbone": model.backbone.network,
        "pyramid": model.backbone.pyramid,
        "proposals": model.rpn,
        "box head": heads.box_head,
        "mask head": heads.mask_head,
    }
    counts = {name: count_norms(part) for name, part in parts.items() if part is not None}
    return {name: kinds for name, kinds in counts.items() if kinds}


class _Normalize(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Images are normalised and padded; what resizes them stands in the loader, and results stay raw."""

    def __init__(self, padded_to: int, like: GeneralizedRCNNTransform) -> None:
        super().__init__(0, 0, like.image_mean, like.image_std, size_divisible=padded_to)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        return image, target

    def postprocess(
        self, result: list[Target], image_shapes: Sequence[Any], original_image_sizes: Sequence[Any]
    ) -> list[Target]:
        return result


class _Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors at the strides of the backbone; torchvision divides sizes, which odd maps make wrong."""

    def __init__(self, sizes: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__(tuple((size,) for size in sizes), (_ASPECT_RATIOS,) * len(sizes))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        canvas, grids = image_list.tensors.shape[-2:], [tuple(one.shape[-2:]) for one in feature_maps]
        for stride, grid in zip(self.strides, grids, strict=True):
            covered = tuple(-(-side // stride) for side in canvas)
            assert grid == covered, f"a map of stride {stride} must have {covered} positions, got {grid}"
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        anchors = torch.cat(self.grid_anchors(grids, [(stride, stride) for stride in self.strides]))
        return [anchors] * len(image_list.image_sizes)


class _RegionPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """Regions are pooled at the strides of the backbone; torchvision guesses them from the first batch."""

    def __init__(self, levels: dict[str, int], cells: int) -> None:
        super().__init__(list(levels), cells, sampling_ratio=2)
        self.scales = [1 / stride for stride in levels.values()]
        self.map_levels = _LevelOfRegion([*levels.values()][:-1])


class _LevelOfRegion:
    """The level that a region is pooled from, by its size."""

    def __init__(self, strides: Sequence[int]) -> None:
        self.bounds = [_CELLS_OF_REGION * stride for stride in strides]

    def __call__(self, regions: list[Float[Tensor, "_ 4"]]) -> Int[Tensor, " n"]:
        sides = box_area(torch.cat(regions)).sqrt()
        return torch.bucketize(
            sides, torch.tensor(self.bounds, device=sides.device, dtype=sides.dtype), right=True
        )


def _iou_in_chunks(objects: Float[Tensor, "n 4"], anchors: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    return torch.cat([box_iou(some, anchors) for some in objects.split(_OBJECTS_AT_ONCE)])
