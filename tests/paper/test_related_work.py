"""Table 3: parameters of the networks it compares with, as their own papers describe them."""

import pytest
from torch import nn

from lambdanets.models import on_meta
from lambdanets.nn import LocalRelation2d
from lambdanets.paper.related_work import PARTS, Relation, _self_attention_network


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


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
def test_self_attention_networks(blocks: tuple[int, ...], relation: Relation, published_m: float) -> None:
    """Zhao (2020) publishes six; Table 3 has the last, which is patchwise and no ResNet-50."""
    with on_meta():
        counted = parameters(*_self_attention_network(blocks, relation))
    assert round(counted / 1e6, 1) == published_m


def test_the_one_of_table_3_is_the_largest() -> None:
    with on_meta():
        assert parameters(*PARTS["patchwise_san19"]()) == 20_518_470


def test_double_attention_is_open_in_the_last_digit() -> None:
    """33.0 M are published: blocks of half the channels, two behind c3 and three behind c4, are 32.9 M."""
    with on_meta():
        counted = parameters(*PARTS["double_attention_resnet50"]())
    assert counted == 25_557_032 + 2 * 2 * 512**2 + 3 * 2 * 1024**2
    assert round(counted / 1e6, 1) == 32.9


def test_local_relation_is_open_in_the_last_digit() -> None:
    """23.3 M are published; bottlenecks of 100 to 800 channels are 23.4 M, of which 0.05 geometry."""
    with on_meta():
        modules = PARTS["local_relation_resnet50"]()
        geometry = [module.geometry for module in modules if isinstance(module, LocalRelation2d)]
        plain = [
            nn.Conv2d(width, width, 1, bias=False)
            for width, count in ((100, 3), (200, 4), (400, 6), (800, 3))
            for _ in range(count)
        ]
    assert len(geometry) == 16
    assert parameters(*modules) == 23_401_683
    assert (parameters(*modules) - parameters(*geometry)) / 1e6 == pytest.approx(23.35, abs=0.01)
    assert (parameters(*modules) - parameters(*plain)) / 1e6 == pytest.approx(20.3, abs=0.05)
