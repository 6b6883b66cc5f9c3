"""Weights of the context and what the image moves, against float64 Jacobians, loops and the layers."""

import dataclasses
from itertools import product

import pytest
import torch
from torch.autograd.functional import jacobian

from lambdanets.errors import ArgumentError
from lambdanets.explain.maps import (
    _context_weights,
    _embeddings_at,
    _layer_maps,
    _observe,
    _pixel_gradient,
    _same_place,
    _weighted_output,
    half_count,
    lambda_layers,
    mean_distance,
    strengths,
    view_layer,
)
from lambdanets.functional import content_output, normalize_queries, position_output
from lambdanets.models import create_model
from lambdanets.nn import LambdaLayer2d
from support.compare import assert_close, assert_equal
from support.oracles import loop_embeddings
from support.public_calls import SURROUNDINGS, Surroundings

SIZE = (5, 4)
KINDS = {
    "local": {"scope_size": 3},
    "wider-than-the-map": {"scope_size": 23},
    "intra-depth": {"scope_size": 3, "intra_depth": 2},
    "global": {"scope_size": None, "feature_size": 5},
    "global-stretched": {"scope_size": None, "feature_size": 3},
    "content": {"positional": False},
    "position": {"content": False, "scope_size": 5},
    "bias": {"scope_size": 5, "position_bias": True},
    "l2": {"scope_size": 5, "key_normalization": "l2"},
    "both-softmaxed": {"scope_size": 5, "key_normalization": "softmax_keys_and_queries"},
    "unnormalised": {"scope_size": 5, "key_normalization": "none", "normalization": "none"},
    "strided": {"scope_size": 5, "stride": 2},
}
each_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def _layer(**options):
    layer = LambdaLayer2d(6, 8, query_depth=3, num_heads=2, **options).double().eval()
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    if layer.position is not None and layer.position.bias is not None:
        torch.nn.init.normal_(layer.position.bias)
    return layer


def _plain_projections(layer, inputs):
    """Queries, keys and values by the layer's modules, one after the other."""
    queries = layer.norm_queries(layer.to_queries(inputs)).unflatten(1, (layer.num_heads, -1))
    values = layer.norm_values(layer.to_values(inputs)).unflatten(1, (layer.intra_depth, -1))
    keys = None if layer.to_keys is None else layer.to_keys(inputs).unflatten(1, (layer.intra_depth, -1))
    return normalize_queries(queries, layer.key_normalization), keys, values


@each_kind
@pytest.mark.parametrize("position", [(0, 0), (2, 3), (4, 1)])
def test_the_weights_are_the_jacobian(options, position):
    layer = _layer(**options)
    inputs = torch.randn(1, 6, *SIZE, dtype=torch.float64)
    queries, keys, values = (None if x is None else x.detach() for x in _plain_projections(layer, inputs))

    def content(values):
        return content_output(queries, keys, values, key_normalization=layer.key_normalization)

    def positional(values):
        return position_output(queries, values, layer.position.table_for(SIZE).detach(), impl="reference")

    weights = _context_weights(_layer_maps(layer, inputs), position)
    parts = {content: weights.content, positional: weights.position}
    assert [part is None for part in parts.values()] == [keys is None, layer.position is None]
    for part, found in parts.items():
        if found is None:
            continue
        derived = jacobian(lambda values, part=part: part(values)[0, :, :, *position], values)[:, :, 0]
        # h v u v' height width: the weight times the identity.
        expected = torch.einsum("huyx,vw->hvuwyx", found, torch.eye(values.shape[2], dtype=torch.float64))
        assert_close(expected, derived)
    terms = {"position": weights.position, "content": weights.content}
    present = {name: term for name, term in terms.items() if term is not None}
    assert list(weights.terms) == ([*present] if len(present) == 1 else ["sum", *present])
    assert_equal(next(iter(weights.terms.values())), sum(present.values()))


@each_kind
def test_weights_times_values_are_the_layers_output(options):
    layer = _layer(**options)
    inputs = torch.randn(1, 6, *SIZE, dtype=torch.float64)
    maps = _layer_maps(layer, inputs)
    assert maps.size == SIZE
    layer.pool = torch.nn.Identity()
    output = layer(inputs)[0]
    for y, x in product(range(SIZE[0]), range(SIZE[1])):
        assert_close(_weighted_output(maps, (y, x)), output[:, y, x])


@pytest.mark.parametrize("scope", [(1, 1), (3, 5), (9, 7), (13, 3)])
def test_embeddings_of_one_position_are_a_row_of_the_dense_ones(scope):
    table = torch.randn(2, 3, *scope, dtype=torch.float64)
    dense = loop_embeddings(table, SIZE).unflatten(1, SIZE).unflatten(0, SIZE)  # y x rows columns u k
    for y, x in product(range(SIZE[0]), range(SIZE[1])):
        assert_equal(_embeddings_at(table, (y, x), SIZE), dense[y, x].movedim((2, 3), (0, 1)))


def test_normalised_keys_are_a_softmax_over_the_map():
    layer = _layer(scope_size=3)
    inputs = torch.randn(1, 6, *SIZE, dtype=torch.float64)
    keys = layer.to_keys(inputs)[0].flatten(1)
    expected = keys.exp() / keys.exp().sum(1, keepdim=True)
    assert_close(_layer_maps(layer, inputs).keys[0].flatten(1), expected)


def test_the_table_shows_the_offsets_that_occur():
    layer = _layer(scope_size=23)
    maps = _layer_maps(layer, torch.randn(1, 6, *SIZE, dtype=torch.float64))
    assert_equal(maps.table, layer.position.table[:, :, 11 - 4 : 12 + 4, 11 - 3 : 12 + 3])


@pytest.mark.parametrize("position", [(5, 0), (0, 4), (-1, 0), (2, -1)])
def test_a_position_off_the_map_is_refused(position):
    maps = _layer_maps(_layer(), torch.randn(1, 6, *SIZE, dtype=torch.float64))
    message = (
        rf"^position must lie on the map of 5×4, rows 0 to 4 and columns 0 to 3, "
        rf"got {position[0]} and {position[1]}\."
    )
    with pytest.raises(ArgumentError, match=message):
        _context_weights(maps, position)


@pytest.fixture
def network():
    """A network whose branches count, in float64."""
    model = create_model("lambda_resnet_digits", num_classes=3, in_channels=2).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return model


def test_lambda_layers_are_named_from_the_image_on(network):
    assert list(lambda_layers(network)) == ["c2.0.mixer", "c3.0.mixer", "c4.0.mixer", "c5.0.mixer"]
    assert lambda_layers(create_model("resnet_digits")) == {}


def test_an_observation_is_what_passes_and_leaves_nothing_behind(network):
    images = torch.randn(1, 2, 7, 9, dtype=torch.float64)
    layer = network.c4[0].mixer
    before = network.c4[0]
    observation = _observe(network, layer, images)
    inputs = torch.relu(before.norm_reduce(before.reduce(network.features(images)["c3"])))
    assert_equal(observation.inputs, inputs)
    assert tuple(observation.outputs.shape[2:]) == (7, 9)
    assert_equal(layer.pool(observation.outputs), layer(inputs))
    assert_equal(observation.features, network.features(images)["c5"])
    assert observation.images.requires_grad and not images.requires_grad
    assert not layer._forward_pre_hooks and not layer.pool._forward_pre_hooks


def test_hooks_are_gone_after_a_failure(network):
    layer = network.c2[0].mixer
    with pytest.raises(RuntimeError):
        _observe(network, layer, torch.randn(1, 5, 8, 8, dtype=torch.float64))
    assert not layer._forward_pre_hooks and not layer.pool._forward_pre_hooks


@pytest.mark.slow
def test_the_pixel_gradient_is_the_jacobian_along_the_output(network):
    images = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    observation = _observe(network, network.c3[0].mixer, images)

    def check(maps, position, vector):
        derived = jacobian(vector, images)[:, 0]  # d c height width
        y = vector(images).detach()
        along = torch.einsum("d,dcyx->cyx", y / y.square().sum().sqrt(), derived)
        expected = along.square().sum(0).sqrt()
        assert_close(_pixel_gradient(maps, observation.images, position), expected)

    check(observation.features, (1, 2), lambda images: network.features(images)["c5"][0, :, 1, 2])
    check(
        observation.outputs,
        (4, 7),
        lambda images: outputs_of(network.c3[0], network.features(images)["c2"])[0, :, 4, 7],
    )


def outputs_of(block, maps):
    """The lambda layer's outputs from the inputs of its block."""
    return block.mixer(torch.relu(block.norm_reduce(block.reduce(maps))))


def test_a_vector_of_zero_moves_with_no_pixel():
    images = torch.randn(1, 1, 3, 3, requires_grad=True)
    assert_equal(_pixel_gradient(images.repeat(1, 4, 1, 1) * 0, images, (1, 1)), torch.zeros(3, 3))


def test_same_place_covers_the_position():
    for y in range(7):
        row, _ = _same_place((y, 0), (7, 1), (4, 1))
        assert row / 4 <= (y + 0.5) / 7 < (row + 1) / 4
    assert _same_place((3, 2), (4, 4), (8, 16)) == (7, 10)


def test_strengths_keep_the_sign_of_one_and_the_length_of_several():
    weights = torch.tensor([[[[3.0, -1.0]], [[-4.0, 0.0]]]])  # 1 2 1 2
    assert_equal(strengths(weights[:, :1]), weights[:, 0])
    assert_equal(strengths(weights), torch.tensor([[[5.0, 1.0]]]))


def test_figures_of_a_map_by_loops():
    weights = torch.randn(4, 6, dtype=torch.float64)
    sizes = sorted((abs(w) for w in weights.flatten().tolist()), reverse=True)
    expected = next(count for count in range(1, 25) if 2 * sum(sizes[:count]) >= sum(sizes))
    assert half_count(weights) == expected
    distance = sum(
        abs(weights[y, x].item()) * ((y - 1) ** 2 + (x - 5) ** 2) ** 0.5
        for y, x in product(range(4), range(6))
    )
    assert mean_distance(weights, (1, 5)) == pytest.approx(distance / sum(sizes), rel=1e-12)
    assert half_count(torch.zeros(2, 2)) == 0 and mean_distance(torch.zeros(2, 2), (0, 0)) == 0


def test_what_is_attached_to_projections_and_norms_is_seen():
    layer = _layer(scope_size=3)
    layer.to_values.register_forward_hook(lambda module, inputs, output: output.relu())
    layer.norm_queries = torch.nn.GroupNorm(2, 6).double()
    layer.to_keys = torch.nn.Sequential(layer.to_keys, torch.nn.Tanh())
    inputs = torch.randn(1, 6, *SIZE, dtype=torch.float64)
    maps, output = _layer_maps(layer, inputs), layer(inputs)
    for position in product(range(SIZE[0]), range(SIZE[1])):
        assert_close(_weighted_output(maps, position), output[0, :, *position])


@pytest.mark.parametrize("child", ["position", "pool"])
def test_what_is_attached_to_positions_is_refused(network, child):
    name, layer = next(iter(lambda_layers(network).items()))
    images = torch.randn(1, 2, 32, 32, dtype=torch.float64)
    view_layer(network, name, images)
    getattr(layer, child).register_forward_hook(lambda module, inputs, output: 2 * output)
    if child == "pool":
        view_layer(network, name, images)
        return
    with pytest.raises(ArgumentError, match=r"must compute its output from its .* alone, got one .* by 50%"):
        view_layer(network, name, images)
    layer.position = torch.nn.Sequential()
    layer.position.forward = lambda queries, values, content: values.expand(-1, layer.num_heads, -1, -1, -1)
    with pytest.raises(ArgumentError, match=r"position must be a RelativePosition, .* got a Sequential"):
        view_layer(network, name, images)


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_default_types_and_devices_change_no_view(surroundings: Surroundings) -> None:
    model = create_model("resnet50", depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), layers="CCCL", scope_size=3)
    name, images = next(iter(lambda_layers(model.eval()))), torch.randn(1, 3, 64, 64)
    expected = view_layer(model, name, images)
    with surroundings():
        view = view_layer(model, name, images)
        distance = mean_distance(view.to_layer, (3, 4))
    assert distance == mean_distance(expected.to_layer, (3, 4))
    assert view.error == expected.error
    for found, wanted in ((view, expected), (view.maps, expected.maps), (view.weights, expected.weights)):
        for field in dataclasses.fields(wanted):
            if isinstance(getattr(wanted, field.name), torch.Tensor):
                assert_equal(getattr(found, field.name), getattr(wanted, field.name), field.name)
