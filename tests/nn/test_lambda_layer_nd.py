"""`LambdaLayer1d/2d/3d` against the dense form of the paper's Figure 3, in float64."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from lambdanets.functional import lambda_layer
from lambdanets.functional.relative_position import dense_embeddings
from lambdanets.models import on_meta
from lambdanets.nn import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d, RelativePosition, set_implementation
from support.compare import assert_close, assert_equal

LAYERS = {1: LambdaLayer1d, 2: LambdaLayer2d, 3: LambdaLayer3d}


def figure_3(layer: LambdaLayer2d, inputs: Tensor) -> Tensor:
    """The layer as the paper's listing has it: flat positions, dense embeddings, explicit reshapes."""
    b, _, *size = inputs.shape
    k, h, u = layer.query_depth, layer.num_heads, layer.intra_depth
    n = inputs[0, 0].numel()

    def project(module: nn.Module | None) -> Tensor | None:
        if module is None:
            return None
        return torch.einsum("od,bdn->bon", module.weight.flatten(1), inputs.flatten(2)).view(b, -1, *size)

    queries = layer.norm_queries(project(layer.to_queries)).reshape(b, h, k, n)
    values = layer.norm_values(project(layer.to_values)).reshape(b, u, -1, n)
    keys = project(layer.to_keys)
    embeddings = None
    if layer.position is not None:
        embeddings = dense_embeddings(layer.position.table_for(tuple(size)), tuple(size))
    output = lambda_layer(
        queries,
        None if keys is None else keys.reshape(b, u, k, n),
        values,
        embeddings,
        key_normalization=layer.key_normalization,
    )
    return output.reshape(b, -1, *size)


@pytest.mark.parametrize(
    ("axes", "size", "options"),
    [
        (1, (9,), {"scope_size": 5}),
        (2, (5, 4), {"scope_size": 3, "intra_depth": 2}),
        (2, (5, 4), {}),
        (2, (5, 7), {"scope_size": None, "feature_size": (6, 7), "num_heads": 2}),
        (2, (7, 6), {"scope_size": None, "feature_size": 4}),
        (2, (5, 4), {"content": False, "scope_size": 3}),
        (2, (5, 4), {"positional": False}),
        (2, (5, 4), {"key_normalization": "softmax_keys_and_queries"}),
        (2, (5, 4), {"key_normalization": "l2", "normalization": "layer"}),
        (2, (5, 4), {"key_normalization": "none", "normalization": "none", "initialization": "unit"}),
        (3, (3, 4, 2), {"scope_size": (1, 5, 3)}),
    ],
    ids=str,
)
def test_layer_is_figure_3(axes: int, size: tuple[int, ...], options: dict) -> None:
    layer = LAYERS[axes](12, 8, query_depth=3, **options).double()
    inputs = torch.randn(2, 12, *size, dtype=torch.float64)
    assert_close(layer(inputs), figure_3(layer, inputs))


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_norms_folded_for_inference_change_nothing(axes: int, normalization: str) -> None:
    layer = LAYERS[axes](8, scope_size=3, normalization=normalization).double()
    inputs = 3 + torch.randn(4, 8, *(5, 4, 3)[:axes], dtype=torch.float64)
    for norm in (layer.norm_queries, layer.norm_values):
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    for _ in range(3):
        layer(inputs)
    layer.eval()
    assert_close(layer(inputs), figure_3(layer, inputs))


def test_stride_2_is_the_3x3_mean_without_the_padding() -> None:
    plain = LambdaLayer2d(8, scope_size=3).double()
    strided = LambdaLayer2d(8, scope_size=3, stride=2).double()
    strided.load_state_dict(plain.state_dict())
    inputs = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    full = plain(inputs)
    expected = torch.empty(2, 8, 4, 3, dtype=torch.float64)
    for y in range(4):
        for x in range(3):
            window = full[..., max(2 * y - 1, 0) : 2 * y + 2, max(2 * x - 1, 0) : 2 * x + 2]
            expected[..., y, x] = window.mean((-2, -1))
    assert_close(strided(inputs), expected)


def test_parameters_follow_the_closed_form() -> None:
    for d, k, h, u, r in [(64, 16, 4, 1, 23), (48, 8, 2, 4, 7), (512, 16, 4, 1, 23)]:
        layer = LambdaLayer2d(d, query_depth=k, num_heads=h, intra_depth=u, scope_size=r)
        v = d // h
        expected = d * (h * k + u * k + u * v) + 2 * (h * k + u * v) + r * r * k * u
        assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_paper_initialization_has_the_papers_standard_deviations() -> None:
    layer = LambdaLayer2d(256, query_depth=16)
    assert layer.to_queries.weight.std().item() == pytest.approx((16 * 256) ** -0.5, rel=0.05)
    assert layer.to_keys.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert layer.to_values.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert layer.position.table.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("initialization", "scale"), [("unit", 1.0), ("paper", 92.0)])
def test_initialization_sets_the_scale_of_the_position_output(initialization: str, scale: float) -> None:
    position = RelativePosition(2, initialization=initialization)
    queries, values = torch.randn(1, 2, 16, 25, 25), torch.randn(1, 1, 4, 25, 25)
    # The centre of the map, whose whole window is inside.
    assert position(queries, values)[..., 11:14, 11:14].std().item() == pytest.approx(scale, rel=0.2)


def test_position_bias_adds_to_every_lambda() -> None:
    position = RelativePosition(2, query_depth=3, scope_size=3, bias=True).double()
    queries = torch.randn(2, 4, 3, 5, 4, dtype=torch.float64)
    values = torch.randn(2, 1, 6, 5, 4, dtype=torch.float64)
    without = position(queries, values)
    nn.init.normal_(position.bias)
    expected = without + torch.einsum("bhkyx,k->bhyx", queries, position.bias).unsqueeze(2)
    assert_close(position(queries, values), expected)


def test_global_table_is_cropped_exactly_at_a_smaller_map() -> None:
    position = RelativePosition(2, query_depth=3, scope_size=None, feature_size=9).double()
    small = RelativePosition(2, query_depth=3, scope_size=None, feature_size=(5, 4)).double()
    small.table = nn.Parameter(position.table[:, :, 4:13, 5:12].detach().clone())
    queries = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64)
    values = torch.randn(1, 1, 6, 5, 4, dtype=torch.float64)
    assert_close(position(queries, values), small(queries, values))


def test_global_table_is_interpolated_at_a_larger_map() -> None:
    position = RelativePosition(1, query_depth=1, scope_size=None, feature_size=3)
    with torch.no_grad():
        position.table.copy_(torch.tensor([[[-2.0, -1.0, 0.0, 1.0, 2.0]]]))
    # Offsets -4..4 read the same straight line from end to end.
    assert_close(position.table_for((5,))[0, 0], torch.linspace(-2, 2, 9), torch.float32)


def test_shared_position_is_one_parameter_and_collects_both_gradients() -> None:
    position = RelativePosition(2, scope_size=5)
    first, second = LambdaLayer2d(8, position=position), LambdaLayer2d(8, position=position)
    inputs = torch.randn(2, 8, 6, 6)
    first(inputs).square().sum().backward()
    alone = position.table.grad.clone()
    second(inputs).square().sum().backward()
    assert first.position is second.position
    assert not torch.equal(position.table.grad, alone)


def test_names_in_the_checkpoint_are_frozen() -> None:
    names = list(LambdaLayer2d(8, position_bias=True).state_dict())
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert names == [
        "to_queries.weight",
        "to_keys.weight",
        "to_values.weight",
        *(f"norm_queries.{name}" for name in norm),
        *(f"norm_values.{name}" for name in norm),
        "position.table",
        "position.bias",
    ]


def test_copies_and_pickles_compute_the_same() -> None:
    layer = LambdaLayer2d(8, scope_size=5).eval()
    inputs = torch.randn(1, 8, 6, 5)
    expected = layer(inputs)
    assert_equal(copy.deepcopy(layer)(inputs), expected)
    assert_equal(pickle.loads(pickle.dumps(layer))(inputs), expected)


def test_implementations_agree_inside_the_layer() -> None:
    layer = LambdaLayer2d(8, scope_size=5).double().eval()
    inputs = torch.randn(1, 8, 6, 5, dtype=torch.float64)
    outputs = {}
    for impl in ("reference", "convolution", "dense"):
        set_implementation(layer, impl)
        outputs[impl] = layer(inputs)
    assert_close(outputs["convolution"], outputs["reference"])
    assert_close(outputs["dense"], outputs["reference"])


def test_channels_last_and_batch_zero() -> None:
    layer = LambdaLayer2d(8, scope_size=5, stride=2).eval()
    inputs = torch.randn(2, 8, 6, 5)
    assert_close(layer(inputs.to(memory_format=torch.channels_last)), layer(inputs), torch.float32)
    assert layer(inputs[:0]).shape == (0, 8, 3, 3)


def test_reset_parameters_draws_everything_again() -> None:
    layer = LambdaLayer2d(8, scope_size=3)
    before = {name: tensor.clone() for name, tensor in layer.named_parameters() if "norm" not in name}
    layer.reset_parameters()
    assert all(not torch.equal(before[name], dict(layer.named_parameters())[name]) for name in before)


def test_meta_device_and_dtypes() -> None:
    with on_meta():
        layer = LambdaLayer2d(8)
    assert layer(torch.empty(2, 8, 6, 5, device="meta")).shape == (2, 8, 6, 5)
    assert all(tensor.device.type == "meta" for tensor in layer.state_dict().values())
    for dtype in (torch.bfloat16, torch.float16):
        half = LambdaLayer2d(8).to(dtype)
        assert half(torch.randn(2, 8, 6, 5, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_paper_initialization_does_not_overflow_under_autocast(dtype: torch.dtype) -> None:
    layer = LambdaLayer2d(64)
    inputs = torch.randn(2, 64, 28, 28)
    expected = copy.deepcopy(layer).double()(inputs.double())
    with torch.autocast("cpu", dtype):
        output = layer(inputs)
    assert_close(output, expected, torch.bfloat16)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("axes", "backend"),
    [
        (2, "aot_eager"),
        pytest.param(1, "aot_eager", marks=pytest.mark.slow),
        pytest.param(3, "aot_eager", marks=pytest.mark.slow),
        pytest.param(2, "inductor", marks=pytest.mark.slow),
    ],
)
def test_compiles_without_graph_breaks(axes: int, backend: str) -> None:
    layer = LAYERS[axes](8, scope_size=3)
    inputs = torch.randn(2, 8, *(5, 4, 3)[:axes])
    expected = layer(inputs)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    assert_close(compiled(inputs), expected, torch.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: LambdaLayer2d(100, num_heads=8),
            "out_channels must be divisible by num_heads, got 100 and 8",
        ),
        (
            lambda: LambdaLayer2d(64, scope_size=24),
            "scope must be odd, got 24. An even window has no centre; use 23",
        ),
        (
            lambda: LambdaLayer2d(64, scope_size=(3, 3, 3)),
            "scope_size must be a positive number, or 2 of them",
        ),
        (lambda: LambdaLayer2d(64, scope_size=None), "feature_size must be given when scope_size is None"),
        (lambda: LambdaLayer2d(64, content=False, positional=False), "content or positional must be True"),
        (lambda: LambdaLayer2d(64, query_depth=0), "query_depth must be at least 1, got 0"),
        (lambda: LambdaLayer2d(64, key_normalization="soft"), "key_normalization must be one of 'softmax'"),
        (lambda: LambdaLayer2d(64, normalization="bath"), "normalization must be one of .* Closest: batch"),
        (lambda: LambdaLayer2d(64, initialization="papers"), "initialization must be one of 'paper', 'unit'"),
        (
            lambda: LambdaLayer2d(64, position=RelativePosition(1)),
            r"position must have a table \(u, k, \*scope\) with u=1, k=16 and 2 axes, got \(1, 16, 23\)",
        ),
        (
            lambda: LambdaLayer2d(64, positional=False, position=RelativePosition(2)),
            "position must be None when positional is False",
        ),
        (
            lambda: LambdaLayer2d(64)(torch.ones(2, 32, 4, 4)),
            r"inputs must have shape \(b, d, \*size\) with d=64, got \(2, 32, 4, 4\)",
        ),
        (
            lambda: LambdaLayer2d(64, impl="fast")(torch.ones(2, 64, 4, 4)),
            "impl must be one of auto, reference",
        ),
    ],
)
def test_wrong_arguments_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
