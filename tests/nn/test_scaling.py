"""Channel attention as its formula and as a diagonal lambda; stochastic depth; normalisation of channels."""

import pytest
import torch
from torch import Tensor

from lambdanets.functional import apply_lambdas
from lambdanets.nn import ChannelLayerNorm, FiLM, SqueezeExcitation, StochasticDepth
from support.compare import assert_close, assert_equal


def inputs() -> Tensor:
    return torch.randn(3, 8, 4, 5, dtype=torch.float64)


def applied(lambdas: Tensor, maps: Tensor) -> Tensor:
    """Each position's channels as one query, through the lambda."""
    return apply_lambdas(maps.flatten(2).unsqueeze(1), lambdas).view_as(maps)


def test_squeeze_excitation_is_a_diagonal_lambda() -> None:
    module, maps = SqueezeExcitation(8, 2).double(), inputs()
    hidden = torch.relu(maps.mean((2, 3)) @ module.squeeze.weight[:, :, 0, 0].T + module.squeeze.bias)
    weights = torch.sigmoid(hidden @ module.excite.weight[:, :, 0, 0].T + module.excite.bias)
    assert_close(module(maps), maps * weights[:, :, None, None])
    assert_close(module.lambdas(maps), torch.diag_embed(weights))
    assert_close(applied(module.lambdas(maps), maps), module(maps))


def test_film_is_a_diagonal_lambda_and_a_shift() -> None:
    module, maps = FiLM(8, 3).double(), inputs()
    condition = torch.randn(3, 3, dtype=torch.float64)
    assert_equal(module(maps, condition), maps)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    shifts = condition @ module.to_shifts.weight.T + module.to_shifts.bias
    expected = applied(module.lambdas(condition), maps) + shifts[:, :, None, None]
    assert_close(module(maps, condition), expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_gradients_equal_finite_differences(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(SqueezeExcitation(4, 2).double(), (maps,))
    torch.autograd.gradcheck(FiLM(4, 3).double(), (maps, condition))


@pytest.mark.usefixtures("unchecked")
def test_compiles_whole() -> None:
    torch._dynamo.reset()
    module, maps = SqueezeExcitation(8, 2).double(), inputs()
    assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(maps), module(maps))


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
    with pytest.raises(ValueError, match="SqueezeExcitation: hidden_channels must be at least 1, got 0"):
        SqueezeExcitation(8, 0)
    with pytest.raises(ValueError, match="FiLM: condition_channels must be at least 1, got 0"):
        FiLM(8, 0)
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1, got 1"):
        StochasticDepth(1.0)
