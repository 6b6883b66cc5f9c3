"""Estimates on the meta device against what real networks, optimisers and EMAs hold."""

from dataclasses import replace

import pytest
import torch

from lambdanets.analysis.memory import saved_bytes
from lambdanets.data.config import FolderConfig, ShardsConfig
from lambdanets.launch.footprint import footprint, known_images, make_meta_model
from lambdanets.models import create_model, parameter_groups
from lambdanets.recipes import get_recipe
from lambdanets.training.config import ExecConfig, RunConfig
from lambdanets.training.optimizer import ExponentialMovingAverage, make_optimizer, optimizer_state
from support.images import make_folder


def estimated(config, num_processes=1):
    images = known_images(config)
    return footprint(config, make_meta_model(config, images), images, num_processes)


def nbytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def test_what_stays_is_what_a_step_leaves():
    config = get_recipe("digits")
    model = create_model(config.model.name, num_classes=10, in_channels=1)
    optimizer = make_optimizer(config.optim, parameter_groups(model, 1e-4))
    ema = ExponentialMovingAverage(model, 0.9)
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    optimizer.step()
    taken = estimated(config)
    remembered = nbytes(optimizer_state(optimizer, model).values())
    assert taken.parts == {
        "weights": nbytes(model.parameters()),
        "gradients": nbytes(parameter.grad for parameter in model.parameters()),
        "sgd state": remembered,
        "EMA": nbytes(ema.module.state_dict().values()),
        "running statistics": nbytes(model.buffers()),
    }
    stored = nbytes((*model.state_dict().values(), *ema.module.state_dict().values())) + remembered
    assert taken.checkpoint == stored
    assert taken.disk == 4 * stored + taken.best
    assert taken.total == sum(taken.parts.values()) + taken.activations


@pytest.mark.parametrize("name", ["digits", "imagenet-350ep-small", "imagenet-mobilenet-small"])
def test_activations_of_another_batch_are_foretold(name):
    config = replace(get_recipe(name, RunConfig), global_batch_size=37)
    if config.data.name == "digit-images":
        config = replace(config, data=FolderConfig(image_size=32))
        shape = (3, 32, 32)
    else:
        shape = (1, 8, 8)
    taken = estimated(config)
    images = known_images(config)
    model = create_model(
        config.model.name,
        num_classes=images.num_classes,
        in_channels=shape[0],
        **config.model.overrides,
    )
    images = torch.randn(37, *shape)
    assert taken.part_size == 37
    # An image is counted twice: as it comes, and as the first layer keeps it.
    assert taken.activations == pytest.approx(saved_bytes(model.train(), images) + images.nbytes, rel=0.01)


@pytest.mark.slow
def test_bfloat16_halves_activations_and_copies_the_weights():
    config = get_recipe("imagenet-lambda-resnet50-128")
    exact = estimated(replace(config, exec=ExecConfig(precision="float32")))
    half = estimated(config)
    image = 3 * 128 * 128 * 4
    assert (half.image_activations - image) / (exact.image_activations - image) == pytest.approx(
        0.5, rel=0.02
    )
    assert half.fixed_activations >= exact.parts["weights"] // 2
    assert half.parts == exact.parts


@pytest.mark.slow
def test_gradient_checkpointing_is_seen():
    config = get_recipe("imagenet-lambda-resnet101-160")
    checkpointed = replace(config, exec=replace(config.exec, gradient_checkpointing=True))
    all_kept, some_kept = estimated(config), estimated(checkpointed)
    # Inputs of 33 blocks: those of c2 after the first have 256 channels at a quarter of 160 pixels.
    maps = 64 * 40**2 + 2 * 256 * 40**2 + 256 * 40**2 + 3 * 512 * 20**2
    maps += 512 * 20**2 + 22 * 1024 * 10**2 + 1024 * 10**2 + 2 * 2048 * 5**2
    assert 2 * maps < some_kept.image_activations < 0.75 * all_kept.image_activations


@pytest.mark.slow
def test_processes_share_a_batch_and_fsdp_shares_what_stays():
    config = replace(
        get_recipe("imagenet-lambda-resnet50-128"), exec=ExecConfig(accumulation=4, parallel="fsdp")
    )
    one, eight = estimated(config), estimated(config, 8)
    assert (one.part_size, eight.part_size) == (1024, 128)
    assert eight.parts["weights"] * 8 == pytest.approx(one.parts["weights"], rel=1e-3)
    # The EMA is evaluated unsharded, as one process alone has it anyway.
    assert eight.parts["EMA, full"] == one.parts["EMA"] == eight.best
    ddp = replace(config, exec=ExecConfig(accumulation=4))
    assert estimated(ddp, 8).parts == one.parts


def test_the_largest_part_fits_and_one_more_does_not():
    taken = estimated(get_recipe("imagenet-lambda-resnet50-128"))
    most = taken.most_images(10**10)
    state = sum(taken.parts.values()) + taken.fixed_activations
    assert state + most * taken.image_activations <= 10**10 < state + (most + 1) * taken.image_activations
    assert taken.most_images(10**6) == 0


def test_images_are_counted_where_they_are_and_assumed_where_not(tmp_path):
    digits = known_images(get_recipe("digits"))
    assert (len(digits), digits.shape, digits.num_classes, digits.origin) == (1297, (1, 8, 8), 10, "counted")
    config = get_recipe("imagenet-lambda-resnet50-128")
    images = known_images(config)
    assert (len(images), images.shape, images.num_classes) == (1_281_167, (3, 128, 128), 1000)
    assert images.origin == "assumed as of ImageNet: no data.root is given"
    make_folder(tmp_path / "some" / "train", ("a", "b", "c"), each=4)
    make_folder(tmp_path / "some" / "val", ("a", "b", "c"), each=1)
    images = known_images(replace(config, data=replace(config.data, root=str(tmp_path / "some"))))
    assert (len(images), images.shape, images.num_classes) == (12, (3, 128, 128), 3)
    assert images.origin == "counted"
    held_out = replace(config.data, root=str(tmp_path / "none"), holdout=0.5, image_size=224)
    images = known_images(replace(config, data=held_out))
    assert (len(images), images.shape) == (640_583, (3, 224, 224))
    assert images.origin == f"assumed as of ImageNet: {tmp_path}/none/train is not there"
    shards = ShardsConfig(root=str(tmp_path))
    assert known_images(replace(config, data=shards)).origin.endswith("shards are not opened for this")
