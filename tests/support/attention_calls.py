"""Calls of every attention by every implementation, with the tensors of a small problem."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lambdanets.functional import (
    axial_attention,
    global_attention,
    linear_attention,
    local_attention,
    local_relation,
    vector_attention,
)
from lambdanets.functional.attention import full, local
from support.parameters import CONTENT_FORMS


@dataclass(frozen=True)
class AttentionCall:
    """A function of named tensors, and how to draw these for a map."""

    label: str
    function: Callable[..., Tensor]
    names: tuple[str, ...]
    impl: str

    def __call__(self, impl: str | None = None, **tensors: Tensor) -> Tensor:
        return self.function(**tensors, impl=impl or self.impl)

    def draw(
        self, size: tuple[int, ...], b: int = 2, h: int = 3, k: int = 4, v: int = 5, dtype=torch.float64
    ) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        window = (3,) * len(size)
        shapes = {
            "queries": (b, h, k, *size),
            "keys": (b, h, k, *size),
            "values": (b, h, v, *size),
            "prior": (h, *window),
            "weights": (b, h, math.prod(window), *size),
            **{name: (k, side) for name, side in zip(("rows", "columns"), (3, 5), strict=True)},
        }
        names = [name for name in self.names if name != "columns" or len(size) == 2]
        return {
            name: torch.randn(shapes[name], generator=generator, dtype=torch.float64).to(dtype)
            for name in names
        }


def with_tables(function, queries, keys, values, rows, columns=None, **options) -> Tensor:
    tables = [rows] if columns is None else [rows, columns]
    return function(queries, keys, values, tables, **options)


def along(queries, keys, values, rows, impl) -> Tensor:
    return axial_attention(queries, keys, values, rows, axis=0, impl=impl)


QKV = ("queries", "keys", "values")
# Function, tensors, and who computes it.
KINDS = {
    "global": (global_attention, QKV, full.IMPLEMENTATIONS),
    "relative": (partial(with_tables, global_attention), (*QKV, "rows", "columns"), full.IMPLEMENTATIONS),
    "axial": (along, (*QKV, "rows"), full.IMPLEMENTATIONS),
    "local": (
        partial(with_tables, local_attention, window_size=3),
        (*QKV, "rows", "columns"),
        local._ATTENTIONS,
    ),
    "relation": (local_relation, (*QKV, "prior"), local.RELATIONS),
    "vector": (partial(vector_attention, window_size=3), ("weights", "values"), local._AGGREGATIONS),
    "sum": (
        partial(vector_attention, window_size=3, normalize=False),
        ("weights", "values"),
        local._AGGREGATIONS,
    ),
    "linear": (linear_attention, QKV, CONTENT_FORMS),
}
CALLS = [
    AttentionCall(f"{kind}-{one.name}", function, names, one.name)
    for kind, (function, names, implementations) in KINDS.items()
    for one in implementations
]
