"""ImageNet for 350 epochs: the LambdaResNets of Table 20, one recipe a row, and two convolution twins."""

from dataclasses import replace

from lambdanets.data.config import FolderConfig
from lambdanets.published import TABLES
from lambdanets.recipes.imagenet import resnet50_90ep
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import ModelConfig


def lambda_resnet50_128() -> TrainConfig:
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
    Command: `lambdanets train imagenet-lambda-resnet50-128 --data.root IMAGENET`.
    """
    plain = resnet50_90ep()
    return _row_of_table_20(
        replace(
            plain,
            optim=replace(plain.optim, weight_decay=4e-5),
            sched=replace(plain.sched, epochs=350),
            augment=replace(plain.augment, randaugment_layers=2),
        ),
        depth=50,
        size=128,
    )


def lambda_resnet50_160() -> TrainConfig:
    """LambdaResNet-50 at 160 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 79.2 % top-1 on ImageNet (Table 18); not run here.
    Cost: 11 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet50-160 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=50, size=160)


def lambda_resnet101_160() -> TrainConfig:
    """LambdaResNet-101 at 160 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 80.8 % top-1 on ImageNet (Table 18); not run here.
    Cost: 17 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet101-160 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=101, size=160)


def lambda_resnet101_192() -> TrainConfig:
    """LambdaResNet-101 at 192 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 81.9 % top-1 on ImageNet (Table 18); not run here.
    Cost: 24 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet101-192 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=101, size=192)


def lambda_resnet152_192() -> TrainConfig:
    """LambdaResNet-152 at 192 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 82.5 % top-1 on ImageNet (Table 18); not run here.
    Cost: 34 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet152-192 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=152, size=192)


def lambda_resnet152_224() -> TrainConfig:
    """LambdaResNet-152 at 224 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 83.2 % top-1 on ImageNet (Table 18); not run here.
    Cost: 46 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet152-224 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=152, size=224)


def lambda_resnet152_256() -> TrainConfig:
    """LambdaResNet-152 at 256 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 83.8 % top-1 on ImageNet (Table 18; Table 13 prints 83.4 %); not run here.
    Cost: 60 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet152-256 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=152, size=256)


def lambda_resnet152_288() -> TrainConfig:
    """LambdaResNet-152 at 288 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: none printed; 86.7 % with pseudo-labels (Table 18). Not run here.
    Cost: 77 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet152-288 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=152, size=288)


def lambda_resnet270_256() -> TrainConfig:
    """LambdaResNet-270 at 256 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 84.2 % top-1 on ImageNet (Table 18); not run here.
    Cost: 111 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet270-256 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=270, size=256)


def lambda_resnet350_256() -> TrainConfig:
    """LambdaResNet-350 at 256 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 84.4 % top-1 on ImageNet (Table 18); not run here.
    Cost: 141 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet350-256 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=350, size=256)


def lambda_resnet350_288() -> TrainConfig:
    """LambdaResNet-350 at 288 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 84.5 % top-1 on ImageNet (Table 18); not run here.
    Cost: 180 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet350-288 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=350, size=288)


def lambda_resnet350_320() -> TrainConfig:
    """LambdaResNet-350 at 320 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 84.7 % top-1 on ImageNet (Table 18); not run here.
    Cost: 232 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet350-320 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=350, size=320)


def lambda_resnet420_320() -> TrainConfig:
    """LambdaResNet-420 at 320 pixels, 350 epochs.

    Paper: §E.2; Tables 18 and 20.
    Expected: 84.9 % top-1 on ImageNet (Table 18); not run here.
    Cost: 274 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.
    Derives: `imagenet-lambda-resnet50-128`.
    Departs: as `imagenet-lambda-resnet50-128`.
    Command: `lambdanets train imagenet-lambda-resnet420-320 --data.root IMAGENET`.
    """
    return _row_of_table_20(lambda_resnet50_128(), depth=420, size=320)


def resnet_rs152_256() -> TrainConfig:
    """The convolution twin of `imagenet-lambda-resnet152-256`: ResNet-152 with squeeze-and-excitation.

    Paper: Table 13.
    Expected: 83.0 % top-1 on ImageNet (Table 13); not run here.
    Cost: 50 h on 8 TPUv3 cores, by the time of a step that ResNet-RS publishes; ours is not known.
    Derives: `imagenet-lambda-resnet152-256`.
    Departs: as `imagenet-lambda-resnet50-128`. How the twins were regularised is not printed; here as the
        lambda network of their size.
    Command: `lambdanets train imagenet-resnet-rs152-256 --data.root IMAGENET`.
    """
    ours = lambda_resnet152_256()
    return replace(ours, recipe="imagenet-resnet-rs152-256", model=replace(ours.model, name="resnet_rs152"))


def resnet_rs152_wo_se_256() -> TrainConfig:
    """The plainer twin of `imagenet-lambda-resnet152-256`: ResNet-152 without squeeze-and-excitation.

    Paper: Table 13.
    Expected: 82.5 % top-1 on ImageNet (Table 13); not run here.
    Cost: 32 or 64 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Derives: `imagenet-resnet-rs152-256`.
    Departs: as `imagenet-resnet-rs152-256`.
    Command: `lambdanets train imagenet-resnet-rs152-wo-se-256 --data.root IMAGENET`.
    """
    twin = resnet_rs152_256()
    return replace(
        twin, recipe="imagenet-resnet-rs152-wo-se-256", model=replace(twin.model, name="resnet_rs152_wo_se")
    )


def _row_of_table_20(config: TrainConfig, depth: int, size: int) -> TrainConfig:
    """A recipe with the network, size and regularisation of a row."""
    model = f"lambda_resnet{depth}"
    (row,) = (row for row in TABLES[20] if (row.model, row.image_size) == (model, size))
    overrides = {name: row.values[name] for name in ("dropout", "stochastic_depth")}
    return replace(
        config,
        recipe=f"imagenet-lambda-resnet{depth}-{size}",
        model=ModelConfig(name=model, overrides={"image_size": size, **overrides}),
        data=FolderConfig(image_size=size),
        augment=replace(config.augment, randaugment_magnitude=float(row.values["augmentation"])),
    )
