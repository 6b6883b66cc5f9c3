"""What users of other detectors complain of: tests beside those that docs/detection.md names already."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from lambdanets.analysis.memory import live_bytes_peak
from lambdanets.cli import run as command
from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.backbones import create_backbone
from lambdanets.detection.data import load
from lambdanets.detection.objective import Detection
from lambdanets.errors import ArgumentError
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import DistributedContext, prepare_model
from support.coco import coco_content, write_coco, write_data_set
from support.detectors import small_detector

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/detection.md").read_text()


def test_the_page_names_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 12
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.slow
def test_a_third_of_the_images_may_be_empty(tmp_path):
    """Of 10 images 3 have no object; every one of them is trained on, and the losses stay finite."""
    content = coco_content(10)
    empty = {image["id"] for image in content["images"][:3]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in empty]
    write_coco(tmp_path, "train", content)
    write_coco(tmp_path, "val", coco_content(3, first_id=1001, every=2))
    out = tmp_path / "run"
    words = (
        *("--data.root", str(tmp_path), "--out", str(out), "--model.name", "resnet_scenes"),
        *("--num-threads", "1", "--data.image-size", "64", "--global-batch-size", "2"),
        *("--detector.channels", "16", "--detector.box-features", "16", "--detector.proposals", "20"),
    )
    assert command(("detect", "train", "scenes-demo", *words)) == 0
    record = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 5 * record["epoch"]
    assert all(torch.tensor(record[name]).isfinite() for name in ("train_loss", "test_loss"))


def test_an_evaluation_keeps_less_than_a_step(tmp_path):
    """Bytes that are alive at once: an evaluation of six images, and a step with two of them."""
    root = write_data_set(tmp_path, num_train=2, num_test=6, size=(64, 48))
    config = CocoConfig(root=str(root), train="train", test="val", image_size=64)
    task = load(config, JitterConfig(), seed=0, masks=True, max_unreadable=1)
    # Samples of a step and detections of an image in the proportion of the defaults, 512 to 100.
    model = small_detector(norm="group", classes=2, least_score=0.0, box_samples=32, most_detections=6)
    objective = Detection(test_file=task.test_file, masks=True, side=64, most_objects=2)
    ctx = DistributedContext()

    def step(_):
        two = task.train.batch(0, torch.arange(2))
        with torch.enable_grad():
            loss, _ = objective.loss(model, two, ctx=ctx, dtype=None, seed=())
            loss.backward()

    def evaluate(_):
        return objective.evaluate(model, task.test, ExecConfig(device="cpu"), ctx).scores.num_images

    image = torch.zeros(1)
    training = live_bytes_peak(step, image)
    model.zero_grad(set_to_none=True)
    assert evaluate(image) == 6
    assert 0 < live_bytes_peak(evaluate, image) <= training


@pytest.mark.parametrize("size", [1, 2])
def test_synchronised_norms_in_two_processes_on_a_cpu_are_refused(size):
    model, ctx = small_detector(norm="sync"), DistributedContext(size=size)
    if size == 1:
        assert prepare_model(model, ExecConfig(device="cpu"), ctx) is model
        return
    message = (
        r"prepare_model: norms must be of one process each on a CPU, got SyncBatchNorm in 2 processes\. Torch"
        r" has it for GPUs alone: use --detector\.norm group or batch\."
    )
    with pytest.raises(ArgumentError, match=message):
        prepare_model(model, ExecConfig(device="cpu"), ctx)


def test_images_of_many_shapes_make_batches_of_one(tmp_path):
    shapes = ((40, 30), (30, 40), (120, 10), (9, 90), (64, 64), (200, 31))
    content = coco_content(len(shapes), size=(200, 31), every=100)
    for image, (width, height) in zip(content["images"], shapes, strict=True):
        image |= {"width": width, "height": height}
    for part in ("train", "val"):
        write_coco(tmp_path, part, content)
    config = CocoConfig(root=str(tmp_path), train="train", test="val", image_size=64)
    jitter = JitterConfig(min_scale=0.1, max_scale=2.0)
    data = load(config, jitter, seed=0, masks=True, max_unreadable=1).train
    for epoch in range(3):
        for index in range(len(shapes)):
            assert data.batch(epoch, torch.tensor([index])).images.shape == (1, 3, 64, 64)


def _block(start):
    """The names that a block of the page defines, the block being the one that has these words."""
    (text,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if start in text]
    names = {"__name__": "block"}
    exec(compile(text, "detection.md", "exec"), names)
    return names


@pytest.mark.parametrize("name", ["resnet_scenes", "lambda_resnet_scenes"])
@pytest.mark.parametrize("size", [(75, 101), (33, 64), (97, 50)], ids=str)
def test_the_decoder_of_the_page_segments_images_of_odd_sizes(name, size):
    torch.manual_seed(0)
    model = _block("class Segmenter")["Segmenter"](create_backbone(name), num_classes=5)
    for weight in model.parameters():
        # The last norm of a block starts at zero, which would hide the block's weights from the gradient.
        if not weight.any():
            nn.init.constant_(weight, 0.5)
    scores = model(torch.randn(2, 3, *size))
    assert scores.shape == (2, 5, *size)
    nn.functional.cross_entropy(scores, torch.randint(5, (2, *size))).backward()
    for parameter, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), parameter
        assert weight.grad.any(), parameter


def test_torchvisions_pyramid_of_the_page_has_the_strides_of_the_backbone():
    names = _block("BackboneWithFPN")
    network, images = names["network"], torch.randn(1, 3, 75, 101)
    maps = names["pyramid"](images)
    assert [*maps] == [*network.channels, "pool"]
    for stage, stride in network.strides.items():
        assert maps[stage].shape == (1, 64, -(-75 // stride), -(-101 // stride))
