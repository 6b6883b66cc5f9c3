"""The parts of three networks of Table 3 that this library has no model for, to count their parameters.

Zhao's published code was read; the other two are what is remembered of their papers. A count that fits
supports the reading and does not prove it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from torch import nn

from lambdanets.models import create_model
from lambdanets.nn import LinearAttention2d, LocalRelation2d, VectorAttention2d

Relation = Literal["pairwise", "patchwise"]


def double_attention_resnet50() -> list[nn.Module]:
    """Chen (2018): two blocks of half the channels behind c3 of a ResNet-50, and three behind c4."""
    blocks = [
        LinearAttention2d(channels, num_heads=1, query_depth=channels // 2)
        for channels, count in ((512, 2), (1024, 3))
        for _ in range(count)
    ]
    return [create_model("resnet50"), *blocks]


def local_relation_resnet50() -> list[nn.Module]:
    """Hu (2019): a ResNet-50 with local relation in bottlenecks of 100, 200, 400 and 800 channels."""
    resnet = create_model("resnet50")
    modules: list[nn.Module] = [resnet.stem, resnet.classifier]
    before = 64
    for width, out, depth in zip((100, 200, 400, 800), (256, 512, 1024, 2048), (3, 4, 6, 3), strict=True):
        modules += [nn.Conv2d(before, out, 1, bias=False), nn.BatchNorm2d(out)]
        for _ in range(depth):
            modules += [
                nn.Conv2d(before, width, 1, bias=False),
                nn.BatchNorm2d(width),
                LocalRelation2d(width),
            ]
            modules += [nn.BatchNorm2d(width), nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)]
            before = out
    return modules


def _self_attention_network(blocks: tuple[int, ...], relation: Relation) -> list[nn.Module]:
    """Zhao (2020): five groups of blocks of norm, attention from d to d / 4 channels, norm, 1×1 convolution.

    Args:
        blocks: Number of blocks of each group.
        relation: `"pairwise"` or `"patchwise"`.
    """
    modules: list[nn.Module] = [nn.Conv2d(3, 64, 1, bias=False), nn.BatchNorm2d(64), nn.Linear(2048, 1000)]
    before = 64
    for channels, count, window_size in zip((64, 256, 512, 1024, 2048), blocks, (3, 7, 7, 7, 7), strict=True):
        modules += [nn.Conv2d(before, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        narrow = channels // 4
        for _ in range(count):
            attention = VectorAttention2d(
                channels, narrow, relation=relation, relation_channels=channels // 16, window_size=window_size
            )
            modules += [nn.BatchNorm2d(channels), attention, nn.BatchNorm2d(narrow)]
            modules.append(nn.Conv2d(narrow, channels, 1))
        before = channels
    return modules


# By the names of the published rows; of Zhao's networks the largest is the one of Table 3.
PARTS: Final[dict[str, Callable[[], list[nn.Module]]]] = {
    "double_attention_resnet50": double_attention_resnet50,
    "local_relation_resnet50": local_relation_resnet50,
    "patchwise_san19": partial(_self_attention_network, (3, 3, 4, 6, 3), "patchwise"),
}
