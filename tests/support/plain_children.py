"""Small layers of every form, and the same layers plainly written: each child is called once."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lambdanets.functional import lambda_layer
from lambdanets.functional.lambdas import (
    apply_lambdas,
    content_lambda,
    normalize_keys,
    normalize_queries,
)
from lambdanets.functional.relative_position import dense_embeddings
from lambdanets.nn import DensePosition, LambdaLayer, LambdaLayer1d, LambdaLayer2d, LambdaLayer3d

B, D, N, M = 3, 8, 5, 4
OPTIONS = {"query_depth": 3, "num_heads": 2, "intra_depth": 2}


class Form(NamedTuple):
    """A layer and the way it is called."""

    build: Callable[[], nn.Module]
    size: tuple[int, ...] = ()
    context: bool = False
    mask: bool = False

    def arguments(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(7)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        if self.size:
            return {"inputs": draw(B, D, *self.size)}
        arguments = {"inputs": draw(B, N, D)}
        if self.context:
            arguments["context"] = draw(B, M, D)
        if self.mask:
            # Every token sees itself.
            drawn = torch.rand(B, N, M if self.context else N, generator=generator) < 0.6
            arguments["mask"] = drawn | torch.eye(N, drawn.shape[2], dtype=torch.bool)
        return arguments


def tokens(**options: object) -> Callable[[], LambdaLayer]:
    return lambda: LambdaLayer(D, scope_size=3, **OPTIONS, **options)


FORMS = {
    "1d": Form(lambda: LambdaLayer1d(D, scope_size=3, **OPTIONS, stride=2), (5,)),
    "2d": Form(lambda: LambdaLayer2d(D, scope_size=3, **OPTIONS, stride=2), (4, 3)),
    "2d, layer norm": Form(
        lambda: LambdaLayer2d(
            D,
            scope_size=None,
            feature_size=4,
            normalization="layer",
            key_normalization="softmax_keys_and_queries",
            **OPTIONS,
        ),
        (4, 3),
    ),
    "3d": Form(lambda: LambdaLayer3d(D, scope_size=3, **OPTIONS), (2, 3, 2)),
    "tokens": Form(tokens()),
    "tokens, context": Form(tokens(), context=True),
    "tokens, mask": Form(tokens(key_normalization="l2"), mask=True),
    "tokens, context and mask": Form(tokens(), context=True, mask=True),
    "tokens, dense": Form(tokens(position="dense", feature_size=N)),
    "tokens, causal": Form(
        tokens(causal=True, normalization="layer", key_normalization="softmax_keys_and_queries")
    ),
    "tokens, causal and mask": Form(tokens(causal=True, normalization="layer"), mask=True),
}


class PlainPosition(nn.Module):
    """Dense embeddings, stored and applied."""

    def __init__(self, position: nn.Module) -> None:
        super().__init__()
        self.table = copy.deepcopy(position.table)
        self.is_dense = isinstance(position, DensePosition)

    def forward(
        self,
        queries: Tensor,
        values: Tensor,
        shared: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        size, context_size = queries.shape[3:], values.shape[3:]
        table = self.table
        if not self.is_dense:
            table = dense_embeddings(self.table, tuple(size), tuple(context_size))
        flat = queries.flatten(3)
        if causal:
            mask = torch.ones(table.shape[:2], dtype=torch.bool).tril()
        output = lambda_layer(flat, None, values.flatten(3), table, mask, key_normalization="none")
        if shared is not None:
            output = output + apply_lambdas(flat, shared)
        return output.unflatten(3, size)


class PlainLayer(nn.Module):
    """The layer as its formula is written: each child is called once, with the map it has to see."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, PlainPosition(child) if name == "position" else copy.deepcopy(child))
        self.are_tokens, self.causal = isinstance(layer, LambdaLayer), getattr(layer, "causal", False)
        self.kind = layer.key_normalization
        self.h, self.u = layer.num_heads, layer.intra_depth
        self.train(layer.training)

    def project(self, name: str, inputs: Tensor) -> Tensor:
        projected = getattr(self, f"to_{name}")(inputs)
        if self.are_tokens:
            projected = projected.mT
        norm = getattr(self, f"norm_{name}", None)
        return projected if norm is None else norm(projected)

    def forward(self, inputs: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        context = inputs if context is None else context
        queries = self.project("queries", inputs).unflatten(1, (self.h, -1))
        keys = self.project("keys", context).unflatten(1, (self.u, -1)).flatten(3)
        values = self.project("values", context).unflatten(1, (self.u, -1))
        flat, flat_values = queries.flatten(3), values.flatten(3)
        applied = normalize_queries(queries, self.kind)
        if mask is None and not self.causal:
            shared = content_lambda(normalize_keys(keys, self.kind), flat_values)
            output = self.position(applied, values, shared)
        else:
            past = torch.ones(flat.shape[3], flat_values.shape[3], dtype=torch.bool).tril()
            seen = past if mask is None else mask & past if self.causal else mask
            output = lambda_layer(flat, keys, flat_values, None, seen, key_normalization=self.kind)
            options = {"causal": True} if mask is None else {"mask": seen}
            output = output + self.position(applied, values, **options)
        output = output.flatten(1, 2)
        return output.mT if self.are_tokens else self.pool(output)


def make_pair(form: Form, training: bool) -> tuple[nn.Module, nn.Module]:
    """A layer and the plain one with the same children, neither in its first state."""
    torch.manual_seed(1)
    layer = form.build().double()
    for norm in (layer.norm_queries, layer.norm_values):
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
    layer.train(training)
    return layer, PlainLayer(layer)


def run(layer: nn.Module, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    """Output, gradients and buffers by name."""
    torch.manual_seed(2)
    given = {name: one if name == "mask" else one.clone().requires_grad_() for name, one in arguments.items()}
    # By place: hooks of gradients look at these alone.
    output = layer(given["inputs"], *(given.get(name) for name in ("context", "mask") if len(given) > 1))
    weights = torch.arange(output.numel(), dtype=output.dtype).sin().view(output.shape)
    (output * weights).sum().backward()
    results = {"output": output.detach()}
    results |= {f"d {name}": one.grad for name, one in given.items() if name != "mask"}
    results |= {f"d {name}": one.grad for name, one in layer.named_parameters() if one.grad is not None}
    return results | {name: one for name, one in layer.named_buffers() if one.is_floating_point()}
