"""Table 3: parameters of the networks it compares with, as their own papers describe them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lambdanets import create_model
from lambdanets.nn import LinearAttention2d, LocalRelation2d, VectorAttention2d

PAGE = (Path(__file__).resolve().parents[2] / "docs/reproduction.md").read_text()


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(
    ("model", "published_m"),
    [
        ("resnet50_se", 28.1),
        ("resnet50_augmented_convolution", 25.8),
        ("resnet50_local_attention", 18.0),
    ],
)
def test_resnet50_with_attention(model: str, published_m: float) -> None:
    with torch.device("meta"):
        counted = parameters(create_model(model))
    assert round(counted / 1e6, 1) == published_m
    assert f"`{model}` | {published_m} | {counted} |" in PAGE


def san_block(d: int, window_size: int, relation: str) -> list[nn.Module]:
    """Norm, attention from d to d / 4 channels, norm, 1×1 convolution with a bias."""
    e = d // 16
    attention = VectorAttention2d(d, d // 4, relation=relation, relation_channels=e, window_size=window_size)
    return [nn.BatchNorm2d(d), attention, nn.BatchNorm2d(d // 4), nn.Conv2d(d // 4, d, 1)]


@pytest.mark.parametrize(
    ("blocks", "relation", "published_m"),
    [
        ((2, 1, 2, 4, 1), "pairwise", 10.5),
        ((2, 1, 2, 4, 1), "patchwise", 11.8),
        ((3, 2, 3, 5, 2), "pairwise", 14.1),
        ((3, 2, 3, 5, 2), "patchwise", 16.2),
        ((3, 3, 4, 6, 3), "pairwise", 17.6),
        ((3, 3, 4, 6, 3), "patchwise", 20.5),
    ],
)
def test_self_attention_networks(blocks: tuple[int, ...], relation: str, published_m: float) -> None:
    """Zhao (2020) publishes six; Table 3 has the last, which is patchwise and no ResNet-50."""
    with torch.device("meta"):
        modules: list[nn.Module] = [
            nn.Conv2d(3, 64, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.Linear(2048, 1000),
        ]
        before = 64
        for d, count, window_size in zip((64, 256, 512, 1024, 2048), blocks, (3, 7, 7, 7, 7), strict=True):
            modules += [nn.Conv2d(before, d, 1, bias=False), nn.BatchNorm2d(d)]
            for _ in range(count):
                modules += san_block(d, window_size, relation)
            before = d
    assert round(parameters(*modules) / 1e6, 1) == published_m
    assert published_m != 20.5 or f"| {published_m} | {parameters(*modules)} |" in PAGE


def test_double_attention_is_open_in_the_last_digit() -> None:
    """33.0 M are published: blocks of half the channels, two behind c3 and three behind c4, are 32.9 M."""
    with torch.device("meta"):
        blocks = [
            LinearAttention2d(d, num_heads=1, query_depth=d // 2)
            for d, count in ((512, 2), (1024, 3))
            for _ in range(count)
        ]
        counted = parameters(create_model("resnet50"), *blocks)
    assert counted == 25_557_032 + 2 * 2 * 512**2 + 3 * 2 * 1024**2
    assert round(counted / 1e6, 1) == 32.9
    assert f"| 33.0 | {counted} |" in PAGE


def test_local_relation_is_open_in_the_last_digit() -> None:
    """23.3 M are published; bottlenecks of 100 to 800 channels are 23.4 M, of which 0.05 geometry."""
    widths, outputs, depths = (100, 200, 400, 800), (256, 512, 1024, 2048), (3, 4, 6, 3)
    with torch.device("meta"):
        resnet = create_model("resnet50")
        modules: list[nn.Module] = [resnet.stem, resnet.classifier]
        geometry: list[nn.Module] = []
        before = 64
        for width, d, depth in zip(widths, outputs, depths, strict=True):
            modules += [nn.Conv2d(before, d, 1, bias=False), nn.BatchNorm2d(d)]
            for _ in range(depth):
                layer = LocalRelation2d(width)
                geometry.append(layer.geometry)
                modules += [nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), layer]
                modules += [nn.BatchNorm2d(width), nn.Conv2d(width, d, 1, bias=False), nn.BatchNorm2d(d)]
                before = d
    assert round(parameters(*modules) / 1e6, 1) == 23.4
    assert f"| 23.3 | {parameters(*modules)} |" in PAGE
    assert (parameters(*modules) - parameters(*geometry)) / 1e6 == pytest.approx(23.35, abs=0.01)
    with torch.device("meta"):
        plain = [
            nn.Conv2d(w, w, 1, bias=False) for w, n in zip(widths, depths, strict=True) for _ in range(n)
        ]
    assert (parameters(*modules) - parameters(*plain)) / 1e6 == pytest.approx(20.3, abs=0.05)
