"""The models by name: one row each, and their configs with overrides."""

from collections.abc import Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.models.config import STAGES, LambdaConfig, MobileNetConfig, ResNetConfig
from lambdanets.ranges import fitted

# Blocks of c2 to c5. Table 19 of the paper; ResNet-RS has the same.
_DEPTHS: Final[dict[int, tuple[int, ...]]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    350: (4, 36, 72, 4),
    420: (4, 44, 87, 4),
}

# Lambda layers among the blocks of c4, counted from 1. Table 19.
_C4_LAMBDAS: Final[dict[int, tuple[int, ...]]] = {
    50: (3,),
    101: (6, 12, 18),
    152: (5, 10, 15, 20, 25, 30),
    200: (5, 10, 15, 20, 25, 30),
    270: (8, 16, 24, 32, 40, 48),
    350: (10, 20, 30, 40, 50, 60),
    420: (10, 20, 30, 40, 50, 60, 70, 80),
}

# The hybrids of Table 12, besides the convolution network itself.
_HYBRIDS: Final = ("LLLL", "LLLC", "LLCC", "LCCC", "CLLL", "CCLL", "CCCL")

_RESNET_RS: Final = ResNetConfig(stem="deep", shortcut="pool")

# Squeeze-and-excitation in c2 and c3 alone is what the published parameter counts say.
_LAMBDA_RESNET: Final = replace(_RESNET_RS, layers="CCCL", squeeze_excitation=("c2", "c3"))

# 8×8 grey images, for the demonstration. At the paper's scale of the position tables the noise they
# start from would hide what a short training teaches them.
_DIGITS: Final = ResNetConfig(
    depths=(1, 1, 1, 1),
    widths=(16, 16, 32, 32),
    strides=(1, 1, 2, 1),
    stem="small",
    shortcut="pool",
    lambda_layer=LambdaConfig(query_depth=8, scope_size=7, initialization="unit"),
    image_size=8,
)

# One pair of marks on 20×28 pixels. Nothing is strided: a unit of the convolutions sees 11×11. Branches that
# start at zero would wait long for so small a signal.
_RELATION: Final = replace(
    _DIGITS,
    widths=(8, 8, 8, 8),
    strides=(1, 1, 1, 1),
    lambda_layer=replace(_DIGITS.lambda_layer, scope_size=23),
    zero_gamma=False,
    image_size=(20, 28),
)

# Images of 32 pixels, for recipes of ImageNet made small: everything a LambdaResNet has, in 5 blocks.
_SMALL: Final = replace(
    _DIGITS,
    depths=(1, 1, 2, 1),
    stem="deep",
    layers="CCCL",
    lambda_blocks={"c4": (2,)},
    squeeze_excitation=("c2", "c3"),
    image_size=32,
)
_SMALL_MOBILENET: Final = MobileNetConfig(
    depths=(1, 1, 2, 2, 1, 2, 1),
    widths=(8, 12, 16, 24, 32, 40, 64),
    strides=(1, 1, 2, 2, 1, 1, 1),
    expansions=(1, 3, 3, 3, 3, 3, 3),
    lambda_blocks=(6, 9),
    stem_width=16,
    head_width=128,
    lambda_layer=LambdaConfig(query_depth=8, scope_size=5, initialization="unit"),
    image_size=32,
)
# Dashed paths on 32×32 pixels, which lambda layers follow on 16×16 and 8×8 positions.
_PATHFINDER: Final = replace(
    _DIGITS,
    widths=(16, 16, 16, 16),
    strides=(2, 2, 1, 1),
    lambda_layer=replace(_DIGITS.lambda_layer, scope_size=31),
    zero_gamma=False,
    image_size=32,
)
# Digits on images of 160 pixels, the backbone of a detector. c2 has stride 2: at stride 4 the smallest digits
# are two positions wide. Lambda layers look 9 positions far on maps of 20×20 and 10×10.
_SCENES: Final = ResNetConfig(
    depths=(1, 1, 2, 1),
    widths=(16, 32, 48, 64),
    strides=(2, 2, 2, 2),
    stem="small",
    shortcut="pool",
    lambda_layer=LambdaConfig(query_depth=8, scope_size=19, initialization="unit"),
    image_size=160,
)
# A block more where a ResNet-152 has more than a ResNet-101.
_DEEP_SCENES: Final = (1, 2, 3, 1)

# Photographs of 64 to 160 pixels, some hundred to some ten thousand: small enough for two cores. Lambda
# layers stand in c4 and c5, where a map of 6×6 to 10×10 positions is seen whole.
_PHOTOS: Final = ResNetConfig(
    depths=(1, 1, 2, 1),
    widths=(16, 32, 48, 64),
    strides=(1, 2, 2, 1),
    stem="deep",
    shortcut="pool",
    lambda_layer=LambdaConfig(query_depth=8, scope_size=15, initialization="unit"),
    image_size=96,
)
# For thousands of images and more.
_DEEP_PHOTOS: Final = replace(_PHOTOS, depths=(1, 2, 3, 2), widths=(32, 48, 64, 96), image_size=128)

VARIANTS: Final[dict[str, ResNetConfig | MobileNetConfig]] = {
    **{f"resnet{depth}": ResNetConfig(depths=_DEPTHS[depth]) for depth in (50, 101, 152)},
    **{f"resnet50_{layers.lower()}": ResNetConfig(layers=layers) for layers in _HYBRIDS},
    # Attention of Tables 3 and 4. Attention-augmented convolutions begin at c3.
    **{
        f"resnet50_{mixer}": ResNetConfig(layers="AAAA", mixer=mixer)
        for mixer in ("relative_attention", "axial_attention", "local_attention")
    },
    "resnet50_augmented_convolution": ResNetConfig(layers="CAAA", mixer="augmented_convolution"),
    "resnet50_se": ResNetConfig(squeeze_excitation=STAGES, squeeze_ratio=1 / 16),
    **{
        f"resnet_rs{depth}": replace(_RESNET_RS, depths=depths, squeeze_excitation=STAGES)
        for depth, depths in _DEPTHS.items()
    },
    **{f"resnet_rs{depth}_wo_se": replace(_RESNET_RS, depths=depths) for depth, depths in _DEPTHS.items()},
    **{
        f"lambda_resnet{depth}": replace(
            _LAMBDA_RESNET, depths=depths, lambda_blocks={"c4": _C4_LAMBDAS[depth]}
        )
        for depth, depths in _DEPTHS.items()
    },
    **{
        f"lambda_resnet{depth}_c4": replace(_LAMBDA_RESNET, depths=depths, layers="CCLL")
        for depth, depths in _DEPTHS.items()
    },
    "lambda_resnet_digits": replace(_DIGITS, layers="LLLL"),
    "resnet_digits": _DIGITS,
    "lambda_resnet_relation": replace(_RELATION, layers="LLLL"),
    "resnet_relation": _RELATION,
    "lambda_resnet_small": _SMALL,
    "lambda_mobilenet_small": _SMALL_MOBILENET,
    "lambda_resnet_pathfinder": replace(_PATHFINDER, layers="CLLL"),
    "resnet_pathfinder": _PATHFINDER,
    "lambda_resnet_photos": replace(_PHOTOS, layers="CCLL"),
    "resnet_photos": _PHOTOS,
    "lambda_resnet_photos_deep": replace(_DEEP_PHOTOS, layers="CCLL"),
    "resnet_photos_deep": _DEEP_PHOTOS,
    "lambda_resnet_scenes": replace(_SCENES, layers="CCCL"),
    "resnet_scenes": _SCENES,
    # Beside these two the rows of Table 14 as small: with squeeze-and-excitation, and with more blocks.
    "resnet_scenes_se": replace(_SCENES, squeeze_excitation=STAGES),
    "resnet_scenes_deep": replace(_SCENES, depths=_DEEP_SCENES),
    "resnet_scenes_deep_se": replace(_SCENES, depths=_DEEP_SCENES, squeeze_excitation=STAGES),
    "lambda_resnet_scenes_deep": replace(_SCENES, depths=_DEEP_SCENES, layers="CCCL"),
    "mobilenetv2": MobileNetConfig(),
    # Counted from 1: the last blocks of 64 and of 160 channels.
    "lambda_mobilenetv2": MobileNetConfig(lambda_blocks=(10, 16)),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, such as `"lambda*"`.

    Example:
        >>> list_models("lambda_resnet1*")
        ['lambda_resnet101', 'lambda_resnet101_c4', 'lambda_resnet152', 'lambda_resnet152_c4']
    """
    return sorted(name for name in VARIANTS if fnmatchcase(name, pattern))


def model_config(name: str, **overrides: Any) -> ResNetConfig | MobileNetConfig:
    """The config of a model by its name, with overrides; nothing here needs torch.

    Options of the lambda layers stand beside the others, as in `query_depth=8`. Another pattern of a ResNet's
    `layers` drops the row's `lambda_blocks`, unless these are given too.
    """
    if name not in VARIANTS:
        raise ArgumentError(
            f"create_model: unknown model {name!r}.{did_you_mean(name, VARIANTS)} "
            f"list_models() shows all {len(VARIANTS)}."
        )
    row = VARIANTS[name]
    own, of_lambdas = ([field.name for field in fields(config)] for config in (row, row.lambda_layer))
    for override in overrides:
        if override not in own + of_lambdas:
            raise ArgumentError(
                f"create_model: unknown override {override!r}.{did_you_mean(override, own + of_lambdas)} "
                f"Known: {', '.join(own)}; of the lambda layers: {', '.join(of_lambdas)}."
            )
    if "layers" in overrides:
        overrides = {"lambda_blocks": {}, **overrides}
    plain: dict[str, Any] = {key: _tuples(value) for key, value in overrides.items()}
    lambdas = {key: plain.pop(key) for key in of_lambdas if key in plain}
    layer = fitted("create_model", "lambda_layer", plain.get("lambda_layer", row.lambda_layer), LambdaConfig)
    plain["lambda_layer"] = replace(layer, **lambdas)
    return replace(row, **plain)


def _tuples(value: Any) -> Any:
    """Replace the lists of JSON by tuples, as configs have them."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
