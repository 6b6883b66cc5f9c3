"""Baselines of timm: their published sizes, and what is said where timm does not import."""

import sys

import pytest

from lambdanets.analysis.counting import count_layers
from lambdanets.errors import DependencyError
from lambdanets.integrations.timm import BASELINES, create_baseline
from lambdanets.models import on_meta
from support.baselines import baseline_or_skip


@pytest.mark.parametrize(
    ("name", "parameters_m"),
    [
        # Tan and Le 2019, Table 2; the LambdaNetworks paper has 43 for B6 in Table 15.
        ("efficientnet_b0", 5.3),
        ("efficientnet_b4", 19.3),
        ("efficientnet_b6", 43.0),
        # Table 17.
        ("mobilenetv2_100", 3.5),
        # Table 13: ResNet-101 with squeeze-and-excitation.
        ("resnetrs101", 63.6),
        # Table 5 prints 307, which no head of 1000 classes gives.
        ("vit_large_patch16_384", 304.7),
    ],
)
def test_parameters_are_the_published(name: str, parameters_m: float) -> None:
    with on_meta():
        model = baseline_or_skip(name)
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, 1) == parameters_m


@pytest.mark.slow
def test_flops_of_efficientnet_b6_are_those_of_table_16() -> None:
    with on_meta():
        model = baseline_or_skip("efficientnet_b6")
    layers = count_layers(model, (3, 528, 528))
    assert round(sum(layer.flops for layer in layers) / 1e9) == 38


@pytest.mark.slow
def test_every_name_is_one_of_timm() -> None:
    for name in BASELINES:
        with on_meta():
            model = baseline_or_skip(name, num_classes=7, in_channels=1)
        assert model.num_classes == 7
        assert next(model.parameters()).numel() > 0


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_name_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"create_baseline: unknown model 'efficientnet_b9'\. Closest: efficientnet_b\d.* Known: eff",
    ):
        create_baseline("efficientnet_b9")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    message = r"create_baseline: timm must be installed, got '.*timm.*'\. pip install timm\."
    with pytest.raises(DependencyError, match=message):
        create_baseline("resnetrs50")
