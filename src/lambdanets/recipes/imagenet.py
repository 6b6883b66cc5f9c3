"""ImageNet for 90 epochs, where the paper studies layers, and the MobileNetV2 of its Table 17."""

from dataclasses import replace
from typing import Final

from lambdanets.data.config import FolderConfig
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import ExecConfig, ModelConfig, OptimConfig, SchedConfig

# Training images and classes of ILSVRC 2012.
NUM_IMAGES: Final = 1_281_167
NUM_CLASSES: Final = 1000


def resnet50_90ep() -> TrainConfig:
    """A plain ResNet-50 for 90 epochs, where the studies of layers begin.

    Its rows of Tables 3, 4 and 12 are this recipe with another network: `--model.name resnet50_se`.

    Batch norm keeps torch's momentum of 0.1. In the published code of the same author the running statistics
    are the last batch's, smoothed by the same average as the weights, which remembers 10,000 steps. Here it
    smooths means over the last 10 steps or so: the same but for 9 steps of delay, and the weights can be
    judged without their average.

    Paper: §E.2; Tables 3, 8 and 12.
    Expected: 76.9 % top-1 on ImageNet (Table 3); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Departs: 313 steps an epoch in the place of 312, so that no image is left out; biases are not decayed,
        as those of the same author's published code are; batch norm sees the images of one process, as many
        as there are, where the paper's 32 cores had 128 each. Crop area, interpolation and test crop are that
        code's too: the paper does not print them.
    Command: `lambdanets train imagenet-resnet50-90ep --data.root IMAGENET`.
    """
    return TrainConfig(
        recipe="imagenet-resnet50-90ep",
        num_threads=4,
        global_batch_size=4096,
        label_smoothing=0.1,
        ema_decay=0.9999,
        model=ModelConfig(name="resnet50", overrides={"image_size": 224}),
        data=FolderConfig(),
        optim=OptimConfig(learning_rate=0.1, base_batch_size=256, momentum=0.9, weight_decay=1e-4),
        sched=SchedConfig(epochs=90, warmup_epochs=5.0),
        exec=ExecConfig(precision="bfloat16", channels_last=True, num_workers=8),
    )


def lambda_resnet50_90ep() -> TrainConfig:
    """A ResNet-50 with lambda layers for all its 3×3 convolutions, 90 epochs.

    The other rows of Tables 3, 4 and 8 to 12 are this recipe with `--model.overrides`, such as
    `query_depth 8`, `intra_depth 4 scope_size 7`, `content False`, `share_position stage` or
    `layers CLLL scope_size None`.

    Paper: §E.2; Tables 3, 4, 8, 9, 11 and 12.
    Expected: 78.4 % top-1 on ImageNet (Table 3); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-resnet50-90ep`.
    Departs: as `imagenet-resnet50-90ep`; position tables are decayed like weights, which the paper leaves
        open.
    Command: `lambdanets train imagenet-lambda-resnet50-90ep --data.root IMAGENET`.
    """
    plain = resnet50_90ep()
    return replace(
        plain, recipe="imagenet-lambda-resnet50-90ep", model=replace(plain.model, name="resnet50_llll")
    )


def mobilenetv2() -> TrainConfig:
    """A MobileNetV2 for 350 epochs: RMSProp, and a rate that falls by a hundredth every third epoch.

    Paper: §E.2; Table 17.
    Expected: 72.7 % top-1 on ImageNet (Table 17); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-resnet50-90ep`.
    Departs: as `imagenet-resnet50-90ep`. The paper leaves open how long the rate warms up (5 epochs here),
        the decay of the squares and epsilon of RMSProp (0.9 and 0.001), label smoothing and average (as for
        the other networks).
    Command: `lambdanets train imagenet-mobilenetv2 --data.root IMAGENET`.
    """
    return replace(
        resnet50_90ep(),
        recipe="imagenet-mobilenetv2",
        model=ModelConfig(name="mobilenetv2", overrides={"image_size": 224, "dropout": 0.2}),
        optim=OptimConfig(
            name="rmsprop",
            learning_rate=0.1,
            base_batch_size=4096,
            momentum=0.9,
            beta2=0.9,
            epsilon=1e-3,
            weight_decay=1e-5,
        ),
        sched=SchedConfig(epochs=350, warmup_epochs=5.0, shape="step", step_epochs=3.0, step_factor=0.99),
    )


def lambda_mobilenetv2() -> TrainConfig:
    """A MobileNetV2 with lambda layers in two of its blocks, 350 epochs.

    Paper: §E.2; Table 17.
    Expected: 73.3 % top-1 on ImageNet (Table 17); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-mobilenetv2`.
    Departs: as `imagenet-mobilenetv2`; the layout of a lambda block is open too (docs/architecture.md).
    Command: `lambdanets train imagenet-lambda-mobilenetv2 --data.root IMAGENET`.
    """
    plain = mobilenetv2()
    return replace(
        plain, recipe="imagenet-lambda-mobilenetv2", model=replace(plain.model, name="lambda_mobilenetv2")
    )
