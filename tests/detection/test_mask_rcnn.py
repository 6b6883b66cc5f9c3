"""Detectors on every kind of backbone: levels and anchors, losses in both modes, raw results, odd inputs."""

import copy
import math
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops.poolers import LevelMapper

from lambdanets.detection import mask_rcnn
from lambdanets.detection.backbones import create_backbone
from lambdanets.detection.mask_rcnn import Detector, build_detector, detect_and_judge
from lambdanets.errors import ArgumentError
from lambdanets.training.config import DetectorConfig
from support.compare import assert_equal
from support.detectors import CONFIG, RESNET, SIDE, batch, scene, small_detector

OBJECTS = ((4, 6, 30, 26), (40, 34, 52, 60))
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss_mask"}

BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet": ("resnet50", RESNET),
    "ResNet with squeeze-and-excitation": (
        "resnet50_se",
        {**RESNET, "squeeze_excitation": ("c2", "c3", "c4", "c5")},
    ),
    "lambda layers at the end": ("lambda_resnet_small", {**RESNET, "lambda_blocks": {}}),
    "lambda layers everywhere": ("resnet50_llll", {**RESNET, "scope_size": 5}),
    "one table for a stage": ("resnet50_ccll", {**RESNET, "scope_size": 5, "share_position": "stage"}),
    "global scope": ("resnet50_cccl", {**RESNET, "scope_size": None, "image_size": SIDE}),
    "attention": ("resnet50_axial_attention", {**RESNET, "layers": "CCAA"}),
    "MobileNetV2": ("mobilenetv2", {}),
    "MobileNetV2 with lambda layers": ("lambda_mobilenetv2", {}),
    "timm": ("timm:resnet10t", {}),
    "timm, channels last": ("timm:swin_tiny_patch4_window7_224", {"img_size": SIDE, "embed_dim": 24}),
}
each_backbone = pytest.mark.parametrize(("name", "options"), BACKBONES.values(), ids=BACKBONES)


def losses(model: Detector, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> dict:
    """The losses by name, in the mode that the model is in."""
    if model.training:
        return model(images, targets)
    return detect_and_judge(model, images, targets)[1]


def total(model: Detector, images: list[Any], targets: list[Any]) -> torch.Tensor:
    return torch.stack([*losses(model, images, targets).values()]).sum()


@each_backbone
def test_every_parameter_of_every_backbone_learns(name: str, options: dict[str, Any]) -> None:
    """DDP would wait for ever for the gradient of one that takes no part."""
    backbone = create_backbone(name, **options)
    model = build_detector(backbone, DetectorConfig(**CONFIG), 3, SIDE)
    images, targets = batch(scene(*OBJECTS), scene((10, 10, 50, 50)))
    found = model(images, targets)
    assert found.keys() == LOSSES
    sum(found.values()).backward()
    assert not [name for name, one in model.named_parameters() if one.grad is None]
    for detections in model.eval()(images):
        assert detections["masks"].shape == (len(detections["boxes"]), 1, 28, 28)


@each_backbone
@pytest.mark.parametrize("size", [(64, 64), (1, 40), (75, 50), (33, 97)], ids=str)
def test_strides_and_maps_agree(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    if name == "timm:swin_tiny_patch4_window7_224" and size != (64, 64):
        pytest.skip("takes images of one size")
    model = build_detector(create_backbone(name, **options), DetectorConfig(**CONFIG), 3).eval()
    images, _ = model.transform([torch.rand(3, *size)])
    canvas = images.tensors.shape[2:]
    assert all(side % 32 == 0 and 0 <= side - given < 32 for side, given in zip(canvas, size, strict=True))
    maps = model.backbone(images.tensors)
    assert [*maps] == [*model.backbone.levels, "pool"]
    for one, stride in zip(maps.values(), (4, 8, 16, 32, 64), strict=True):
        assert one.shape == (1, 16, *(math.ceil(side / stride) for side in canvas))


def test_anchors_stand_at_the_strides() -> None:
    """A canvas of 100 pixels has 4 cells at stride 32: torchvision alone would put them 25 pixels apart."""
    model = small_detector(canvas=100)
    images, _ = model.transform([torch.rand(3, 70, 100), torch.rand(3, 20, 9)])
    assert images.tensors.shape == (2, 3, 100, 100)
    anchors, same = model.rpn.anchor_generator(images, list(model.backbone(images.tensors).values()))
    assert_equal(anchors, same)
    expected = []
    for size, stride in zip(CONFIG["anchor_sizes"], (4, 8, 16, 32, 64), strict=True):
        for y in range(0, 100, stride):
            for x in range(0, 100, stride):
                for ratio in (0.5, 1.0, 2.0):
                    # Halves are rounded to whole pixels.
                    half_w, half_h = round(size / ratio**0.5 / 2), round(size * ratio**0.5 / 2)
                    expected.append([x - half_w, y - half_h, x + half_w, y + half_h])
    assert_equal(anchors, torch.tensor(expected, dtype=torch.float32))


def test_maps_that_do_not_cover_the_image_are_refused() -> None:
    model = small_detector()
    images, _ = model.transform([torch.rand(3, SIDE, SIDE)])
    maps = [*model.backbone(images.tensors).values()]
    maps[1] = maps[1][..., 1:]
    with pytest.raises(AssertionError, match=r"a map of stride 8 must have \(8, 8\) positions, got \(8, 7\)"):
        model.rpn.anchor_generator(images, maps)


def test_regions_are_pooled_from_the_level_of_equation_1() -> None:
    """As torchvision does it, whatever the anchors; a first batch of small images changes nothing."""
    sides = torch.tensor([1.0, 50, 111.9, 112, 200, 223.9, 224, 300, 447.9, 448, 1000])
    regions = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    model = small_detector(canvas=None)
    pool = model.roi_heads.box_roi_pool
    assert_equal(pool.map_levels([regions]), LevelMapper(2, 5)([regions]))
    model.eval()([torch.rand(3, 3, 9)])
    assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_the_wrong_number_of_anchor_sizes_is_named() -> None:
    message = (
        r"build_detector: detector\.anchor_sizes must have 5 numbers, one for each level of strides"
        r" 4, 8, 16, 32, 64, got 3\."
    )
    with pytest.raises(ArgumentError, match=message):
        small_detector(anchor_sizes=(8.0, 16.0, 32.0))


def test_a_backbone_without_maps_is_named() -> None:
    message = (
        r"build_detector: backbone must have features, channels and strides, got a Linear\."
        r" create_backbone makes such ones\."
    )
    with pytest.raises(ArgumentError, match=message):
        build_detector(nn.Linear(3, 4), DetectorConfig(), 3)


def test_stages_of_one_stride_make_one_level() -> None:
    options = {**RESNET, "strides": (1, 2, 1, 2), "scope_size": 5}
    model = build_detector(
        create_backbone("resnet50", **options),
        DetectorConfig(**CONFIG | {"anchor_sizes": (8.0, 16.0, 32.0, 48.0)}),
        3,
    )
    assert model.backbone.levels == {"c2": 4, "c4": 8, "c5": 16}
    assert model(*batch(scene(*OBJECTS))).keys() == LOSSES


@pytest.mark.slow
def test_the_settings_are_torchvisions() -> None:
    """With the usual settings the state dict is torchvision's, but for the backbone."""
    ours = build_detector(create_backbone("resnet50"), DetectorConfig(norm="frozen", weights="any"), 90)
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    heads = ("rpn.", "roi_heads.mask")
    shapes = [
        {name: one.shape for name, one in model.state_dict().items() if name.startswith(heads)}
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    v2 = torchvision.models.detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    box = build_detector(create_backbone("resnet50"), DetectorConfig(), 90).roi_heads.box_head
    # The second version has convolutions with batch norms in the box head, as ours by default.
    assert {name: one.shape for name, one in box.state_dict().items()} == {
        name: one.shape for name, one in v2.roi_heads.box_head.state_dict().items()
    }


def test_every_setting_arrives() -> None:
    model = small_detector(
        proposals=30,
        box_samples=20,
        most_detections=7,
        least_score=0.2,
        box_convs=2,
        box_features=24,
        mask_convs=3,
    )
    heads = model.roi_heads
    assert (model.rpn._pre_nms_top_n, model.rpn._post_nms_top_n) == (
        {"training": 60, "testing": 30},
        {"training": 30, "testing": 30},
    )
    assert heads.fg_bg_sampler.batch_size_per_image == 20
    assert (heads.detections_per_img, heads.score_thresh) == (7, 0.2)
    convolutions = [one for one in heads.box_head.modules() if isinstance(one, nn.Conv2d)]
    assert len(convolutions) == 2
    assert heads.box_predictor.cls_score.weight.shape == (4, 24)
    assert len(heads.mask_head) == 3
    assert model.backbone.out_channels == 16


def test_without_convolutions_the_box_head_has_two_layers() -> None:
    head = small_detector(box_convs=0).roi_heads.box_head
    assert [one.weight.shape for one in head.children()] == [(32, 16 * 49), (32, 32)]


def test_faster_rcnn_has_no_masks() -> None:
    model = small_detector(masks=False)
    images, targets = batch(scene(*OBJECTS))
    for target in targets:
        del target["masks"]
    assert model(images, targets).keys() == LOSSES - {"loss_mask"}
    (detections,) = model.eval()(images)
    assert detections.keys() == {"boxes", "labels", "scores"}


def test_results_are_raw() -> None:
    """Boxes in pixels of the given image, inside it, and masks as the head gives them."""
    model = small_detector(least_score=0.0).eval()
    heads = model.roi_heads
    images = [torch.rand(3, 40, 60)]
    seen: list[torch.Tensor] = []
    heads.mask_predictor.register_forward_hook(lambda module, inputs, output: seen.append(output))
    (detections,) = model(images)
    boxes, labels, masks = (detections[name] for name in ("boxes", "labels", "masks"))
    assert len(boxes) == 100
    assert boxes.min() >= 0
    assert bool((boxes[:, 2] <= 60).all() and (boxes[:, 3] <= 40).all())
    assert set(labels.tolist()) <= {1, 2, 3}
    picked = torch.stack([seen[0][one, label] for one, label in enumerate(labels)])
    assert_equal(masks[:, 0], picked.sigmoid())


def test_losses_in_evaluation_are_those_of_training_without_norms() -> None:
    """Only norms and dropout tell the modes apart; the draw of the samples is the same from the same seed."""
    model = small_detector(norm="group")
    images, targets = batch(scene(*OBJECTS), scene())
    torch.manual_seed(0)
    expected = losses(model, images, targets)
    model.eval()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    detections, found = detect_and_judge(model, images, targets)
    again = losses(model, images, targets)
    assert_equal(torch.get_rng_state(), before, "random state")
    assert found.keys() == LOSSES
    for name, loss in expected.items():
        assert_equal(found[name], loss, name)
        assert_equal(again[name], loss, name)
    for one, other in zip(detections, model(images), strict=True):
        assert one.keys() == other.keys() and len(one["boxes"])
        for name, value in one.items():
            assert_equal(other[name], value, name)


def test_losses_in_evaluation_use_the_running_statistics() -> None:
    model = small_detector()
    images, targets = batch(scene(*OBJECTS), scene((5, 5, 20, 30)))
    model.eval()
    first = losses(model, images[:1], targets[:1])
    assert not any(part.training for part in model.modules())
    state = {name: one.clone() for name, one in model.state_dict().items()}
    with torch.no_grad():
        for one in model.modules():
            if isinstance(one, nn.BatchNorm2d):
                one.running_var.fill_(4)
    assert losses(model, images[:1], targets[:1])["loss_objectness"] != first["loss_objectness"]
    model.load_state_dict(state)
    for name, loss in losses(model, images[:1], targets[:1]).items():
        assert_equal(loss, first[name], name)


def test_flags_are_restored_after_an_error() -> None:
    model = small_detector().eval()
    with pytest.raises(KeyError):
        losses(model, [torch.rand(3, 64, 64)], [{}])
    assert not any(part.training for part in model.modules())


def test_one_box_and_one_mask_serve_every_class() -> None:
    """What a region gets depends on it alone: all classes have the same box and mask, and all learn them."""
    model = small_detector(norm="group", class_agnostic=True)
    heads, features = model.roi_heads, torch.rand(5, CONFIG["box_features"])
    _, boxes = heads.box_predictor(features)
    assert boxes.shape == (5, 4 * 4)
    masks = heads.mask_predictor(torch.rand(5, CONFIG["channels"], 14, 14))
    assert masks.shape == (5, 4, 28, 28)
    assert_equal(boxes, boxes[:, :4].repeat(1, 4))
    assert_equal(masks, masks[:, :1].repeat(1, 4, 1, 1))
    images, targets = batch(scene(*OBJECTS), scene((5, 5, 20, 30)))
    total(model, images, targets).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())
    assert len(model.eval()(images)) == 2


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_images_without_objects(norm: str) -> None:
    model = small_detector(norm=norm)
    state = {name: one.clone() for name, one in model.state_dict().items()}
    for scenes in ([scene(), scene()], [scene(), scene(*OBJECTS)]):
        found = losses(model, *batch(*scenes))
        loss = torch.stack([*found.values()]).sum()
        assert loss.isfinite()
        loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())
    assert all(one.isfinite().all() for one in model.state_dict().values())
    assert state.keys() == model.state_dict().keys()
    assert losses(model, *batch(scene(), scene()))["loss_mask"] == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (64, 2)], ids=str)
def test_images_of_a_few_pixels(size: tuple[int, int]) -> None:
    model = small_detector()
    height, width = size
    images, targets = batch(scene((0, 0, width, height), size=size), scene())
    targets[0]["masks"] = nn.functional.pad(targets[0]["masks"], (0, SIDE - width, 0, SIDE - height))
    assert total(model, images, targets).isfinite()
    for one in model.eval()(images)[0]["boxes"]:
        assert 0 <= one[0] <= one[2] <= width
        assert 0 <= one[1] <= one[3] <= height
    assert total(model, images, targets).isfinite()


def test_many_objects_are_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, and never more than 200 objects at once (torchvision#7959)."""
    starts, sides = 50 * torch.rand(450, 2), 1 + 13 * torch.rand(450, 2)
    objects = torch.cat([starts, starts + sides], dim=1)
    anchors = torch.cat([objects + 1, objects - 2])
    whole = torchvision.ops.box_iou(objects, anchors)
    sizes: list[int] = []

    def recorded(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        return torchvision.ops.box_iou(some, others)

    model = small_detector()
    monkeypatch.setattr(mask_rcnn, "box_iou", recorded)
    assert_equal(model.rpn.box_similarity(objects, anchors), whole)
    assert sizes == [200, 200, 50]
    image, target = scene()
    target.update(boxes=objects, labels=torch.ones(450, dtype=torch.int64))
    target["masks"] = torch.ones(450, SIDE, SIDE, dtype=torch.uint8)
    torch.manual_seed(0)
    chunked = losses(model, [image], [target])
    model.rpn.box_similarity = torchvision.ops.box_iou
    torch.manual_seed(0)
    for name, loss in losses(model, [image], [target]).items():
        assert_equal(chunked[name], loss, name)


def test_copies_and_state_dicts() -> None:
    model = small_detector()
    images, targets = batch(scene(*OBJECTS), scene((5, 5, 20, 30)))
    model(images, targets)
    other = small_detector()
    other.load_state_dict(model.state_dict())
    expected = model.eval()(images)
    for twin in (copy.deepcopy(model), other.eval()):
        for found, detections in zip(twin(images), expected, strict=True):
            for name, values in detections.items():
                assert_equal(found[name], values, name)


def test_gradient_checkpointing_reaches_the_backbone() -> None:
    model = small_detector(norm="group")
    images, targets = batch(scene(*OBJECTS))
    gradients = []
    for enabled in (False, True):
        model.set_gradient_checkpointing(enabled)
        assert model.backbone.network.gradient_checkpointing is enabled
        model.zero_grad()
        torch.manual_seed(0)
        total(model, images, targets).backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_a_backbone_without_gradient_checkpointing_is_named() -> None:
    message = (
        r"exec\.gradient_checkpointing must be off for a backbone without that switch, got MobileNetV2\."
    )
    with pytest.raises(ArgumentError, match=message):
        small_detector("mobilenetv2").set_gradient_checkpointing()


def test_only_backbone_and_pyramid_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def stand_in(function: Any, **options: Any) -> Any:
        compiled.append((function.__self__, options))
        return function

    monkeypatch.setattr(torch, "compile", stand_in)
    model = small_detector().eval()
    model.compile(dynamic=False)
    assert [*compiled] == [(model.backbone, {"dynamic": False})]
    assert len(model([torch.rand(3, 64, 64)])) == 1


@pytest.mark.slow
def test_one_image_is_learned_by_heart() -> None:
    model = small_detector(norm="group", least_score=0.8)
    images, targets = batch(scene(*OBJECTS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # At a constant rate the last steps jump, and how they fall depends on the processor.
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=150)
    for _ in range(150):
        optimizer.zero_grad()
        total(model, images, targets).backward()
        optimizer.step()
        schedule.step()
    (detections,) = model.eval()(images)
    order = detections["labels"].argsort()
    assert detections["labels"][order].tolist() == [1, 2]
    overlap = torchvision.ops.box_iou(detections["boxes"][order], targets[0]["boxes"])
    assert overlap.diagonal().min() > 0.8
    # A rectangle fills its box.
    assert (detections["masks"] > 0.5).float().mean() > 0.85
