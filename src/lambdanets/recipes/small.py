"""The ImageNet recipes made small: the same code on handwritten digits as image files."""

from dataclasses import replace

from lambdanets.data.config import DigitImagesConfig
from lambdanets.recipes.imagenet import imagenet_lambda_mobilenetv2, imagenet_lambda_resnet50_90ep
from lambdanets.recipes.registry import get_recipe, recipe
from lambdanets.training.config import CkptConfig, ModelConfig, TrainConfig


@recipe
def imagenet_90ep_small() -> TrainConfig:
    """The all-lambda network of the 90 epochs made small, on digits that are read as image files.

    Paper: none (ours); the same settings and code as `imagenet-lambda-resnet50-90ep`.
    Expected: 97.6 % of the 500 held-out digits (seed 0).
    Cost: About 20 s on two cores of an AMD EPYC.
    Derives: `imagenet-lambda-resnet50-90ep`.
    Departs: images, network, batch, rate, EMA decay, epochs and precision are small; digits are not flipped
        and hardly cropped, because that would make others of them.
    """
    return _made_small(
        imagenet_lambda_resnet50_90ep(),
        ModelConfig(name="lambda_resnet_digits", overrides={"stem": "classic", "image_size": 32}),
    )


@recipe
def imagenet_350ep_small() -> TrainConfig:
    """The 350 epochs made small: RandAugment, dropout, stochastic depth, squeeze-and-excitation.

    Paper: none (ours); the same settings and code as `imagenet-lambda-resnet152-256`.
    Expected: 95.8 % of the 500 held-out digits (seed 0).
    Cost: About 20 s on two cores of an AMD EPYC.
    Derives: `imagenet-lambda-resnet152-256`.
    Departs: as `imagenet-90ep-small`; a network of 5 blocks can spare less of itself, so dropout, stochastic
        depth and RandAugment are weaker.
    """
    config = get_recipe("imagenet-lambda-resnet152-256", TrainConfig)
    return _made_small(
        replace(config, augment=replace(config.augment, randaugment_magnitude=5.0)),
        ModelConfig(name="lambda_resnet_small", overrides={"dropout": 0.1, "stochastic_depth": 0.1}),
    )


@recipe
def imagenet_mobilenet_small() -> TrainConfig:
    """The MobileNetV2 with lambda blocks made small, with RMSProp and its steps down.

    Paper: none (ours); the same settings and code as `imagenet-lambda-mobilenetv2`.
    Expected: 98.0 % of the 500 held-out digits (seed 0).
    Cost: About 20 s on two cores of an AMD EPYC.
    Derives: `imagenet-lambda-mobilenetv2`.
    Departs: as `imagenet-90ep-small`; the rate falls by a fifth every epoch.
    """
    config = imagenet_lambda_mobilenetv2()
    small = _made_small(config, ModelConfig(name="lambda_mobilenet_small"))
    return replace(
        small,
        optim=replace(config.optim, learning_rate=0.01, base_batch_size=64),
        sched=replace(small.sched, step_epochs=1.0, step_factor=0.8),
    )


def _made_small(config: TrainConfig, model: ModelConfig) -> TrainConfig:
    return replace(
        config,
        num_threads=1,
        global_batch_size=64,
        ema_decay=0.98,
        model=model,
        data=DigitImagesConfig(),
        augment=replace(config.augment, min_crop_area=0.6, flip=0.0),
        optim=replace(config.optim, learning_rate=0.2, base_batch_size=64, weight_decay=1e-3),
        sched=replace(config.sched, epochs=12, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=4),
        exec=replace(config.exec, precision="float32", num_workers=1),
    )
