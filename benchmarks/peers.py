"""The contestants of every race: our layer, `lambda-networks`, `timm` and plain PyTorch, with equal weights.

All compute the same function, and their outputs agree to rounding, with these weights:

* `lambda-networks` and `timm` have a bias in the convolution of the positions, which the paper has not: it is
  zero here. At a global context neither has one.
* Everything else is the same in all: softmax over the context, channels ordered by head and then by depth,
  zeros outside the map, offsets from query to context. timm says that its global context is "not fully
  verified"; it agrees. Only strides differ, and are not raced: timm pools 2x2, the paper and we 3x3.
* `lambda-networks` takes its offsets at a global context from an attribute that stays on the CPU; there it
  costs nothing.
* With one image, gradients of the peers are wrong on a CPU, through no fault of theirs: torch's batch norm
  (2.13) takes a gradient in the order in which einsum leaves it for one in the order of the map. Ours hands
  on gradients in the order of the map. The work timed is the same; `errors.py` takes two images.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import work
from plain import PlainLambdaLayer, by_convolution, by_pairs
from problems import NUM_HEADS, QUERY_DEPTH, Shape
from timm_layer import timm_layer
from torch import Tensor, nn

from lambdanets import LambdaLayer2d

Read = Callable[[nn.Parameter], Tensor]
Weights = dict[str, Tensor]


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
    work: Callable[[Shape, int], work.Work]
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
        return self.weights(layer, _gradient)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.detach()


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
    """A batch that wants its gradient, always the same."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, shape.channels, shape.side, shape.side, generator=generator)
    return images.to(dtype).requires_grad_()


def train(layer: nn.Module, images: Tensor) -> None:
    """The output and all gradients."""
    output = layer(images)
    output.backward(torch.ones_like(output))


def infer(layer: nn.Module, images: Tensor) -> None:
    """The output alone."""
    with torch.no_grad():
        layer(images)


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
    size = (shape.side, shape.side)
    layer: Any = timm_layer()(
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
    return _joined(read(layer.qkv.weight), layer.num_heads * layer.dim_qk, layer.dim_qk) | {"table": table}


def _plain_weights(layer: Any, read: Read) -> Weights:
    return _joined(read(layer.project.weight), *layer.depths[:2]) | {"table": read(layer.table)}


def _joined(weight: Tensor, num_queries: int, num_keys: int) -> Weights:
    parts = weight.flatten(1).split([num_queries, num_keys, len(weight) - num_queries - num_keys])
    return dict(zip(("queries", "keys", "values"), parts, strict=True))


def compiled(names: Iterable[str]) -> dict[str, Contestant]:
    """Contestants by `torch.compile`."""
    return {f"{name}-compiled": replace(CONTESTANTS[name], compiled=True) for name in names}


def line_up(
    contestants: dict[str, Contestant],
    shape: Shape,
    batch: int,
    threads: int,
    longest: float = work.LONGEST_SECONDS,
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
    OWN: Contestant(_own, _own_weights, _OWN_NORMS, work.own_work),
    LAMBDA_NETWORKS: Contestant(
        _lambda_networks,
        _lambda_networks_weights,
        _THEIR_NORMS,
        work.lambda_networks_work,
        module="lambda_networks",
    ),
    TIMM: Contestant(_timm, _timm_weights, _THEIR_NORMS, work.timm_work, module="timm"),
    CONVOLUTION: Contestant(
        functools.partial(PlainLambdaLayer, position=by_convolution),
        _plain_weights,
        _OWN_NORMS,
        work.convolution_work,
        local_only=True,
    ),
    PAIRS: Contestant(
        functools.partial(PlainLambdaLayer, position=by_pairs), _plain_weights, _OWN_NORMS, work.pairs_work
    ),
}
