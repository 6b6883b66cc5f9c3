"""ImageNet: 90 epochs, where the paper studies layers; 350 epochs, Table 20's family; MobileNetV2."""

from dataclasses import replace
from typing import Final

from lambdanets.data.config import FolderConfig
from lambdanets.published import TABLES, Row
from lambdanets.recipes.registry import get_recipe, recipe
from lambdanets.training.config import ExecConfig, ModelConfig, OptimConfig, SchedConfig, TrainConfig

# Training images and classes of ILSVRC 2012.
NUM_IMAGES: Final = 1_281_167
NUM_CLASSES: Final = 1000


@recipe
def imagenet_resnet50_90ep() -> TrainConfig:
    """A plain ResNet-50 for 90 epochs, where the studies of layers begin.

    Its rows of Tables 3, 4 and 12 are this recipe with another network: `--model.name resnet50_se`.

    Batch norm keeps torch's momentum of 0.1. In the published code of the same author the running statistics
    are the last batch's, smoothed by the same EMA as the weights, over 10,000 steps. Here it smooths means
    over the last 10 steps or so: the same but for 9 steps of delay, and the weights can be evaluated without
    their EMA.

    Paper: §E.2; Tables 3, 8 and 12.
    Expected: 76.9 % top-1 on ImageNet (Table 3); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Departs: 313 steps an epoch instead of 312, so that no image is left out; biases are not decayed,
        as those of the same author's published code are; batch norm sees the images of one process, as many
        as there are, where the paper's 32 cores had 128 each. Crop area, interpolation and test crop are that
        code's too: the paper does not print them.
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


@recipe
def imagenet_lambda_resnet50_90ep() -> TrainConfig:
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
    """
    plain = imagenet_resnet50_90ep()
    return replace(plain, model=replace(plain.model, name="resnet50_llll"))


@recipe
def imagenet_lambda_resnet50_128() -> TrainConfig:
    """LambdaResNet-50 at 128 pixels, the first of the family: 350 epochs, RandAugment, dropout.

    Magnitude, dropout and stochastic depth of every row are read from the published Table 20
    (`lambdanets.published`). Stochastic depth is the rate of c5; c2 to c4 take 2/5, 3/5 and 4/5 of it,
    constant within a stage, as in the published code of the same author.

    Paper: §E.2; Tables 18 and 20.
    Expected: 77.4 % top-1 on ImageNet (Table 18); not run here.
    Cost: 7 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-resnet50-90ep`.
    Departs: as `imagenet-resnet50-90ep`; position tables are decayed like weights, which the paper leaves
        open. It trained with 4,096 or 2,048 images a step and does not say which networks with which: 4,096
        here, and the rate follows `--global-batch-size`. Its largest networks, from 350 layers at 288 pixels
        on, were stopped early by a held-out part; here the last epoch counts (`--data.holdout` sets a part
        aside).
    """
    plain = imagenet_resnet50_90ep()
    return _with_row(
        replace(
            plain,
            optim=replace(plain.optim, weight_decay=4e-5),
            sched=replace(plain.sched, epochs=350),
            augment=replace(plain.augment, randaugment_layers=2),
        ),
        TABLES[20][0],
    )


def _with_row(config: TrainConfig, row: Row) -> TrainConfig:
    """Set the network, the image size and the regularisation of a row of Table 20."""
    overrides = {name: row.values[name] for name in ("dropout", "stochastic_depth")}
    return replace(
        config,
        model=ModelConfig(name=row.model, overrides={"image_size": row.image_size, **overrides}),
        data=FolderConfig(image_size=row.image_size),
        augment=replace(config.augment, randaugment_magnitude=float(row.values["augmentation"])),
    )


def _is_same(one: Row, other: Row) -> bool:
    return (one.model, one.image_size) == (other.model, other.image_size)


def _define(row: Row) -> None:
    """Define the recipe of a row of Table 20; its result and its cost are those of Table 18."""

    def table_20() -> TrainConfig:
        return _with_row(imagenet_lambda_resnet50_128(), row)

    (printed,) = (one for one in TABLES[18] if _is_same(one, row))
    hours = 350 * NUM_IMAGES / 1024 * float(printed.values["step_s"]) / 3600
    if "top1" in printed.values:
        top1 = printed.values["top1"]
        others = {one.values["top1"] for one in TABLES[13] if _is_same(one, row)} - {top1}
        doubt = "".join(f"; Table 13 prints {other} %" for other in others)
        expected = f"{top1} % top-1 on ImageNet (Table 18{doubt}); not run here."
    else:
        pseudo = printed.values["top1_pseudo"]
        expected = f"none printed; {pseudo} % with pseudo-labels (Table 18). Not run here."
    depth = row.model.removeprefix("lambda_resnet")
    table_20.__name__ = f"imagenet_{row.model}_{row.image_size}"
    table_20.__doc__ = f"""LambdaResNet-{depth} at {row.image_size} pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: {expected}
    Cost: {hours:.0f} h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    """
    recipe(table_20)


for _row in TABLES[20][1:]:
    _define(_row)


@recipe
def imagenet_resnet_rs152_256() -> TrainConfig:
    """The convolution twin of `imagenet-lambda-resnet152-256`: ResNet-152 with squeeze-and-excitation.

    Paper: Table 13.
    Expected: 83.0 % top-1 on ImageNet (Table 13); not run here.
    Cost: 50 h on 8 TPUv3 cores, by the time of a step that ResNet-RS publishes; ours is not known.
    Derives: `imagenet-lambda-resnet152-256`.
    Departs: as `imagenet-lambda-resnet50-128`. How the twins were regularised is not printed; here as the
        lambda network of their size.
    """
    ours = get_recipe("imagenet-lambda-resnet152-256", TrainConfig)
    return replace(ours, model=replace(ours.model, name="resnet_rs152"))


@recipe
def imagenet_resnet_rs152_wo_se_256() -> TrainConfig:
    """The plainer twin of `imagenet-lambda-resnet152-256`: ResNet-152 without squeeze-and-excitation.

    Paper: Table 13.
    Expected: 82.5 % top-1 on ImageNet (Table 13); not run here.
    Cost: 32 or 64 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-resnet-rs152-256`.
    Departs: as `imagenet-resnet-rs152-256`.
    """
    twin = imagenet_resnet_rs152_256()
    return replace(twin, model=replace(twin.model, name="resnet_rs152_wo_se"))


@recipe
def imagenet_mobilenetv2() -> TrainConfig:
    """A MobileNetV2 for 350 epochs: RMSProp, and a rate that falls by a hundredth every third epoch.

    Paper: §E.2; Table 17.
    Expected: 72.7 % top-1 on ImageNet (Table 17); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-resnet50-90ep`.
    Departs: as `imagenet-resnet50-90ep`. The paper leaves open how long the rate warms up (5 epochs here),
        alpha and epsilon of RMSProp (0.9 and 0.001), label smoothing and EMA (as for the other networks).
    """
    return replace(
        imagenet_resnet50_90ep(),
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


@recipe
def imagenet_lambda_mobilenetv2() -> TrainConfig:
    """A MobileNetV2 with lambda layers in two of its blocks, 350 epochs.

    Paper: §E.2; Table 17.
    Expected: 73.3 % top-1 on ImageNet (Table 17); not run here.
    Cost: 32 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-mobilenetv2`.
    Departs: as `imagenet-mobilenetv2`; the layout of a lambda block is open too (docs/architecture.md).
    """
    plain = imagenet_mobilenetv2()
    return replace(plain, model=replace(plain.model, name="lambda_mobilenetv2"))
