"""The norms of a detector by one word, and weights of a classifier under them."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from lambdanets.detection.backbones import create_backbone, load_backbone
from lambdanets.detection.mask_rcnn import build_detector, norm_counts
from lambdanets.detection.norms import replace_norms
from lambdanets.errors import ArgumentError, CheckpointError, DependencyError
from lambdanets.models import create_model
from lambdanets.training.config import DetectorConfig
from support.compare import assert_close, assert_equal
from support.detectors import CONFIG, RESNET, batch, scene, small_detector

CLASSES = {
    "batch": "BatchNorm2d",
    "sync": "SyncBatchNorm",
    "group": "GroupNorm",
    "frozen": "FrozenBatchNorm2d",
}


# Norms of the backbone: 4 of the stem, 3 of each of 4 blocks, one of each shortcut, and two of the lambda
# layer, for its queries and values.
IN_BACKBONE = 4 + 4 * 3 + 4 + 2


@pytest.mark.parametrize("norm", CLASSES)
def test_one_word_reaches_every_norm(norm: str) -> None:
    model = small_detector(norm=norm, weights="given")
    behind = {"pyramid": {CLASSES[norm]: 8}, "box head": {CLASSES[norm]: 1}, "mask head": {CLASSES[norm]: 1}}
    expected = {"backbone": {CLASSES[norm]: IN_BACKBONE}, **({} if norm == "frozen" else behind)}
    assert norm_counts(model) == expected
    layer = model.backbone.network.c5[0].mixer
    assert {type(layer.norm_queries).__name__, type(layer.norm_values).__name__} == {CLASSES[norm]}
    assert all(loss.isfinite() for loss in model(*batch(scene((4, 4, 20, 30)), scene())).values())


def test_frozen_norms_stand_still() -> None:
    model = small_detector(norm="frozen", weights="given")
    before = {name: one.clone() for name, one in model.named_buffers()}
    model(*batch(scene((4, 4, 20, 30)), scene()))
    assert any("running_var" in name for name in before)
    for name, one in model.named_buffers():
        assert_equal(one, before[name], name)
    convolutions = [one for one in model.backbone.pyramid.modules() if isinstance(one, nn.Conv2d)]
    assert all(one.bias is not None for one in convolutions)


def test_frozen_from_scratch_is_refused() -> None:
    message = (
        r"DetectorConfig: norm must not be frozen from scratch: give --detector\.weights, or use batch, sync"
        r" or group, got frozen\."
    )
    with pytest.raises(ArgumentError, match=message):
        DetectorConfig(norm="frozen")


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 1), (16, 2), (24, 3), (100, 10), (256, 32), (2048, 32), (7, 1)]
)
def test_groups_have_eight_channels_and_more(channels: int, groups: int) -> None:
    module = nn.Sequential(nn.BatchNorm2d(channels, eps=0.25))
    nn.init.normal_(module[0].weight)
    nn.init.normal_(module[0].bias)
    scale, shift = module[0].weight.detach(), module[0].bias.detach()
    replace_norms(module, "group")
    maps = torch.randn(2, channels, 3, 5, dtype=torch.float64)
    parts = maps.reshape(2, groups, -1)
    variance, mean = torch.var_mean(parts, dim=2, keepdim=True, correction=0)
    expected = ((parts - mean) / (variance + 0.25).sqrt()).reshape(maps.shape)
    expected = expected * scale.double()[:, None, None] + shift.double()[:, None, None]
    assert_close(module.double()(maps), expected)


@pytest.mark.parametrize("norm", ["sync", "frozen"])
@pytest.mark.parametrize("name", ["resnet50", "timm:regnety_002", "timm:tf_efficientnet_b0"])
def test_a_backbone_gives_in_eval_mode_what_it_gave(name: str, norm: str) -> None:
    """The norms of timm's networks are their activations too."""
    backbone = create_backbone(name, **(RESNET if name == "resnet50" else {})).double()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for one in backbone.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.momentum = 0.9
    backbone.features(images)
    expected = backbone.eval().features(images)
    replace_norms(backbone.double(), norm)
    found = backbone.eval().double().features(images)
    for stage, maps in expected.items():
        assert_close(found[stage], maps, what=stage)


def trained() -> tuple[nn.Module, dict[str, Tensor]]:
    """A classifier whose norms have seen something, and its state."""
    classifier = create_model("resnet50", num_classes=7, **RESNET)
    classifier(torch.rand(4, 3, 64, 64))
    return classifier, classifier.state_dict()


def test_a_detector_starts_with_the_weights_of_a_classifier() -> None:
    classifier, tensors = trained()
    backbone = create_backbone("resnet50", **RESNET)
    load_backbone(backbone, tensors, "runs/a")
    model = build_detector(backbone, DetectorConfig(**CONFIG, norm="frozen", weights="runs/a"), 3).eval()
    assert {type(one) for one in model.modules()} >= {FrozenBatchNorm2d}
    images = torch.rand(1, 3, 64, 64)
    for stage, maps in classifier.eval().features(images).items():
        torch.testing.assert_close(model.backbone.network.features(images)[stage], maps)


def test_the_head_of_a_mobilenet_is_left_out() -> None:
    tensors = create_model("mobilenetv2", num_classes=7).state_dict()
    backbone = create_backbone("mobilenetv2")
    load_backbone(backbone, tensors, "runs/a")
    assert not {*backbone.state_dict()} & {
        name for name in tensors if name.startswith(("head", "classifier"))
    }
    for name, one in backbone.state_dict().items():
        assert_equal(one, tensors[name], name)


def test_weights_of_another_network_are_named() -> None:
    _, tensors = trained()
    backbone = create_backbone("resnet50", **{**RESNET, "layers": "CCCL", "scope_size": 5})
    with pytest.raises(
        CheckpointError,
        match=r"runs/a must hold the weights of this model, got \d+ that differ: it needs c5\.0",
    ):
        load_backbone(backbone, tensors, "runs/a")


def test_strides_of_timm_below_four_are_left_out() -> None:
    backbone = create_backbone("timm:resnet10t", in_channels=1)
    assert backbone.strides == {"stride4": 4, "stride8": 8, "stride16": 16, "stride32": 32}
    maps = backbone.features(torch.rand(1, 1, 64, 96))
    assert {stage: tuple(one.shape[1:]) for stage, one in maps.items()} == {
        stage: (backbone.channels[stage], 64 // stride, 96 // stride)
        for stage, stride in backbone.strides.items()
    }
    backbone.set_gradient_checkpointing()
    assert backbone.network.grad_checkpointing


def test_an_unknown_model_of_timm_is_named() -> None:
    message = r"create_timm_backbone: name must be a model of timm, got 'resnet5'\. Closest: resnet5"
    with pytest.raises(ArgumentError, match=message):
        create_backbone("timm:resnet5")


def test_what_timm_cannot_build_is_named() -> None:
    message = (
        r"create_timm_backbone: name and overrides must give a model with features, got 'resnet10t' and"
        r" \{'nonsense': 1\}, of which timm says '.*unexpected keyword argument 'nonsense''\."
    )
    with pytest.raises(ArgumentError, match=message):
        create_backbone("timm:resnet10t", nonsense=1)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(
        DependencyError, match=r"create_timm_backbone: timm must be installed, got '.*timm.*'"
    ):
        create_backbone("timm:resnet10t")
