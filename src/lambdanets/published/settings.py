"""Published settings and detection: Tables 14, 19 and 20."""

from typing import Final

from lambdanets.published.rows import Number, Row

_AP: Final = tuple(
    f"{kind}_ap{part}" for kind in ("box", "mask") for part in ("", "_small", "_medium", "_large")
)


def _table14(label: str, model: str, *precision: Number) -> Row:
    return Row(
        table=14,
        label=label,
        model=model,
        image_size=1024,
        values=dict(zip(_AP, precision, strict=True)),
    )


TABLE_14: Final = (
    _table14("ResNet-101", "resnet_rs101_wo_se", 48.2, 29.9, 50.9, 64.9, 42.6, 24.2, 45.6, 60.0),
    _table14("ResNet-101 + SE", "resnet_rs101", 48.5, 29.9, 51.5, 65.3, 42.8, 24.0, 46.0, 60.2),
    _table14("LambdaResNet-101", "lambda_resnet101", 49.4, 31.7, 52.2, 65.6, 43.5, 25.9, 46.5, 60.8),
    _table14("ResNet-152", "resnet_rs152_wo_se", 48.9, 29.9, 51.8, 66.0, 43.2, 24.2, 46.1, 61.2),
    _table14("ResNet-152 + SE", "resnet_rs152", 49.4, 30.0, 52.3, 66.7, 43.5, 24.6, 46.8, 61.8),
    _table14("LambdaResNet-152", "lambda_resnet152", 50.0, 31.8, 53.4, 67.0, 43.9, 25.5, 47.3, 62.0),
)


def _table19(depth: int, blocks: str, lambdas: str) -> Row:
    return Row(
        table=19,
        label=f"LambdaResNet-{depth}",
        model=f"lambda_resnet{depth}",
        values={"blocks": blocks, "c4_lambdas": lambdas},
    )


TABLE_19: Final = (
    _table19(50, "3-4-6-3", "3"),
    _table19(101, "3-4-23-3", "6, 12, 18"),
    _table19(152, "3-8-36-3", "5, 10, 15, 20, 25, 30"),
    _table19(200, "3-24-36-3", "5, 10, 15, 20, 25, 30"),
    _table19(270, "4-29-53-4", "8, 16, 24, 32, 40, 48"),
    _table19(350, "4-36-72-4", "10, 20, 30, 40, 50, 60"),
    _table19(420, "4-44-87-4", "10, 20, 30, 40, 50, 60, 70, 80"),
)


def _table20(depth: int, size: int, magnitude: int, dropout: Number, stochastic_depth: Number) -> Row:
    return Row(
        table=20,
        label=f"LambdaResNet-{depth} at {size}",
        model=f"lambda_resnet{depth}",
        image_size=size,
        values={
            "augmentation": magnitude,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
        },
    )


TABLE_20: Final = (
    *(_table20(50, size, 10, 0.2, 0.0) for size in (128, 160)),
    _table20(101, 160, 10, 0.3, 0.0),
    _table20(101, 192, 15, 0.2, 0.0),
    _table20(152, 192, 15, 0.3, 0.0),
    *(_table20(152, size, 15, 0.3, 0.1) for size in (224, 256, 288)),
    _table20(270, 256, 15, 0.3, 0.1),
    *(_table20(350, size, 15, 0.3, 0.2) for size in (256, 288, 320)),
    _table20(420, 320, 15, 0.3, 0.2),
)
