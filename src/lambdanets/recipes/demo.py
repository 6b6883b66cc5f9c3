"""What the paper ran, small enough for two cores: handwritten digits in a minute."""

from dataclasses import replace

from lambdanets.data.config import DigitsConfig, PathfinderConfig, RelationConfig, switched
from lambdanets.recipes.registry import recipe
from lambdanets.training.config import CkptConfig, ModelConfig, OptimConfig, SchedConfig, TrainConfig


@recipe
def digits() -> TrainConfig:
    """A LambdaResNet on scikit-learn's bundled handwritten digits.

    One thread: images this small gain little from a second one (1.3 times), and lose much when another
    program wants its core.

    Paper: none (ours); optimiser, schedule, label smoothing and EMA as in §E.2, made small.
    Expected: 98.8 % of the 500 held-out digits (seeds 0 to 4: 97.8 to 99.2 %).
    Cost: About 40 s on one core of an AMD EPYC.
    """
    return TrainConfig(
        recipe="digits",
        num_threads=1,
        global_batch_size=64,
        label_smoothing=0.1,
        ema_decay=0.98,
        model=ModelConfig(name="lambda_resnet_digits"),
        data=DigitsConfig(max_shift=0.7, max_rotation=12.0, max_scaling=0.12),
        optim=OptimConfig(learning_rate=0.2, momentum=0.9, weight_decay=2e-3),
        sched=SchedConfig(epochs=25, warmup_epochs=2.0),
        ckpt=CkptConfig(every_epochs=5),
    )


@recipe
def digits_conv() -> TrainConfig:
    """The twin of `digits`: the same network with 3×3 convolutions where the lambda layers stood.

    Paper: none (ours).
    Expected: 99.0 % of the 500 held-out digits (seeds 0 to 4: 98.6 to 99.4 %).
    Cost: About 25 s on one core of an AMD EPYC.
    Derives: `digits`.
    """
    return replace(digits(), model=ModelConfig(name="resnet_digits"))


@recipe
def semi() -> TrainConfig:
    """A LambdaResNet on 200 labelled digits: the teacher of `semi-student`.

    Paper: none (ours); §E.2 has an EfficientNet-L2 for a teacher.
    Expected: 97.0 % of the 500 held-out digits (seeds 0 to 4: 96.8 to 97.6 %).
    Cost: About 15 s on one core of an AMD EPYC.
    Derives: `digits`.
    """
    return replace(
        digits(),
        global_batch_size=40,
        data=switched(digits().data, "semi"),
        sched=SchedConfig(epochs=100, warmup_epochs=5.0),
        ckpt=CkptConfig(every_epochs=25),
    )


@recipe
def semi_student() -> TrainConfig:
    """The network of `semi` on its 200 labels and five times as many that a teacher gave.

    An epoch is one pass over the labelled digits; the settings are those of `digits` with as many steps.

    Paper: none (ours); §E.2 trains on labelled and pseudo-labelled images together.
    Expected: 98.3 % of the 500 held-out digits (seeds 0 to 4: 97.6 to 98.8 %); 99.0 % in a second round.
    Cost: About 45 s on one core of an AMD EPYC.
    Derives: `digits`.
    Command: `lambdanets pseudo iterate semi-student --teacher runs/semi --hard --ratio 5 --out runs/semi-2`.
    """
    return replace(
        digits(),
        data=switched(digits().data, "semi"),
        sched=SchedConfig(epochs=27, warmup_epochs=2.0),
    )


@recipe
def relation() -> TrainConfig:
    """A LambdaResNet that decides whether two marks stand at one fixed offset: why positions matter.

    Paper: none (ours).
    Expected: 100.0 % of the 480 held-out images (seeds 0 to 2: all of them after the second epoch).
    Cost: Under two minutes on one core of an AMD EPYC.
    """
    return TrainConfig(
        recipe="relation",
        num_threads=1,
        global_batch_size=32,
        ema_decay=0.98,
        model=ModelConfig(name="lambda_resnet_relation"),
        data=RelationConfig(),
        optim=OptimConfig(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
        sched=SchedConfig(epochs=4, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=1),
    )


@recipe
def relation_conv() -> TrainConfig:
    """The twin of `relation`: 3×3 convolutions, none of whose windows holds both marks.

    Paper: none (ours).
    Expected: 50.0 % of the 480 held-out images, which is chance.
    Cost: About 15 s on one core of an AMD EPYC.
    Derives: `relation`.
    """
    return replace(relation(), model=ModelConfig(name="resnet_relation"))


@recipe
def pathfinder() -> TrainConfig:
    """A LambdaResNet that decides whether a dashed path joins two dots: why long range matters.

    Paper: none (ours); the task of Linsley et al. (2018) and the Long Range Arena, on our images.
    Expected: 92.4 % of the 1,000 held-out images (seed 0; after the first of 6 epochs still chance).
    Cost: About 3 minutes on one core of an AMD EPYC.
    """
    return TrainConfig(
        recipe="pathfinder",
        num_threads=1,
        global_batch_size=64,
        ema_decay=0.99,
        model=ModelConfig(name="lambda_resnet_pathfinder"),
        data=PathfinderConfig(),
        optim=OptimConfig(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
        sched=SchedConfig(epochs=6, warmup_epochs=0.5),
        ckpt=CkptConfig(every_epochs=1),
    )


@recipe
def pathfinder_conv() -> TrainConfig:
    """The twin of `pathfinder`: 3×3 convolutions, whose windows together hold the image, but step by step.

    It does not learn the task in this time; a deeper network, or a longer training, may.

    Paper: none (ours).
    Expected: 52.8 % of the 1,000 held-out images (seed 0), about chance.
    Cost: About 2 minutes on one core of an AMD EPYC.
    Derives: `pathfinder`.
    """
    return replace(pathfinder(), model=ModelConfig(name="resnet_pathfinder"))
