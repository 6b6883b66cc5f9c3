"""The contestants of every race: our layer, `lambda-networks`, `timm` and plain PyTorch, with equal weights.

All compute the same function, and their outputs agree to rounding, with these weights:

* `lambda-networks` and `timm` have a bias in the convolution of the positions, which the paper has not: it is
  zero here. At a global context neither has one.
* Everything else is the same in all: softmax over the context, channels ordered by head and then by depth,
  zeros outside the map, offsets from query to context. timm says that its global context is "not fully
  verified"; it agrees. Only strides differ, and are not raced: timm pools 2x2, the paper and we 3x3.
* `lambda-networks` takes its offsets at a global context from an attribute that stays on the CPU; there it
  costs nothing. On a GPU a copy with the attribute on the device is raced too.
* With one image, gradients of the peers are wrong on a CPU, through no fault of theirs: torch's batch norm
  (2.13) takes a gradient in the order in which einsum leaves it for one in the order of the map. Ours hands
  on gradients in the order of the map. The work timed is the same; `errors.py` takes two images.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import torch
from shapes import NUM_HEADS, QUERY_DEPTH, Shape
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from lambdanets import LambdaLayer2d

Read = Callable[[nn.Parameter], Tensor]
Weights = dict[str, Tensor]
Position = Callable[[Tensor, Tensor, Tensor], Tensor]

LARGEST_BYTES: Final = 6e9
LONGEST_SECONDS: Final = 30.0
# Origin: rough, from single runs on an AMD EPYC without matrix instructions; only for leaving out.
FLOPS_PER_THREAD: Final = 10e9
BYTES_PER_SECOND: Final = 1e9


class Work(NamedTuple):
    """Bytes at the peak and floating point operations of a training step in float32, roughly."""

    bytes: float
    flops: float

    def too_much(self, threads: int, longest: float) -> str | None:
        """Why a step should not be started, or None."""
        if self.bytes > LARGEST_BYTES:
            return f"would need about {self.bytes / 1e9:.0f} GB"
        seconds = self.flops / (FLOPS_PER_THREAD * threads) + self.bytes / BYTES_PER_SECOND
        return f"would take about {seconds:.0f} s a step" if seconds > longest else None


def lambda_first_work(shape: Shape, batch: int, *, copies: int, pair_bytes: float) -> Work:
    """Lambdas b·n·k·v in memory, and at a global context something for each pair of positions."""
    lambdas = 4 * batch * shape.positions * QUERY_DEPTH * shape.value_depth
    offsets = shape.positions if shape.scope is None else shape.scope**2
    pairs = 0 if shape.scope else shape.positions**2 * pair_bytes
    return Work(copies * lambdas + pairs, 1.5 * lambdas * offsets)


def own_work(shape: Shape, batch: int) -> Work:
    # Never left out: activations, and a workspace that does not grow.
    return Work(100e6 + 40 * batch * shape.positions * shape.channels, 0)


def lambda_networks_work(shape: Shape, batch: int) -> Work:
    # Pairs: embeddings, a copy in another order, both gradients, and two 64-bit indices.
    return lambda_first_work(shape, batch, copies=4, pair_bytes=16 * QUERY_DEPTH + 16)


def timm_work(shape: Shape, batch: int) -> Work:
    # Lambdas are copied for every head; pairs: embeddings and values for every image.
    pair_bytes = 8 * batch * (QUERY_DEPTH + shape.value_depth)
    return lambda_first_work(shape, batch, copies=2 + 2 * NUM_HEADS, pair_bytes=pair_bytes)


def pairs_work(shape: Shape, batch: int) -> Work:
    pairs, heads = shape.positions**2, batch * NUM_HEADS
    flops = 6 * pairs * heads * (QUERY_DEPTH + shape.value_depth)
    return Work(12 * pairs * (QUERY_DEPTH + heads), flops)


@dataclass(frozen=True)
class Contestant:
    """One way to compute the layer.

    Attributes:
        build: The layer of a shape; its weights are yet to be loaded.
        weights: The projections (out, d) and the table (k, side, side), as views of what `read` gives.
        norms: Names of the norms of queries and of values.
        work: Estimate of a training step of b images, in float32.
        module: What has to be installed.
        compiled: Whether `torch.compile` is used.
        local_only: Whether it needs a window.
    """

    build: Callable[[Shape], nn.Module]
    weights: Callable[[nn.Module, Read], Weights]
    norms: tuple[str, str]
    work: Callable[[Shape, int], Work]
    module: str = "torch"
    compiled: bool = False
    local_only: bool = False

    def why_not(self, shape: Shape, batch: int, threads: int, longest: float) -> str | None:
        """Why it is left out, or None."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if self.local_only and shape.scope is None:
            return "plain-pairs is the form for a global context"
        return self.work(shape, batch).too_much(threads, longest)

    def make(self, shape: Shape, state: Weights, dtype: torch.dtype) -> nn.Module:
        """The layer with given weights."""
        layer = self.build(shape)
        with torch.no_grad():
            for name, weight in self.weights(layer, lambda parameter: parameter.data).items():
                weight.copy_(state[name])
        for name, norm in zip(("queries", "values"), self.norms, strict=True):
            norm_state = {
                key.partition(".")[2]: one for key, one in state.items() if key.startswith(name + ".")
            }
            getattr(layer, norm).load_state_dict(norm_state)
        layer.to(dtype)
        if self.compiled:
            layer.compile(fullgraph=True, dynamic=False)
        return layer

    def gradients(self, layer: nn.Module) -> Weights:
        """Gradients of the projections and of the table, in the layout of the weights."""
        return self.weights(layer, lambda parameter: parameter.grad.detach())


def draw(shape: Shape, dtype: torch.dtype = torch.float32) -> Weights:
    """Weights of a shape, always the same, rounded to a precision.

    The table's scale gives position outputs the scale of the values; the norms are away from 1 and 0, so
    that a layer which forgot one would be found out.
    """
    generator = torch.Generator().manual_seed(0)
    rows = {"queries": NUM_HEADS * QUERY_DEPTH, "keys": QUERY_DEPTH, "values": shape.value_depth}
    state = {
        name: torch.randn(count, shape.channels, generator=generator) * shape.channels**-0.5
        for name, count in rows.items()
    }
    side = shape.table_side
    table = torch.randn(QUERY_DEPTH, side, side, generator=generator)
    state["table"] = table * table.numel() ** -0.5
    for name in ("queries", "values"):
        count = rows[name]
        state[f"{name}.weight"] = 0.5 + torch.rand(count, generator=generator)
        state[f"{name}.bias"] = torch.randn(count, generator=generator)
        state[f"{name}.running_mean"] = torch.randn(count, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(count, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return {name: one.to(dtype).to(torch.float32) for name, one in state.items()}


def draw_images(shape: Shape, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A batch that needs its gradient, always the same."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, shape.channels, shape.side, shape.side, generator=generator)
    return images.to(dtype).requires_grad_()


def train(layer: nn.Module, images: Tensor) -> None:
    """The output and all gradients, which are not added to earlier ones."""
    layer.zero_grad(set_to_none=True)
    images.grad = None
    output = layer(images)
    output.backward(torch.ones_like(output))


def infer(layer: nn.Module, images: Tensor) -> None:
    """The output alone."""
    with torch.no_grad():
        layer(images)


def first_calls(layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs in inference and in a training step; leaves the running statistics as they were."""
    state = {name: one.clone() for name, one in layer.state_dict().items()}
    with torch.no_grad():
        inferred = layer.eval()(images)
    trained = layer.train()(images)
    trained.backward(torch.ones_like(trained))
    layer.load_state_dict(state)
    return inferred, trained.detach()


def relative_error(actual: Iterable[Tensor], expected: Iterable[Tensor], largest: float) -> float:
    """The larger relative error of two outputs; no time is taken of a layer whose output is wrong.

    Raises:
        ValueError: It is above the largest, or NaN.
    """
    pairs = zip(actual, expected, strict=True)
    errors = [float((one.float() - other).norm() / other.norm()) for one, other in pairs]
    if not all(error < largest for error in errors):
        raise ValueError(f"wrong output: relative errors {errors}")
    return max(errors)


def kept_bytes(layer: nn.Module, images: Tensor) -> int:
    """Bytes autograd keeps in a training step beside the layer and the input, each storage once."""
    held = [*layer.parameters(), *layer.buffers(), images]
    held += [one for module in layer.modules() for one in vars(module).values() if isinstance(one, Tensor)]
    own = {one.untyped_storage().data_ptr() for one in held}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(images)
        total = sum(kept.values())
    output.sum().backward()
    return total


def _own(shape: Shape) -> nn.Module:
    return LambdaLayer2d(shape.channels, scope_size=shape.scope, feature_size=shape.side)


def _own_weights(layer: Any, read: Read) -> Weights:
    names = ("queries", "keys", "values")
    weights = {name: read(getattr(layer, f"to_{name}").weight).flatten(1) for name in names}
    return weights | {"table": read(layer.position.table)[0]}


def _lambda_networks(shape: Shape) -> nn.Module:
    from lambda_networks import LambdaLayer

    place = {"n": shape.side} if shape.scope is None else {"r": shape.scope}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid")
        layer = LambdaLayer(dim=shape.channels, dim_k=QUERY_DEPTH, heads=NUM_HEADS, dim_u=1, **place)
    if shape.scope is not None:
        nn.init.zeros_(layer.pos_conv.bias)
    return layer


def _lambda_networks_weights(layer: Any, read: Read) -> Weights:
    weights = {name: read(getattr(layer, f"to_{name[0]}").weight) for name in ("queries", "keys", "values")}
    if layer.local_contexts:
        table = read(layer.pos_conv.weight)[:, 0, 0]
    else:
        table = read(layer.rel_pos_emb)[..., 0].permute(2, 0, 1)
    return {name: weight.flatten(1) for name, weight in weights.items()} | {"table": table}


def _timm(shape: Shape) -> nn.Module:
    from timm.layers.lambda_layer import LambdaLayer

    size = (shape.side, shape.side)
    layer = LambdaLayer(
        shape.channels, feat_size=size, num_heads=NUM_HEADS, dim_head=QUERY_DEPTH, r=shape.scope
    )
    if shape.scope is not None:
        nn.init.zeros_(layer.conv_lambda.bias)
    return layer


def _timm_weights(layer: Any, read: Read) -> Weights:
    if layer.pos_emb is None:
        table = read(layer.conv_lambda.weight)[:, 0, :, :, 0]
    else:
        table = read(layer.pos_emb).permute(2, 0, 1)
    return _split(read(layer.qkv.weight), layer.num_heads * layer.dim_qk, layer.dim_qk) | {"table": table}


def _split(weight: Tensor, num_queries: int, num_keys: int) -> Weights:
    parts = weight.flatten(1).split([num_queries, num_keys, len(weight) - num_queries - num_keys])
    return dict(zip(("queries", "keys", "values"), parts, strict=True))


class PlainLambdaLayer(nn.Module):
    """The lambda layer in plain PyTorch, written as well as we can: what a library has to beat.

    One projection for queries, keys and values; matrix products for the content; for the positions one of
    two forms. Every choice here was the faster of those tried: for applying the lambdas, a product and a sum
    for each head before an einsum or batched products; for pairs, weights first before lambdas first.

    Args:
        shape: Map, channels and scope.
        position: Queries, values and the table to "b h v n".
    """

    def __init__(self, shape: Shape, position: Position) -> None:
        super().__init__()
        self.depths = (NUM_HEADS * QUERY_DEPTH, QUERY_DEPTH, shape.value_depth)
        self.project = nn.Conv2d(shape.channels, sum(self.depths), 1, bias=False)
        self.norm_queries = nn.BatchNorm2d(self.depths[0])
        self.norm_values = nn.BatchNorm2d(self.depths[2])
        self.table = nn.Parameter(torch.empty(QUERY_DEPTH, shape.table_side, shape.table_side))
        self.position = position

    def forward(self, images: Tensor) -> Tensor:
        """Content and positions, head by head."""
        queries, keys, values = self.project(images).split(self.depths, dim=1)
        queries = self.norm_queries(queries).unflatten(1, (NUM_HEADS, QUERY_DEPTH)).flatten(3)  # b h k n
        values = self.norm_values(values)
        content = values.flatten(2) @ keys.flatten(2).softmax(-1).transpose(1, 2)  # b v k
        output = content.unsqueeze(1) @ queries + self.position(queries, values, self.table)
        return output.view(len(images), -1, *images.shape[2:])


def by_convolution(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Lambdas by a 2-d convolution, the value depth folded into the batch, then applied head by head.

    The kernel is cropped to the offsets that occur on the map.
    """
    kernel = _resized(table, values, crop_only=True).unsqueeze(1)
    folded = values.flatten(0, 1).unsqueeze(1)
    lambdas = conv2d(folded, kernel, padding=kernel.shape[-1] // 2)
    lambdas = lambdas.flatten(2).unflatten(0, values.shape[:2])  # b v k n
    return torch.stack([(one.unsqueeze(1) * lambdas).sum(2) for one in queries.unbind(1)], dim=1)


def by_pairs(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Embeddings of all n·n pairs, a weight for each pair and head, and the values summed with them."""
    height, width = values.shape[2:]
    reachable = _resized(table, values, crop_only=False)
    # Windows of the table: the one that starts at offset 0 is that of the last position.
    windows = reachable.unfold(1, height, 1).unfold(2, width, 1).flip(1, 2)
    embeddings = windows.reshape(len(table), height * width, -1)  # k n m
    weights = torch.einsum("bhkn,knm->bhnm", queries, embeddings)
    return torch.einsum("bhnm,bvm->bhvn", weights, values.flatten(2))


def _resized(table: Tensor, values: Tensor, *, crop_only: bool) -> Tensor:
    """The table with the offsets of a square map: cropped, or filled with zeros where it has none."""
    missing = values.shape[-1] - 1 - table.shape[-1] // 2
    return pad(table, (min(missing, 0) if crop_only else missing,) * 4)


def _plain_weights(layer: Any, read: Read) -> Weights:
    return _split(read(layer.project.weight), *layer.depths[:2]) | {"table": read(layer.table)}


def compiled(names: Iterable[str]) -> dict[str, Contestant]:
    """Contestants by `torch.compile`."""
    return {f"{name}-compiled": replace(CONTESTANTS[name], compiled=True) for name in names}


def line_up(
    contestants: dict[str, Contestant],
    shape: Shape,
    batch: int,
    threads: int,
    longest: float = LONGEST_SECONDS,
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Those that can run, and why the others do not."""
    reasons = {name: one.why_not(shape, batch, threads, longest) for name, one in contestants.items()}
    able = {name: one for name, one in contestants.items() if reasons[name] is None}
    return able, {name: reason for name, reason in reasons.items() if reason is not None}


OWN: Final = "lambdanets"
LAMBDA_NETWORKS: Final = "lambda-networks"
TIMM: Final = "timm"
CONVOLUTION: Final = "plain-convolution"
PAIRS: Final = "plain-pairs"

_OWN_NORMS: Final = ("norm_queries", "norm_values")
_THEIR_NORMS: Final = ("norm_q", "norm_v")

CONTESTANTS: Final[dict[str, Contestant]] = {
    OWN: Contestant(_own, _own_weights, _OWN_NORMS, own_work),
    LAMBDA_NETWORKS: Contestant(
        _lambda_networks,
        _lambda_networks_weights,
        _THEIR_NORMS,
        lambda_networks_work,
        module="lambda_networks",
    ),
    TIMM: Contestant(_timm, _timm_weights, _THEIR_NORMS, timm_work, module="timm"),
    CONVOLUTION: Contestant(
        functools.partial(PlainLambdaLayer, position=by_convolution),
        _plain_weights,
        _OWN_NORMS,
        functools.partial(lambda_first_work, copies=4, pair_bytes=0),
        local_only=True,
    ),
    PAIRS: Contestant(
        functools.partial(PlainLambdaLayer, position=by_pairs), _plain_weights, _OWN_NORMS, pairs_work
    ),
}
