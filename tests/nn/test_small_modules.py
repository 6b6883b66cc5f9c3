"""Stochastic depth and channel normalisation against their formulas."""

import pytest
import torch

from lambdanets.nn import ChannelLayerNorm, StochasticDepth
from support.compare import assert_close, assert_equal


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    module = StochasticDepth(0.25)
    outputs = module(torch.ones(4000, 3, 2))
    kept = outputs[:, 0, 0] != 0
    assert_equal(outputs, kept[:, None, None] * torch.full_like(outputs, 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert_equal(module.eval()(outputs), outputs)


def test_channel_norm_looks_at_one_position() -> None:
    module = ChannelLayerNorm(6).double()
    inputs = torch.randn(2, 6, 5, dtype=torch.float64)
    expected = (inputs - inputs.mean(1, keepdim=True)) / (
        inputs.var(1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    assert_close(module(inputs), expected)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1, got 1"):
        StochasticDepth(1.0)
