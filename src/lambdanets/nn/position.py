"""Positions as modules: a relative table with its scope, or dense embeddings; shared by handing them on."""

from collections.abc import Sequence
from typing import Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, bind_type, check_choice, check_positive
from lambdanets.functional.position import position_output
from lambdanets.functional.relative_position import check_scope, dense_embeddings, resize_table
from lambdanets.notation import Initialization

_INITIALIZATIONS: Final[tuple[Initialization, ...]] = get_args(Initialization)


class RelativePosition(nn.Module):
    """One learned embedding for each relative offset; translation-equivariant.

    λᵖₙ = Σₘ R[m - n] vₘᵀ, applied as yₙ = λᵖₙᵀ qₙ without storing it. `table` is R, of shape
    "u k *scope". Hand one module to several layers to share it. Time b·n·r·u·k·v at most, memory
    k·r for the table.

    Paper: §3.1, §3.2; Table 10 (scope); Table 4 (shared embeddings).

    Args:
        num_axes: 1, 2 or 3.
        query_depth: k.
        intra_depth: u.
        scope_size: Side of the local window, or one for each axis; odd. None is the global context.
        feature_size: Map the global context is sized for. At a smaller map its table is cropped, which
            is exact; at a larger one it is interpolated. Not read when `scope_size` is given.
        bias: Add a learned k-vector to every embedding of each lambda; for loading other projects'
            checkpoints. The paper has none.
        initialization: `"paper"` draws R from N(0, 1), which gives outputs a scale of √(k·u·|scope|);
            `"unit"` divides by that, so that outputs start with the scale of the values.
        impl: Implementation of `position_output`.

    Example:
        >>> position = RelativePosition(2, scope_size=None, feature_size=14)
        >>> position.table.shape, position.table_for((7, 20)).shape
        (torch.Size([1, 16, 27, 27]), torch.Size([1, 16, 27, 39]))
    """

    def __init__(
        self,
        num_axes: int,
        *,
        query_depth: int = 16,
        intra_depth: int = 1,
        scope_size: int | Sequence[int] | None = 23,
        feature_size: int | Sequence[int] | None = None,
        bias: bool = False,
        initialization: Initialization = "paper",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        who = type(self).__name__
        check_choice(who, "initialization", initialization, _INITIALIZATIONS)
        check_positive(who, query_depth=query_depth, intra_depth=intra_depth)
        self.is_global = scope_size is None
        self.initialization = initialization
        self.impl = impl
        if scope_size is not None:
            scope = _per_axis(who, "scope_size", scope_size, num_axes)
            check_scope(who, scope, num_axes)
        elif feature_size is not None:
            sides = _per_axis(who, "feature_size", feature_size, num_axes)
            scope = tuple(2 * length - 1 for length in sides)
        else:
            raise ArgumentError(
                f"{who}: feature_size must be given when scope_size is None, got None. "
                "The global context's table has one row for each offset of a map of that size."
            )
        self.table = nn.Parameter(torch.empty(intra_depth, query_depth, *scope))
        self.bias = nn.Parameter(torch.empty(query_depth)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table again."""
        scale = 1.0 if self.initialization == "paper" else self.table.numel() ** -0.5
        nn.init.normal_(self.table, std=scale)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def table_for(self, size: tuple[int, ...]) -> Float[Tensor, "u k *scope"]:
        """The table as it is used at one map: a global one covers every offset that occurs there."""
        if not self.is_global:
            return self.table
        scope = tuple(
            max(side, 2 * length - 1) for side, length in zip(self.table.shape[2:], size, strict=True)
        )
        return resize_table(self.table, scope)

    def embeddings(self, size: tuple[int, ...], context_size: tuple[int, ...]) -> Float[Tensor, "n m u k"]:
        """One embedding for each (query, context) pair, written out; zero out of scope."""
        reach = tuple(max(a, b) for a, b in zip(size, context_size, strict=True))
        return dense_embeddings(self.table_for(reach), size, context_size)

    def forward(
        self,
        queries: Float[Tensor, "b h k *size"],
        values: Float[Tensor, "b u v *size"],
        shared: Float[Tensor, "b k v"] | None = None,
    ) -> Float[Tensor, "b h v *size"]:
        """Apply each position's lambda to its queries, and with it the lambda that all positions share."""
        # `position_output` looks at what is handed on to it as it came.
        if self.is_global:
            bind_type("RelativePosition", "queries", queries, {})
        table = self.table_for(tuple(queries.shape[3:])) if self.is_global else self.table
        if self.bias is not None:  # a lambda too, the same for all value channels
            bind_type("RelativePosition", "values", values, {})
            if shared is not None:
                bind_type("RelativePosition", "shared", shared, {})
            bias = self.bias[:, None]
            shared = bias.expand(len(values), -1, values.shape[2]) if shared is None else shared + bias
        return position_output(queries, values, table, shared=shared, impl=self.impl)

    def extra_repr(self) -> str:
        """Scope and depths."""
        u, k, *scope = self.table.shape
        name = "global_scope" if self.is_global else "scope"
        return f"{name}={tuple(scope)}, query_depth={k}, intra_depth={u}, impl={self.impl!r}"


class DensePosition(nn.Module):
    """One learned embedding for each (query, context) pair, for sequences of fixed lengths.

    `table` is E, of shape "n m u k": n·m·u·k parameters.

    Paper: §3.1, Figure 3 (any embeddings).

    Args:
        num_queries: n.
        num_context: m.
        query_depth: k.
        intra_depth: u.
        initialization: `"paper"` draws from N(0, 1), `"unit"` divides by √(k·u·m).
    """

    def __init__(
        self,
        num_queries: int,
        num_context: int,
        *,
        query_depth: int = 16,
        intra_depth: int = 1,
        initialization: Initialization = "paper",
    ) -> None:
        super().__init__()
        who = type(self).__name__
        check_choice(who, "initialization", initialization, _INITIALIZATIONS)
        check_positive(
            who,
            num_queries=num_queries,
            num_context=num_context,
            query_depth=query_depth,
            intra_depth=intra_depth,
        )
        self.initialization = initialization
        self.table = nn.Parameter(torch.empty(num_queries, num_context, intra_depth, query_depth))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings again."""
        scale = 1.0 if self.initialization == "paper" else self.table[0].numel() ** -0.5
        nn.init.normal_(self.table, std=scale)

    def embeddings(self, size: tuple[int, ...], context_size: tuple[int, ...]) -> Float[Tensor, "n m u k"]:
        """The embeddings, for the lengths they were made for."""
        made, given = tuple(self.table.shape[:2]), (*size, *context_size)
        if given != made:
            raise ArgumentError(
                f"DensePosition: inputs and context must have the lengths n={made[0]} and m={made[1]} the "
                f"embeddings were made for, got {given[0]} and {given[1]}. RelativePosition takes any length."
            )
        return self.table


def set_implementation(model: nn.Module, impl: str) -> None:
    """Choose the implementation of `position_output` in every layer of a model.

    Paper: none (ours).
    """
    for module in model.modules():
        if isinstance(module, RelativePosition):
            module.impl = impl


def _per_axis(who: str, argument: str, value: int | Sequence[int], num_axes: int) -> tuple[int, ...]:
    sides = (value,) * num_axes if isinstance(value, int) else tuple(value)
    if len(sides) != num_axes or min(sides) < 1:
        raise ArgumentError(
            f"{who}: {argument} must be a positive number, or {num_axes} of them, got {value}."
        )
    return sides
