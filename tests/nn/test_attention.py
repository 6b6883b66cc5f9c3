"""Attention layers against the loops of their equations, on any map; gradients, names, errors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, unfold

from lambdanets.nn import (
    AugmentedConvolution2d,
    AxialAttention2d,
    GlobalAttention2d,
    LinearAttention2d,
    LocalAttention2d,
    LocalRelation2d,
    VectorAttention2d,
)
from support.attention import loop_attention, loop_relation
from support.compare import assert_close

# Each from 12 channels to 8, with a stride.
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "global": lambda stride: GlobalAttention2d(12, 8, num_heads=2, stride=stride),
    "relative": lambda stride: GlobalAttention2d(12, 8, num_heads=2, feature_size=(4, 5), stride=stride),
    "axial": lambda stride: AxialAttention2d(12, 8, num_heads=2, feature_size=(4, 5), stride=stride),
    "augmented": lambda stride: AugmentedConvolution2d(
        12, 8, num_heads=2, value_ratio=0.5, feature_size=(4, 5), stride=stride
    ),
    "efficient": lambda stride: LinearAttention2d(12, 8, num_heads=2, stride=stride),
    "double": lambda stride: LinearAttention2d(
        12, 8, num_heads=1, query_depth=3, value_depth=5, stride=stride
    ),
    "local": lambda stride: LocalAttention2d(12, 8, num_heads=2, window_size=3, stride=stride),
    "relation": lambda stride: LocalRelation2d(12, 8, shared_channels=3, window_size=3, stride=stride),
    "pairwise": lambda stride: VectorAttention2d(12, 8, shared_channels=4, window_size=3, stride=stride),
    "patchwise": lambda stride: VectorAttention2d(
        12, 8, relation="patchwise", shared_channels=4, window_size=3, stride=stride
    ),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def make(name: str, stride: int = 1) -> nn.Module:
    layer = LAYERS[name](stride).double().eval()
    for norm in layer.modules():
        # Off the kink of the ReLU behind it, where an element and itself, or what is off the map, are.
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.1, 0.2)
    return layer


def images(*size: int, b: int = 2) -> Tensor:
    return torch.randn(b, 12, *size, dtype=torch.float64)


def heads(layer: nn.Module, maps: Tensor) -> list[Tensor]:
    """Queries, keys and values of two heads."""
    projections = (layer.to_queries, layer.to_keys, layer.to_values)
    return [conv2d(maps, one.weight, one.bias).unflatten(1, (2, -1)) for one in projections]


def test_global_attention_without_positions() -> None:
    layer, maps = make("global"), images(3, 4)
    assert_close(layer(maps), loop_attention(*heads(layer, maps)).flatten(1, 2))


def test_global_attention_with_relative_rows_and_columns() -> None:
    layer, maps = make("relative"), images(3, 4)
    tables = [layer.product.rows, layer.product.columns]
    assert_close(layer(maps), loop_attention(*heads(layer, maps), tables).flatten(1, 2))


def test_axial_attention_is_rows_and_then_columns() -> None:
    layer, maps = make("axial"), images(3, 4)
    expected = maps
    for part, line in ((layer.rows, 3), (layer.columns, 4)):
        parts = heads(part, expected)
        lines = [
            loop_attention(*(one.select(line, place) for one in parts), [part.product.table])
            for place in range(expected.shape[line - 1])
        ]
        expected = torch.stack(lines, dim=line).flatten(1, 2)
    assert_close(layer(maps), expected)


def test_local_attention_has_a_half_of_the_depth_for_each_axis() -> None:
    layer, maps = make("local"), images(3, 4)
    rows, columns = layer.product.rows, layer.product.columns
    assert rows.shape == columns.shape == (2, 3)
    tables = [torch.cat([rows, 0 * columns]), torch.cat([0 * rows, columns])]
    assert_close(layer(maps), loop_attention(*heads(layer, maps), tables, (3, 3)).flatten(1, 2))


def test_local_relation_shares_weights_in_groups_of_channels() -> None:
    """Eight channels in groups of three: the last has two."""
    layer, maps = make("relation"), images(3, 4)
    q, k, v = (one(maps) for one in (layer.to_queries, layer.to_keys, layer.to_values))
    first, _, second = layer.geometry
    prior = torch.zeros(3, 3, 3, dtype=torch.float64)
    for row in range(3):
        for column in range(3):
            offset = torch.tensor([row - 1.0, column - 1.0], dtype=torch.float64)
            hidden = torch.relu(first.weight[:, :, 0, 0] @ offset + first.bias)
            prior[:, row, column] = second.weight[:, :, 0, 0] @ hidden + second.bias
    groups = torch.cat([v, torch.zeros_like(v[:, :1])], dim=1).unflatten(1, (3, 3))
    expected = loop_relation(q.unsqueeze(2), k.unsqueeze(2), groups, prior)
    assert_close(layer(maps), expected.flatten(1, 2)[:, :8])


def test_pairwise_attention_asks_its_network_for_each_pair() -> None:
    layer, maps = make("pairwise"), images(3, 4)
    q, k, v = (one(maps) for one in (layer.to_queries, layer.to_keys, layer.to_values))
    for at in [(0, 0), (1, 2), (2, 3)]:
        near = [(y, x) for y in range(3) for x in range(4) if max(abs(y - at[0]), abs(x - at[1])) <= 1]
        logits = []
        for to in near:
            step = torch.tensor([at[0] - to[0], (at[1] - to[1]) * 2 / 3], dtype=torch.float64)
            place = layer.to_places.weight[:, :, 0, 0] @ step
            pair = torch.cat([q[:, :, *at] - k[:, :, *to], place.expand(2, -1)], dim=1)
            logits.append(layer.to_weights(pair[:, :, None, None])[:, :, 0, 0])
        weights = torch.stack(logits, dim=-1).softmax(-1).repeat_interleave(4, dim=1)  # b d m
        seen = torch.stack([v[:, :, *to] for to in near], dim=-1)
        assert_close(layer(maps)[:, :, *at], (weights * seen).sum(-1))


def test_patchwise_attention_asks_its_network_for_each_window() -> None:
    layer, maps = make("patchwise"), images(3, 4)
    q, k, v = (one(maps) for one in (layer.to_queries, layer.to_keys, layer.to_values))
    patches = unfold(k, 3, padding=1).view(2, -1, 3, 4)
    weights = layer.to_weights(torch.cat([q, patches], dim=1)).view(2, 2, 1, 9, 12)
    windows = unfold(v, 3, padding=1).view(2, 2, 4, 9, 12)
    assert_close(layer(maps), (weights * windows).sum(3).view(2, 8, 3, 4))


@pytest.mark.parametrize(("name", "h"), [("efficient", 2), ("double", 1)])
def test_linear_attention_gathers_and_distributes(name: str, h: int) -> None:
    layer, maps = make(name), images(3, 4)
    inner = layer.attention
    q, k, v = (
        conv2d(maps, one.weight).unflatten(1, (h, -1)).flatten(3)
        for one in (inner.to_queries, inner.to_keys, inner.to_values)
    )
    gathered = torch.einsum("bhkn,bhvn->bhkv", k.softmax(-1), v)
    output = torch.einsum("bhkn,bhkv->bhvn", q.softmax(2), gathered).reshape(2, -1, 3, 4)
    assert_close(layer(maps), conv2d(output, layer.to_outputs.weight))


@pytest.mark.parametrize("stride", [1, 2])
def test_augmented_convolution_has_attention_behind_its_channels(stride: int) -> None:
    layer, maps = make("augmented", stride), images(3, 4)
    inner = layer.attention
    pooled = avg_pool2d(maps, 3, 2, 1, count_include_pad=False) if stride == 2 else maps
    tables = [inner.product.rows, inner.product.columns]
    attended = loop_attention(*heads(inner, pooled), tables).flatten(1, 2)
    convolved = conv2d(maps, layer.convolution.weight, stride=stride, padding=1)
    mixed = conv2d(attended, layer.to_outputs.weight)
    assert_close(layer(maps), torch.cat([convolved, mixed], dim=1))
    assert mixed.shape[1] == 4
    assert inner.to_queries.out_channels == 2 * 20


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2), (6, 6)])
@each_layer
def test_any_map_and_stride(name: str, size: tuple[int, int]) -> None:
    maps = images(*size)
    plain = make(name)(maps)
    assert plain.shape == (2, 8, *size)
    assert plain.isfinite().all()
    strided = make(name, 2)(maps)
    assert strided.shape == (2, 8, *(-(-side // 2) for side in size))
    assert_close(make(name).requires_grad_(False)(maps[:0]), plain[:0])


@each_layer
def test_channels_last_inputs_give_the_same(name: str) -> None:
    layer, maps = make(name), images(4, 5)
    assert_close(layer(maps.contiguous(memory_format=torch.channels_last)), layer(maps))


@each_layer
def test_gradients_equal_finite_differences(name: str) -> None:
    layer, maps = make(name), images(2, 3, b=1).requires_grad_()
    torch.autograd.gradcheck(layer, (maps,), fast_mode=True)
    names = [name for name, _ in layer.named_parameters()]
    values = tuple(layer.parameters())

    def of_parameters(*values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (maps.detach(),))

    torch.autograd.gradcheck(of_parameters, values, fast_mode=True)


def test_tables_of_a_larger_map_are_interpolated_and_of_a_smaller_one_cropped() -> None:
    layer = make("relative")
    layer.product.rows.data.copy_(torch.arange(-3.0, 4.0).expand(4, 7))
    for length, step in ((2, 1.0), (4, 1.0), (7, 0.5)):
        maps = images(length, 5)
        offsets = step * torch.arange(-length + 1.0, length, dtype=torch.float64).expand(4, -1)
        expected = loop_attention(*heads(layer, maps), [offsets, layer.product.columns])
        assert_close(layer(maps), expected.flatten(1, 2))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
@each_layer
def test_compiles_whole(name: str) -> None:
    layer, maps = make(name, 2), images(5, 4)
    assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(maps), layer(maps))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: GlobalAttention2d(12, 9, num_heads=2),
            "GlobalAttention2d: out_channels must be divisible by num_heads, got 9 and 2",
        ),
        (lambda: GlobalAttention2d(12, stride=3, num_heads=2), "stride must be 1 or 2, got 3"),
        (lambda: GlobalAttention2d(0), "in_channels must be at least 1, got 0"),
        (lambda: LinearAttention2d(12, num_heads=0), "num_heads must be at least 1, got 0"),
        (lambda: LinearAttention2d(12, num_heads=2, value_depth=0), "value_depth must be at least 1, got 0"),
        (
            lambda: AxialAttention2d(12, num_heads=2, feature_size=(2, 2), stride=3),
            "AxialAttention2d: stride must be 1 or 2, got 3",
        ),
        (
            lambda: LocalAttention2d(8, num_heads=8),
            "LocalAttention2d: query_depth must be at least 2, a half for each axis, got 1",
        ),
        (lambda: LocalAttention2d(12, num_heads=2, window_size=4), "window_size must be odd, got 4"),
        (
            lambda: AugmentedConvolution2d(8, num_heads=8, feature_size=(2, 2)),
            "AugmentedConvolution2d: out_channels must be more than the 8 of attention, got 8. Fewer heads",
        ),
        (
            lambda: VectorAttention2d(12),
            "VectorAttention2d: out_channels must be divisible by shared_channels, got 12 and 8",
        ),
        (
            lambda: VectorAttention2d(8, relation="patch"),
            "relation must be one of 'pairwise', 'patchwise', got 'patch'. Closest: patchwise",
        ),
    ],
)
def test_wrong_arguments_are_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
