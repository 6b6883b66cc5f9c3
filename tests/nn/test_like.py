"""`like`: layers in place of convolutions, and strides other than the paper's."""

import pytest
import torch
from torch import nn

from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.models import on_meta
from lambdanets.nn import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
from support.compare import assert_close, assert_equal

LAYERS = {1: (nn.Conv1d, LambdaLayer1d), 2: (nn.Conv2d, LambdaLayer2d), 3: (nn.Conv3d, LambdaLayer3d)}


@pytest.mark.parametrize("size", [(14, 14), (13, 9), (28, 21)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (2, 1), 3], ids=str)
def test_sizes_and_scale_are_the_convolutions(stride, size) -> None:
    convolution = nn.Conv2d(48, 64, 3, stride=stride, padding=1)
    inputs = torch.randn(2, 48, *size)
    with torch.no_grad():
        output, expected = LambdaLayer2d.like(convolution)(inputs), convolution(inputs)
    assert output.shape == expected.shape
    assert 0.5 < output.std() / expected.std() < 2


@pytest.mark.parametrize(
    "options",
    [
        {"scope_size": 3, "num_heads": 8, "query_depth": 4},
        {"initialization": "paper"},
        {"scope_size": None, "feature_size": (13, 9)},
        {"normalization": "none"},
        {"normalization": "layer", "intra_depth": 2},
        {"key_normalization": "softmax_keys_and_queries"},
        {"key_normalization": "none", "feature_size": (13, 9)},
        {"positional": False, "feature_size": (13, 9)},
        {"content": False},
    ],
    ids=str,
)
def test_scale_is_measured_whatever_the_options(options: dict) -> None:
    convolution = nn.Conv2d(48, 64, 3, padding=1)
    inputs = torch.randn(2, 48, 13, 9)
    layer = LambdaLayer2d.like(convolution, **options)
    with torch.no_grad():
        assert 0.5 < layer(inputs).std() / convolution(inputs).std() < 2
    assert layer.num_heads == options.get("num_heads", 4)


def test_scale_follows_the_weights_of_the_convolution() -> None:
    convolution = nn.Conv2d(48, 64, 3, padding=1)
    torch.manual_seed(1)
    layer = LambdaLayer2d.like(convolution)
    with torch.no_grad():
        convolution.weight.mul_(10)
    torch.manual_seed(1)
    tenfold = LambdaLayer2d.like(convolution)
    assert_close(tenfold.norm_values.weight, 10 * layer.norm_values.weight, torch.float32)
    for name, tensor in layer.state_dict().items():
        if name != "norm_values.weight":
            assert_equal(tenfold.state_dict()[name], tensor)


def test_measuring_leaves_nothing_but_the_factor() -> None:
    """No running statistics, no random numbers, no other names in the state."""
    convolution = nn.Conv2d(16, 16, 3, padding=1)
    torch.manual_seed(1)
    layer = LambdaLayer2d.like(convolution)
    behind = torch.rand(1)
    torch.manual_seed(1)
    plain = LambdaLayer2d(16, initialization="unit")
    assert_equal(torch.rand(1), behind)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        if name != "norm_values.weight":
            assert_equal(layer.state_dict()[name], tensor)
    assert layer.norm_values.weight.unique().numel() == 1


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_number_of_axes(axes: int) -> None:
    kind, layer_kind = LAYERS[axes]
    stride = (2, 1, 3)[:axes]
    convolution = kind(8, 16, 5, stride=stride, padding=4, dilation=2)
    layer = layer_kind.like(convolution, scope_size=3)
    inputs = torch.randn(2, 8, *(11, 6, 7)[:axes])
    with torch.no_grad():
        output, expected = layer(inputs), convolution(inputs)
    assert type(layer) is layer_kind and output.shape == expected.shape
    assert 0.4 < output.std() / expected.std() < 2.5


@pytest.mark.parametrize(("channels", "heads"), [(12, 4), (6, 2), (3, 1), (10, 2)])
def test_heads_divide_the_channels(channels: int, heads: int) -> None:
    assert LambdaLayer2d.like(nn.Conv2d(5, channels, 3, padding="same")).num_heads == heads


def test_dtype_device_and_mode_are_the_convolutions() -> None:
    convolution = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False, dtype=torch.float64).eval()
    layer = LambdaLayer2d.like(convolution)
    assert {one.dtype for one in layer.parameters()} == {torch.float64} and not layer.training
    assert LambdaLayer2d.like(convolution.bfloat16()).to_keys.weight.dtype == torch.bfloat16
    with on_meta():
        convolution = nn.Conv2d(8, 8, 3, stride=2, padding=1)
    assert {one.device.type for one in LambdaLayer2d.like(convolution).parameters()} == {"meta"}


def test_a_network_without_norms_learns() -> None:
    def network(make) -> nn.Module:
        torch.manual_seed(0)
        first = make(nn.Conv2d(1, 16, 3, padding=1))
        second = make(nn.Conv2d(16, 16, 3, stride=2, padding=1))
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))

    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 2
    images[labels == 1, :, :4] += 1
    model = network(lambda one: LambdaLayer2d.like(one, scope_size=7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 2 and losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("stride", "side"), [(2, 3), (3, 3), (4, 5), (5, 5)])
def test_a_pool_is_the_mean_around_each_position_that_stays(stride: int, side: int) -> None:
    plain = LambdaLayer1d(8, scope_size=3).double()
    strided = LambdaLayer1d(8, scope_size=3, stride=stride).double()
    strided.load_state_dict(plain.state_dict())
    inputs = torch.randn(2, 8, 13, dtype=torch.float64)
    full, reach = plain(inputs), side // 2
    means = [full[..., max(x - reach, 0) : x + reach + 1].mean(-1) for x in range(0, 13, stride)]
    assert_close(strided(inputs), torch.stack(means, dim=-1))


def test_an_axis_without_a_stride_is_not_pooled() -> None:
    plain = LambdaLayer2d(8, scope_size=3).double()
    strided = LambdaLayer2d(8, scope_size=3, stride=(1, 2)).double()
    strided.load_state_dict(plain.state_dict())
    inputs = torch.randn(2, 8, 4, 7, dtype=torch.float64)
    rows = nn.functional.avg_pool1d(plain(inputs).flatten(0, 2), 3, 2, 1, count_include_pad=False)
    assert_close(strided(inputs), rows.view(2, 8, 4, 4))


WRONG = {
    "transposed": (
        lambda: nn.ConvTranspose2d(8, 8, 3),
        "LambdaLayer2d.like: convolution must be a torch.nn.Conv2d, got a ConvTranspose2d.",
    ),
    "another number of axes": (
        lambda: nn.Conv1d(8, 8, 3),
        "LambdaLayer2d.like: convolution must be a torch.nn.Conv2d, got a Conv1d.",
    ),
    "lazy": (
        lambda: nn.LazyConv2d(8, 3, padding=1),
        "LambdaLayer2d.like: convolution must know its channels, got a LazyConv2d. Call it once first.",
    ),
    "no padding": (
        lambda: nn.Conv2d(8, 8, 3, dilation=(2, 1)),
        "LambdaLayer2d.like: convolution must have padding (2, 1), which keeps the size of maps but for the"
        " stride, got (0, 0) with kernel_size (3, 3) and dilation (2, 1).",
    ),
    "valid": (
        lambda: nn.Conv2d(8, 8, 3, padding="valid"),
        "LambdaLayer2d.like: convolution must have padding (1, 1), which keeps the size of maps but for the"
        " stride, got 'valid' with kernel_size (3, 3) and dilation (1, 1).",
    ),
    "patches": (
        lambda: nn.Conv2d(8, 8, 4, stride=4),
        "LambdaLayer2d.like: convolution must have padding (1, 1), which keeps the size of maps but for the"
        " stride, got (0, 0) with kernel_size (4, 4) and dilation (1, 1). An even kernel has none that does.",
    ),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_a_layer_cannot_stand_for_is_refused(make, message: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
        LambdaLayer2d.like(make())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2}, "stride must be left out, got 2. It is that of the convolution, (1, 1)."),
        ({"out_channels": 4}, "out_channels must be left out, got 4. It is that of the convolution, 8."),
        ({"in_channels": 4}, "in_channels must be left out, got 4. It is that of the convolution, 8."),
    ],
)
def test_what_comes_from_the_convolution_is_not_given(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LambdaLayer2d.like(nn.Conv2d(8, 8, 3, padding=1), **options)
    assert str(caught.value) == f"LambdaLayer2d.like: {message}"


@pytest.mark.parametrize("stride", [0, (2, 2, 2), (1, -1)])
def test_a_stride_is_one_positive_number_for_each_axis(stride) -> None:
    with pytest.raises(ArgumentError) as caught:
        LambdaLayer2d(8, stride=stride)
    assert (
        str(caught.value) == f"LambdaLayer2d: stride must be a positive number, or 2 of them, got {stride}."
    )
