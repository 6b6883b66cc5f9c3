"""What is said of a run before it runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lambdanets.cli import run
from lambdanets.detection.coco import CocoFile
from lambdanets.detection.objective import Detection
from lambdanets.launch.dry_run import _text_curve, plan
from lambdanets.launch.footprint import footprint, known_images, make_meta_model
from lambdanets.recipes import get_recipe
from lambdanets.runs.detect import make_detector
from lambdanets.training.config import DetectConfig
from lambdanets.training.distributed import DistributedContext


def describe(config, out, num_processes=1):
    return plan(config, out, num_processes).text()


def section(text, title):
    """The lines below a title."""
    (found,) = (part for part in text.split("\n\n") if part.startswith(title))
    return found.splitlines()[1:]


@pytest.fixture(scope="module")
def family():
    return describe(get_recipe("imagenet-lambda-resnet152-256"), Path("runs/x"), num_processes=32)


def test_every_setting_is_there_with_its_origin(family):
    lines = section(family, "settings of imagenet-lambda-resnet152-256, into runs/x")
    origins = {line.split()[0]: line.split(maxsplit=2)[2] for line in lines}
    assert len(lines) == len(origins) > 50
    assert origins["optim.weight_decay"] == "recipe imagenet-lambda-resnet50-128"
    assert origins["data.root"] == "default"


def test_differences_are_the_recipes_and_its_parents(family):
    text = " ".join(" ".join(section(family, "differences from the paper")).split())
    assert "83.8 % top-1 on ImageNet (Table 18; Table 13 prints 83.4 %); not run here." in text
    assert "4,096 or 2,048 images a step" in text and "313 steps an epoch instead of 312" in text
    assert text.endswith("no setting of the recipe is changed")


def test_steps_follow_from_the_size_of_imagenet(family):
    text = " ".join(" ".join(section(family, "steps")).split())
    # ⌈1,281,167 / 4,096⌉ = 313; 350 times and 5 times as many.
    assert "109,550 = 350 epochs × 313 steps of at most 4,096 images" in text
    assert "1,565 steps = 5 epochs" in text
    assert "EMA decay 0.9999, half-life 22.1 epochs" in text
    assert "448,408,450 images in all" in text
    assert "32 processes × 128 images in 1 part of at most 128: batch norm sees 128" in text


def test_the_network_and_its_disk(family):
    network = " ".join(section(family, "network"))
    assert "51,404,696" in network and "3×256×256" in network
    # Three sets of 51.4 M float32 numbers and two of running statistics.
    assert "618 MB: weights, EMA and optimiser" in section(family, "disk")[0]
    memory = " ".join(section(family, "memory of each process, estimated"))
    assert "128 images" in memory and "in bfloat16" in memory and "not counted" in memory


def test_the_learning_rate_is_the_schedules():
    text = section(describe(get_recipe("digits"), Path("x")), "learning rate")
    assert text[0].strip() == "peak 0.2 after 42 steps, then half a cosine to 0"
    # 25 epochs of 21 steps: (1 + cos(π (262 - 42) / (525 - 42))) / 2 of 0.2 in the middle, rounded to even.
    assert "epoch 0: 0.004651 · epoch 2: 0.2 · " in text[-1] and "epoch 12.5: 0.1139" in text[-1]


def test_the_curve_of_the_family_and_of_mobilenet(family):
    # Half-way, at step 54,775 of 109,550 with 1,565 to warm up: 1.6 (1 + cos(π 53,210 / 107,985)) / 2.
    last = section(family, "learning rate")[-1]
    assert "epoch 5: 1.6 · epoch 87.5: 1.385 · epoch 175: 0.8182 · " in last
    text = describe(get_recipe("imagenet-mobilenetv2"), Path("x"))
    # 0.1 · 0.99¹, and 0.1 · 0.99⁵⁸ in the middle.
    assert "epoch 5: 0.099 · " in text and "epoch 175: 0.05583 · " in text


def test_the_peak_is_that_of_the_batch(family):
    assert "peak 1.6 = 0.1 × 4096 / 256 after 1,565 steps, then half a cosine to 0" in family
    config = replace(get_recipe("imagenet-mobilenetv2"), global_batch_size=2048)
    text = describe(config, Path("x"))
    assert "peak 0.05 = 0.1 × 2048 / 4096 after 3,130 steps, then × 0.99 every 3 epochs" in text
    assert "global_batch_size: 4096 -> 2048 (command line)" in text


def test_a_curve_is_drawn_in_eighths():
    rows = ["0.5 │   █", "    │   █", "    │   █", "    │  ██", "    │ ▄██", "  0 │ ███"]
    assert _text_curve([0.0, 0.125, 0.25, 0.5]) == rows


def test_the_command_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("train", "digits", "--dry-run", "--optim.learning-rate", "0.5", "--fast")
    assert run(words) == 0
    text = capsys.readouterr().out
    assert "  optim.learning_rate: 0.2 -> 0.5 (command line)" in text.splitlines()
    assert "  sched.epochs: 25 -> 5 (--fast)" in text.splitlines()
    assert "1,297 images of 10 classes (counted)" in text
    assert run((*words, "--processes", "3")) == 0
    assert "3 processes × 22 images in 1 part of at most 22: batch norm sees 22" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["sync", "group"])
def test_a_detector_is_counted_part_by_part(norm):
    config = get_recipe("coco-lambda-resnet101", DetectConfig)
    text = describe(replace(config, detector=replace(config.detector, norm=norm)), Path("x"))
    assert "118,287 images of 80 classes (assumed as of COCO" in text
    assert "130,103 = 281 epochs × 463 steps" in text
    assert "× 0.1 at 90 %, 95 %, 97.5 % of the run" in text
    assert "backbone and pyramid alone" in " ".join(section(text, "network"))
    assert "256 images ×" in text


def test_what_a_detector_keeps_is_what_is_measured():
    """An upper bound of autograd's own count in a training step: heads get fewer regions than they may."""
    config = get_recipe("scenes-demo", DetectConfig)
    images = known_images(config)
    needed = footprint(config, make_meta_model(config, images), images, 1)
    less = replace(config, exec=replace(config.exec, gradient_checkpointing=True))
    assert footprint(less, make_meta_model(less, images), images, 1).activations < needed.activations
    model = make_detector(config, images.num_classes).train()
    file = CocoFile(path=Path("x"), image_folder=Path("x"), categories=(), images=())
    objective = Detection(test_file=file, masks=True, side=160, most_objects=4)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective.loss(model, objective._largest_batch(4), ctx=DistributedContext(), dtype=None, seed=())
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    measured = sum(one.untyped_storage().nbytes() for storage, one in kept.items() if storage not in own)
    assert 1 <= needed.activations / measured < 1.4
