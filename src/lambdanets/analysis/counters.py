"""Rules for the counters of other libraries, which do not know what is multiplied inside a lambda layer.

Each function returns what one library takes, without importing it. Multiply-adds are those of `count`: a
scope is clipped to the map, borders are not subtracted, and the lambda is applied once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from lambdanets.analysis.counting import LambdaLayers, layer_flops
from lambdanets.nn.attention import GlobalProduct, LinearProduct, LineProduct
from lambdanets.nn.local_attention import RelationProduct, WindowProduct, WindowSum
from lambdanets.nn.position import RelativePosition

# Libraries ask for the very class of a module.
_MODULES: Final[tuple[type[nn.Module], ...]] = (
    *get_args(LambdaLayers),
    *(RelativePosition, GlobalProduct, LinearProduct, LineProduct, RelationProduct, WindowProduct, WindowSum),
)

_ShapeRule = Callable[..., int]
_OperatorRule = Callable[[Sequence[Any], Sequence[Any]], int]
_ModuleRule = Callable[[nn.Module, tuple[Any, ...], Any], None]


def fvcore_handles() -> dict[str, _OperatorRule]:
    """Handles for `FlopCountAnalysis(...).set_op_handle(**handles)`: one for each operator of ours.

    fvcore counts a multiply-add as one. It sees projections, norms and the rest of a network by itself.
    """
    handles = {
        f"lambdanets::{name}": _of_values(num_tensors, macs)
        for name, (num_tensors, macs) in _OPERATORS.items()
    }
    return {
        **handles,
        # Unknown to fvcore, but for the products it is made of.
        "aten::scaled_dot_product_attention": _of_values(3, _attention_macs),
        # fvcore takes the first operand's batch for that of the product, which is broadcast.
        "aten::matmul": _of_values(2, _product_macs),
    }


def ptflops_operators() -> dict[Any, _OperatorRule]:
    """Hooks for `get_model_complexity_info(..., backend="aten", custom_modules_hooks=...)`.

    With this backend ptflops counts products alone, a multiply-add as one. It does not know one of torch's
    products with a sum, and counts the sums of the other, in which a layer's folded norms are.
    """
    aten = torch.ops.aten
    return {
        **{
            getattr(torch.ops.lambdanets, name): _of_tensors(0, num_tensors, macs)
            for name, (num_tensors, macs) in _OPERATORS.items()
        },
        aten.addmm: _of_tensors(1, 3, _product_macs),
        aten.baddbmm: _of_tensors(1, 3, _product_macs),
    }


def ptflops_hooks() -> dict[type[nn.Module], _ModuleRule]:
    """Hooks for `get_model_complexity_info(..., custom_modules_hooks=...)`: one for each layer of ours.

    A layer with a hook stands for all that is in it. Give `backend_specific_config={"count_functional":
    False}` too: otherwise ptflops adds what the implementations multiply, each in its own way.
    """

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counted: Any = module
        counted.__flops__ += _module_macs(module, inputs, output)

    return dict.fromkeys(_MODULES, add)


def thop_rules() -> dict[type[nn.Module], _ModuleRule]:
    """Rules for `thop.profile(..., custom_ops=...)`: one for each layer of ours.

    thop counts a multiply-add as one. A layer with a rule stands for all that is in it.
    """

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for part in module.modules():
            part.get_buffer("total_ops").zero_()
        module.get_buffer("total_ops").add_(_module_macs(module, inputs, output))

    return dict.fromkeys(_MODULES, add)


def _position_macs(queries: Sequence[int], values: Sequence[int], table: Sequence[int]) -> int:
    """Position lambdas of each position, and every position's lambda applied to its queries."""
    b, h, k, *size = queries
    u, v = values[1:3]
    scope = math.prod(map(min, table[2:], size))
    return b * math.prod(size) * k * v * (scope * u + h)


def _content_macs(keys: Sequence[int], values: Sequence[int]) -> int:
    return math.prod(keys) * values[2]


def _attention_macs(queries: Sequence[int], keys: Sequence[int], values: Sequence[int]) -> int:
    return math.prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1])


def _product_macs(first: Sequence[int], second: Sequence[int]) -> int:
    """A product of matrices, or of a vector on either side, with any axes in front."""
    rows, columns = first[-2] if len(first) > 1 else 1, second[-1] if len(second) > 1 else 1
    batch = torch.broadcast_shapes(tuple(first[:-2]), tuple(second[:-2]))
    return math.prod(batch) * rows * first[-1] * columns


# Operators of ours: how many of their first arguments a rule reads, and the rule.
_OPERATORS: Final[dict[str, tuple[int, _ShapeRule]]] = {
    "position_output": (3, _position_macs),
    "content_lambdas": (2, _content_macs),
}


def _of_values(num_tensors: int, macs: _ShapeRule) -> _OperatorRule:
    """A rule for the values of a traced graph."""
    return lambda inputs, _: macs(*(one.type().sizes() for one in inputs[:num_tensors]))


def _of_tensors(first: int, end: int, macs: _ShapeRule) -> _OperatorRule:
    """A rule for some of an operator's arguments."""
    return lambda inputs, _: macs(*(one.shape for one in inputs[first:end]))


def _module_macs(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> int:
    """Multiply-adds of one call of a module of ours."""
    shapes = [tuple(one.shape) for one in inputs if isinstance(one, Tensor)]
    if isinstance(module, RelativePosition):
        table = module.table_for(shapes[0][3:])
        return _position_macs(shapes[0], shapes[1], tuple(table.shape))
    return shapes[0][0] * layer_flops(module, [one[1:] for one in shapes], tuple(output.shape[1:])) // 2
