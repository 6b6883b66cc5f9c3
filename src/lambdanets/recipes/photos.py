"""A recipe for one's own images, fitted to their number and size before the training begins."""

import statistics
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import FilesConfig, FolderConfig
from lambdanets.errors import DataError
from lambdanets.reading import UnreadableError, read_bytes
from lambdanets.recipes.fit import TEST_CROP, Fitted, fitted_by
from lambdanets.recipes.registry import recipe
from lambdanets.training.config import (
    CkptConfig,
    ExecConfig,
    ModelConfig,
    OptimConfig,
    SchedConfig,
    TrainConfig,
)

# Sides of the network's images, and how many files are looked at to choose one.
_SIZES: Final = (32, 48, 64, 96, 128, 160)
_SAMPLE: Final = 64

# Smaller images keep their size in the stem, which otherwise divides it by 4.
_SMALL: Final = 48


class _Scale(NamedTuple):
    """What suits so many training images.

    Attributes:
        num_images: Up to how many.
        largest: Largest side of the images.
        deep: Take the larger network.
        batch: Images of a step.
        epochs: Passes over the images.
    """

    num_images: float
    largest: int
    deep: bool
    batch: int
    epochs: int


# Wide steps, so that some images more seldom change a choice. On few images a pass is short.
_SCALES: Final = (
    _Scale(300, 96, False, 16, 40),
    _Scale(1_000, 96, False, 16, 30),
    _Scale(4_000, 96, False, 32, 25),
    _Scale(12_000, 128, True, 64, 20),
    _Scale(float("inf"), 160, True, 64, 15),
)


def _fit(config: TrainConfig, given: Collection[str]) -> Fitted:
    """Choose size, network, batch, epochs and augmentation by the training images."""
    from lambdanets.models.variants import VARIANTS

    data = config.data
    assert isinstance(data, FilesConfig), "images are read from files"
    num_images, num_classes, sides = _look(data)
    scale = next(scale for scale in _SCALES if num_images <= scale.num_images)
    side = round(statistics.median(sides)) if sides else scale.largest
    size = max([_SIZES[0], *(one for one in _SIZES if one <= min(side, scale.largest))])
    chosen = f"{num_images:,} images to train with, of {num_classes:,} classes"
    said = {"images": f"{size}×{size} pixels: shorter sides of about {side}, {chosen}"}
    if "data.image_size" in given:
        size = data.image_size
        said["images"] = f"{size}×{size} pixels as given; shorter sides of about {side}, {chosen}"
    name = "lambda_resnet_photos_deep" if scale.deep else "lambda_resnet_photos"
    said["network"] = f"{name}: the {'larger' if scale.deep else 'smaller'} of two, for so many images"
    if "model.name" in given:
        name = config.model.name
        said["network"] = f"{name} {'of the weights to start with' if 'init' in given else 'as given'}"
    else:
        said["network"] += f"; its twin with convolutions: --model.name {name.removeprefix('lambda_')}"
    overrides = dict(config.model.overrides)
    if size <= _SMALL and "init" not in given and getattr(VARIANTS.get(name), "stem", "small") != "small":
        overrides["stem"] = "small"
        said["network"] += "; small images keep their size in the stem"
    batch = config.global_batch_size if "global_batch_size" in given else scale.batch
    epochs = config.sched.epochs if "sched.epochs" in given else scale.epochs
    said["training"] = (
        f"{epochs} epochs of {-(-num_images // batch):,} steps of at most {batch} images; the more images,"
        " the fewer epochs"
    )
    fitted = replace(
        config,
        global_batch_size=batch,
        model=ModelConfig(name=name, overrides=overrides),
        data=replace(data, image_size=size),
        sched=replace(config.sched, epochs=epochs, warmup_epochs=epochs / 10),
    )
    return fitted, said


def _look(data: FilesConfig) -> tuple[int, int, list[int]]:
    """How many images and classes there are to train with, and the shorter sides of some images."""
    survey = data.survey()
    if survey is not None:
        images = survey.images
        return len(images), survey.num_classes, _shorter_sides([images[i] for i in _places(len(images))])
    # Shards and label files are read by what trains with them, which loads torch.
    source, _ = data.open_parts() if data.holdout else (data.open_train(), None)
    return len(source), len(source.labels), []


def _places(num: int) -> list[int]:
    """Evenly spread over all."""
    count = min(num, _SAMPLE)
    return [index * num // count for index in range(count)]


def _shorter_sides(paths: Sequence[bytes]) -> list[int]:
    """The shorter side of each image in pixels, by its header; without those that cannot be read."""
    from lambdanets.data.headers import opened

    sides = []
    for path in paths:
        # The training says which files cannot be read.
        with suppress(UnreadableError, DataError), opened(read_bytes(path), "") as image:
            sides.append(min(image.size))
    return sides


@recipe
@fitted_by(_fit)
def photos() -> TrainConfig:
    """A LambdaResNet on one's own images, some hundred to some ten thousand, in a folder for each class.

    Size of the images, network, batch and epochs are chosen by the images, and printed with the reasons; any
    option takes the place of a choice. The twin with convolutions has another `--model.name`.

    Paper: none (ours).
    Expected: depends on the images; all 28 set aside of 150 crops of 3 textures (seed 0), as its twin does.
    Cost: Two minutes for 150 images on two cores of an AMD EPYC.
    Command: `lambdanets train photos --data.root DIR`.
    """
    return TrainConfig(
        recipe="photos",
        num_threads=2,
        global_batch_size=32,
        label_smoothing=0.1,
        model=ModelConfig(name="lambda_resnet_photos"),
        data=FolderConfig(image_size=96, test_crop=TEST_CROP),
        augment=AugmentConfig(min_crop_area=0.35),
        optim=OptimConfig(name="adamw", learning_rate=2e-3, weight_decay=0.05),
        sched=SchedConfig(epochs=30, warmup_epochs=3.0),
        ckpt=CkptConfig(every_epochs=5),
        exec=ExecConfig(num_workers=1),
    )
