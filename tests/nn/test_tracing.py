"""Tracers see a layer as one program: no bound, no branch and no choice of ours is in what they record."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.fx
from torch import Tensor, nn
from torch.export import Dim

from lambdanets.models import create_model
from lambdanets.models.resnet import _HalvingPool
from lambdanets.nn import (
    AugmentedConvolution2d,
    AxialAttention2d,
    GlobalAttention2d,
    LambdaLayer,
    LambdaLayer1d,
    LambdaLayer2d,
    LambdaLayer3d,
    LinearAttention2d,
    LocalAttention2d,
    LocalRelation2d,
    SqueezeExcitation,
    StochasticDepth,
    VectorAttention2d,
)
from support.compare import assert_close

pytestmark = pytest.mark.usefixtures("unchecked")

# A layer, and the size of a map that it is traced with.
LAMBDA_LAYERS = {
    "1d": (lambda: LambdaLayer1d(8, scope_size=5), (9,)),
    "2d": (lambda: LambdaLayer2d(8, scope_size=23), (6, 7)),
    "2d-content": (lambda: LambdaLayer2d(8, positional=False), (6, 7)),
    "2d-position": (lambda: LambdaLayer2d(8, content=False, scope_size=3), (6, 7)),
    "2d-heads-and-depth": (lambda: LambdaLayer2d(8, num_heads=2, intra_depth=3, scope_size=5), (6, 7)),
    "2d-layer-norm": (lambda: LambdaLayer2d(8, normalization="layer", scope_size=3), (6, 7)),
    "2d-l2": (lambda: LambdaLayer2d(8, key_normalization="l2", scope_size=3), (6, 7)),
    "2d-bias": (lambda: LambdaLayer2d(8, position_bias=True, scope_size=3), (6, 7)),
    "3d": (lambda: LambdaLayer3d(8, scope_size=3), (3, 4, 5)),
}
OTHERS = {
    "strided": (lambda: LambdaLayer2d(8, scope_size=3, stride=2), (6, 7)),
    "global": (lambda: LambdaLayer2d(8, scope_size=None, feature_size=7), (6, 7)),
    "global-attention": (lambda: GlobalAttention2d(16, num_heads=2, feature_size=(6, 7)), (6, 7)),
    "axial-attention": (lambda: AxialAttention2d(16, num_heads=2, feature_size=(6, 7)), (6, 7)),
    "linear-attention": (lambda: LinearAttention2d(16, num_heads=2), (6, 7)),
    "local-attention": (lambda: LocalAttention2d(16, num_heads=2, window_size=3), (6, 7)),
    "local-relation": (lambda: LocalRelation2d(16, window_size=3), (6, 7)),
    "vector-attention": (lambda: VectorAttention2d(16, window_size=3), (6, 7)),
    "augmented": (lambda: AugmentedConvolution2d(16, 16, num_heads=2, feature_size=(6, 7)), (6, 7)),
    "squeeze-excitation": (lambda: SqueezeExcitation(16, 4), (6, 7)),
    "stochastic-depth": (lambda: StochasticDepth(0.5), (6, 7)),
}
LAYERS = LAMBDA_LAYERS | OTHERS

each_layer = pytest.mark.parametrize("name", LAYERS)
each_lambda_layer = pytest.mark.parametrize("name", LAMBDA_LAYERS)


def build(name: str, batch: int = 2) -> tuple[nn.Module, Tensor]:
    """A layer in evaluation mode, and a map for it."""
    torch.manual_seed(0)
    make, size = LAYERS[name]
    layer = make().double().eval()
    return layer, torch.randn(batch, 8 if hasattr(layer, "position") else 16, *size).double()


def trace(module: nn.Module, *inputs: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        return torch.jit.trace(module, inputs, check_trace=False)


@each_lambda_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_jit_records_operators_and_serves_other_maps(name: str, train: bool) -> None:
    """Every warning is an error here: a TracerWarning says that a size was read as a number."""
    layer, maps = build(name)
    layer.train(train)
    with warnings.catch_warnings():
        if train:  # torch's own batch norm looks at sizes
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module="torch.nn.functional")
        traced = trace(layer, maps)
    kinds = [node.kind() for node in traced.inlined_graph.nodes()]
    assert kinds.count("lambdanets::content_lambdas") == (layer.to_keys is not None)
    assert kinds.count("lambdanets::position_output") == (layer.position is not None)
    assert "prim::PythonOp" not in kinds
    other = torch.randn(3, 8, *(side + 2 for side in maps.shape[2:])).double()
    assert_close(traced(other), layer(other))


@each_layer
def test_jit_gives_the_layer_and_its_gradients(name: str) -> None:
    layer, maps = build(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        traced = trace(layer, maps)
    results = []
    for module in (layer, traced):
        leaf = maps.clone().requires_grad_()
        output = module(leaf)
        results.append((output, *torch.autograd.grad(output.square().sum(), leaf)))
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


@pytest.mark.slow
@each_lambda_layer
def test_export_of_any_batch_and_size_has_no_bounds(name: str) -> None:
    layer, maps = build(name)
    dims = {0: Dim("b")} | {axis: Dim(f"side{axis}") for axis in range(2, maps.ndim)}
    program = torch.export.export(layer, (maps,), dynamic_shapes=(dims,))
    bounds = {(bound.lower, str(bound.upper)) for bound in program.range_constraints.values()}
    assert bounds == {(0, "int_oo")}
    for b, change in ((1, 3), (5, -1), (2, 20)):
        other = torch.randn(b, 8, *(side + change for side in maps.shape[2:])).double()
        assert_close(program.module()(other), layer(other))


@each_layer
def test_export_of_any_batch_has_no_bounds(name: str) -> None:
    layer, maps = build(name)
    program = torch.export.export(layer, (maps,), dynamic_shapes=({0: Dim("b")},))
    (bound,) = program.range_constraints.values()
    assert (bound.lower, str(bound.upper)) == (0, "int_oo")
    other = build(name, batch=5)[1]
    assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize("options", [{}, {"causal": True, "normalization": "layer"}], ids=["plain", "causal"])
def test_tokens(options: dict) -> None:
    layer, tokens = LambdaLayer(8, scope_size=5, **options).double().eval(), torch.randn(2, 9, 8).double()
    program = torch.export.export(layer, (tokens,), dynamic_shapes=({0: Dim("b")},))
    (bound,) = program.range_constraints.values()
    assert (bound.lower, str(bound.upper)) == (0, "int_oo")
    other = torch.randn(3, 9, 8).double()
    assert_close(program.module()(other), layer(other))
    graph = torch.fx.symbolic_trace(nn.Sequential(layer))
    assert_close(graph(other), layer(other))


@each_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_fx_keeps_a_layer_whole(name: str, train: bool) -> None:
    layer, maps = build(name)
    layer.train(train)
    graph = torch.fx.symbolic_trace(nn.Sequential(layer))
    if name != "squeeze-excitation":
        assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]
    torch.manual_seed(1)
    expected = layer(maps)
    torch.manual_seed(1)
    assert_close(graph(maps), expected)


@pytest.mark.parametrize("name", ["lambda_resnet50", "lambda_mobilenetv2"])
def test_fx_traces_a_network(name: str) -> None:
    model, images = create_model(name, num_classes=3).eval(), torch.randn(2, 3, 40, 33)
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(model)(images), model(images))


def test_the_shortcuts_pool_is_the_same_for_compilers_at_odd_and_even_sizes() -> None:
    pool, dims = _HalvingPool(), {2: Dim("height", min=3), 3: Dim("width", min=3)}
    program = torch.export.export(pool, (torch.randn(2, 3, 7, 8).double(),), dynamic_shapes=(dims,))
    for size in ((5, 6), (6, 5), (7, 7), (8, 8), (3, 4)):
        maps = torch.randn(2, 3, *size).double()
        assert_close(program.module()(maps), pool(maps))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lambda_resnet50", "lambda_mobilenetv2"])
def test_export_of_a_network_has_no_bounds_but_those_of_strides(name: str) -> None:
    """A map of one element is a special case to torch: five strides of two need sides above 32."""
    model, images = create_model(name, num_classes=3).eval(), torch.randn(2, 3, 64, 64)
    dims = {0: Dim("b"), 2: Dim("height", min=33), 3: Dim("width", min=33)}
    program = torch.export.export(model, (images,), dynamic_shapes=(dims,))
    bounds = sorted((bound.lower, str(bound.upper)) for bound in program.range_constraints.values())
    assert bounds == [(0, "int_oo"), (33, "int_oo"), (33, "int_oo")]
    other = torch.randn(3, 3, 77, 50)
    with torch.no_grad():
        assert_close(program.module()(other), model.double()(other.double()), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import lambdanets\nimport torch",
        pytest.param("import torch\nimport lambdanets", marks=pytest.mark.slow),
    ],
)
def test_a_saved_program_loads_with_the_package_alone(imports: str, tmp_path: Path) -> None:
    layer, maps = build("2d")
    torch.export.save(torch.export.export(layer, (maps,)), tmp_path / "layer.pt2")
    torch.save((maps, layer(maps).detach()), tmp_path / "maps.pt")
    lines = [
        imports,
        "maps, expected = torch.load('maps.pt')",
        "program = torch.export.load('layer.pt2').module()",
        "print((program(maps) - expected).abs().max().item())",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-10


def test_importing_the_package_alone_imports_no_torch() -> None:
    command = [sys.executable, "-c", "import lambdanets, sys; print('torch' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
