"""Training settings by name: functions that return frozen configs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.recipes import imagenet, imagenet_350, small
from lambdanets.recipes.demo import (
    digits,
    digits_conv,
    pathfinder,
    pathfinder_conv,
    relation,
    relation_conv,
    semi,
    semi_student,
)
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import CkptConfig

RECIPES: Final[dict[str, Callable[[], TrainConfig]]] = {
    "digits": digits,
    "digits-conv": digits_conv,
    "semi": semi,
    "semi-student": semi_student,
    "relation": relation,
    "relation-conv": relation_conv,
    "pathfinder": pathfinder,
    "pathfinder-conv": pathfinder_conv,
    "imagenet-90ep-small": small.imagenet_90ep_small,
    "imagenet-350ep-small": small.imagenet_350ep_small,
    "imagenet-mobilenet-small": small.imagenet_mobilenet_small,
    "imagenet-resnet50-90ep": imagenet.resnet50_90ep,
    "imagenet-lambda-resnet50-90ep": imagenet.lambda_resnet50_90ep,
    "imagenet-lambda-resnet50-128": imagenet_350.lambda_resnet50_128,
    "imagenet-lambda-resnet50-160": imagenet_350.lambda_resnet50_160,
    "imagenet-lambda-resnet101-160": imagenet_350.lambda_resnet101_160,
    "imagenet-lambda-resnet101-192": imagenet_350.lambda_resnet101_192,
    "imagenet-lambda-resnet152-192": imagenet_350.lambda_resnet152_192,
    "imagenet-lambda-resnet152-224": imagenet_350.lambda_resnet152_224,
    "imagenet-lambda-resnet152-256": imagenet_350.lambda_resnet152_256,
    "imagenet-lambda-resnet152-288": imagenet_350.lambda_resnet152_288,
    "imagenet-lambda-resnet270-256": imagenet_350.lambda_resnet270_256,
    "imagenet-lambda-resnet350-256": imagenet_350.lambda_resnet350_256,
    "imagenet-lambda-resnet350-288": imagenet_350.lambda_resnet350_288,
    "imagenet-lambda-resnet350-320": imagenet_350.lambda_resnet350_320,
    "imagenet-lambda-resnet420-320": imagenet_350.lambda_resnet420_320,
    "imagenet-resnet-rs152-256": imagenet_350.resnet_rs152_256,
    "imagenet-resnet-rs152-wo-se-256": imagenet_350.resnet_rs152_wo_se_256,
    "imagenet-mobilenetv2": imagenet.mobilenetv2,
    "imagenet-lambda-mobilenetv2": imagenet.lambda_mobilenetv2,
}

# What a recipe's docstring says beside its first line and its remarks.
FIELDS: Final = ("Paper", "Expected", "Cost", "Derives", "Departs", "Command")


def get_recipe(name: str) -> TrainConfig:
    """Give the config of a recipe by its name on the command line.

    Raises:
        ArgumentError: There is none of that name; the message has the nearest.
    """
    if name not in RECIPES:
        raise ArgumentError(
            f"get_recipe: unknown recipe {name!r}.{did_you_mean(name, RECIPES)}"
            f" `lambdanets recipes` lists all {len(RECIPES)}."
        )
    return RECIPES[name]()


def describe_recipe(name: str) -> dict[str, str]:
    """Give what a recipe's docstring says: its first line under "Summary", and its `FIELDS`."""
    summary, *lines = (RECIPES[name].__doc__ or "").splitlines()
    described = {"Summary": summary}
    field = ""
    for line in map(str.strip, lines):
        word, colon, text = line.partition(": ")
        if colon and word in FIELDS:
            field, described[word] = word, text
        elif not line:
            field = ""
        elif field:
            described[field] += f" {line}"
    return described


def parent_of(name: str) -> str | None:
    """Give the recipe that a recipe is derived from; None where it stands by itself."""
    derived = describe_recipe(name).get("Derives")
    return None if derived is None else derived.strip("`.")


def smoke_run(config: TrainConfig) -> TrainConfig:
    """Shorten a recipe to a few epochs with a checkpoint after each: the same path in about 15 seconds."""
    return replace(
        config,
        fast=True,
        sched=replace(config.sched, epochs=5, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=1, keep=config.ckpt.keep),
    )
