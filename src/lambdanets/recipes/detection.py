"""Mask R-CNN: the paper's setting on COCO, torchvision's 1x and 3x, and one that two cores can train."""

from dataclasses import replace
from typing import Final

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.recipes.registry import recipe
from lambdanets.training.config import (
    CkptConfig,
    DetectConfig,
    DetectorConfig,
    ExecConfig,
    ModelConfig,
    OptimConfig,
    SchedConfig,
)

# Training images and categories of COCO 2017.
NUM_COCO_IMAGES: Final = 118_287
NUM_COCO_CATEGORIES: Final = 80


@recipe
def scenes_demo() -> DetectConfig:
    """Mask R-CNN on a small LambdaResNet: handwritten digits in scenes, from scratch.

    The scenes are written by `lambdanets data scenes --out scenes`.

    Heads do not depend on the class, there is no jitter, since the scenes have digits of all sizes, and the
    box head is wide: chosen by trainings of a third of the length, docs/log.md.

    Paper: none (ours).
    Expected: 52.7 box AP and 49.5 mask AP on the 250 validation scenes (seed 0).
    Cost: 8 minutes with `--processes 2` on two cores, 1.2 GB in each.
    Command: `lambdanets detect train scenes-demo --data.root scenes --processes 2`.
    """
    return DetectConfig(
        recipe="scenes-demo",
        num_threads=1,
        global_batch_size=4,
        ema_decay=0.99,
        model=ModelConfig(name="lambda_resnet_scenes"),
        data=CocoConfig(train="train", test="val", image_size=160),
        augment=JitterConfig(min_scale=1.0, max_scale=1.0, flip=0.0),
        detector=DetectorConfig(
            # Four images are too few for the statistics of batch norms.
            norm="group",
            channels=32,
            anchor_sizes=(8.0, 16.0, 32.0, 64.0, 96.0),
            box_convs=2,
            box_features=512,
            mask_convs=2,
            class_agnostic=True,
            proposals=200,
            box_samples=64,
        ),
        optim=OptimConfig(name="adamw", learning_rate=3e-3, beta2=0.98, weight_decay=0.05),
        # 100 steps of warm-up.
        sched=SchedConfig(epochs=3, warmup_epochs=100 / 750),
        ckpt=CkptConfig(every_minutes=2.0),
    )


@recipe
def scenes_demo_conv() -> DetectConfig:
    """The twin of `scenes-demo`: the same network with 3×3 convolutions where the lambda layers stood.

    Paper: none (ours).
    Expected: 52.7 box AP and 49.7 mask AP on the 250 validation scenes (seed 0).
    Cost: 7.5 minutes with `--processes 2` on two cores.
    Derives: `scenes-demo`.
    Command: `lambdanets detect train scenes-demo-conv --data.root scenes --processes 2`.
    """
    return replace(scenes_demo(), model=ModelConfig(name="resnet_scenes"))


@recipe
def coco_lambda_resnet101() -> DetectConfig:
    """Mask R-CNN on LambdaResNet-101 from scratch, as the paper trains it.

    The other rows of Table 14 are this recipe with `--model.name`: `resnet_rs101_wo_se`, `resnet_rs101`,
    `lambda_resnet152`, `resnet_rs152_wo_se` and `resnet_rs152`.

    Paper: §E.2; Table 14.
    Expected: 49.4 box AP and 43.5 mask AP on COCO's val2017 (Table 14); not run here.
    Cost: 128 TPUv3 cores in the paper, which does not print how long; ours is not known.
    Departs: the paper says nothing of pyramid, heads, optimiser, flips and proposals. Here they are those of
        torchvision's second version (four convolutions with norms in the box head), SGD with Nesterov
        momentum 0.9, and flips; 281 epochs of 463 steps are 130,103 steps instead of 130,000. Norms are
        synchronised on GPUs.
    """
    return DetectConfig(
        recipe="coco-lambda-resnet101",
        num_threads=4,
        global_batch_size=256,
        ema_decay=0.9999,
        model=ModelConfig(name="lambda_resnet101", overrides={"image_size": 1024}),
        data=CocoConfig(),
        detector=DetectorConfig(norm="sync"),
        # 0.32 at a batch of 256; 4e-5 is the paper's decay.
        optim=OptimConfig(learning_rate=0.32, base_batch_size=256, weight_decay=4e-5),
        # 1,000 of 130,000 steps warm up; the rate falls by 10 at 90, 95 and 97.5 % of them.
        sched=SchedConfig(
            epochs=281, warmup_epochs=1000 / 463, shape="step", step_at=(0.9, 0.95, 0.975), step_factor=0.1
        ),
        exec=ExecConfig(precision="bfloat16", num_workers=8),
        eval_every=10,
    )


@recipe
def coco_resnet50_1x() -> DetectConfig:
    """Mask R-CNN on a ResNet-50 with the weights of a classification run, for 12 epochs.

    Paper: none; the usual 1x schedule, as torchvision's references have it.
    Expected: not known for our weights (torchvision's own: 37.9 box AP and 34.6 mask AP); not run here.
    Cost: not known.
    Departs: the norms of the backbone are frozen, but the stem and c2 learn too, where torchvision leaves
        them as they are; the classification run is yours: `--detector.weights RUN`.
    """
    return DetectConfig(
        recipe="coco-resnet50-1x",
        num_threads=4,
        global_batch_size=16,
        ema_decay=0.999,
        model=ModelConfig(name="resnet50"),
        data=CocoConfig(image_size=1333, shortest_side=800),
        augment=JitterConfig(min_scale=1.0, max_scale=1.0),
        detector=DetectorConfig(norm="frozen", weights="runs/imagenet-resnet50-90ep", box_convs=0),
        optim=OptimConfig(learning_rate=0.02, base_batch_size=16, weight_decay=1e-4),
        # 1,000 of the 7,393 steps of an epoch warm up; the rate falls at epochs 8 and 11.
        sched=SchedConfig(
            epochs=12, warmup_epochs=1000 / 7393, shape="step", step_at=(8 / 12, 11 / 12), step_factor=0.1
        ),
        exec=ExecConfig(num_workers=4),
    )


@recipe
def coco_resnet50_3x() -> DetectConfig:
    """Three times as long as `coco-resnet50-1x`: 36 epochs.

    Paper: none; the usual 3x schedule.
    Expected: not known for our weights; not run here.
    Cost: not known.
    Derives: `coco-resnet50-1x`.
    """
    config = coco_resnet50_1x()
    return replace(config, sched=replace(config.sched, epochs=36, step_at=(27 / 36, 33 / 36)))
