"""Small networks for the tools of others, one of them written out, and a way to import such tools."""

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lambdanets.functional import lambda_layer
from lambdanets.functional.relative_position import dense_embeddings
from lambdanets.models import ResNet, create_model
from lambdanets.nn import LambdaLayer2d

IMAGE_SIZE = (20, 17)
PROJECTIONS = ("to_queries", "to_keys", "to_values")


def tool(name: str) -> Any:
    """A module of the extra `interop`, imported when a test needs it; what it warns of is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


class SmallNetwork(nn.Module):
    """A convolution, a lambda layer and a classifier, in float64."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mixer = LambdaLayer2d(8, query_depth=4, num_heads=2, **{"scope_size": 5, **options})
        self.classifier = nn.Linear(8, 3)
        self.double()
        move_norms(self, images(8))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.mixer(self.stem(images)).mean((2, 3)))


def small_resnet(**options: Any) -> ResNet:
    """A LambdaResNet of four blocks, in float64, for images of 20×17."""
    model = create_model(
        "lambda_resnet50",
        **{
            "num_classes": 3,
            "layers": "LLLL",
            "depths": (1, 1, 1, 1),
            "widths": (8, 8, 8, 8),
            "query_depth": 4,
            "num_heads": 2,
            "scope_size": 5,
            "stem": "small",
            "zero_gamma": False,
            "initialization": "unit",
            **options,
        },
    ).double()
    move_norms(model, images(8, IMAGE_SIZE))
    return model


def move_norms(model: nn.Module, batch: Tensor) -> None:
    """Give batch norms scales, shifts, and the statistics of a batch, all of which change what passes."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.momentum = 0.9
    model(batch)


def images(batch: int = 2, size: tuple[int, int] = (6, 5)) -> Tensor:
    return torch.randn(batch, 3, *size, dtype=torch.float64)


def projected(network: SmallNetwork, batch: Tensor, weights: dict[str, Tensor] | None = None) -> list[Tensor]:
    """Queries, keys and values of the lambda layer by plain products, before their norms: "b d n"."""
    layer, maps = network.mixer, network.stem(batch).flatten(2)
    chosen = {name: getattr(layer, name).weight for name in PROJECTIONS} | (weights or {})
    return [torch.einsum("od,bdn->bon", chosen[name].flatten(1), maps) for name in PROJECTIONS]


def written_out(network: SmallNetwork, size: torch.Size, maps: list[Tensor]) -> Tensor:
    """The rest of the network in eval mode: the paper's listing, with norms and products written out."""
    layer = network.mixer
    queries, keys, values = maps
    b, _, n = keys.shape
    queries, values = _normalized(queries, layer.norm_queries), _normalized(values, layer.norm_values)
    output = lambda_layer(
        queries.reshape(b, layer.num_heads, layer.query_depth, n),
        keys.reshape(b, layer.intra_depth, layer.query_depth, n),
        values.reshape(b, layer.intra_depth, -1, n),
        dense_embeddings(layer.position.table, tuple(size)),
        key_normalization=layer.key_normalization,
    )
    return network.classifier(output.reshape(b, -1, n).mean(2))


def _normalized(maps: Tensor, norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.BatchNorm2d)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (maps - norm.running_mean[:, None]) * scale[:, None] + norm.bias[:, None]
