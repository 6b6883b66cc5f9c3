"""Positions as modules: a relative table with its scope, or dense embeddings; shared by handing them on."""

from collections.abc import Sequence
from typing import Final, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, bind_type, check_choice, check_mask, check_positive, plain_sizes
from lambdanets.functional._layout import is_traced
from lambdanets.functional.causal import CausalState, causal_lambda_layer, causal_lambda_step
from lambdanets.functional.content import apply_summary
from lambdanets.functional.layer import lambda_layer
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

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Tensors that are not of one floating-point type (`shared` may be of its own);
            a mask that is not boolean.

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
            scope = per_axis(who, "scope_size", scope_size, num_axes)
            check_scope(who, scope, num_axes)
        elif feature_size is not None:
            sides = per_axis(who, "feature_size", feature_size, num_axes)
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
        values: Float[Tensor, "b u v *context"],
        shared: Float[Tensor, "b k v"] | None = None,
        *,
        mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b h v *size"]:
        """Apply each position's lambda to its queries, and with it the lambda that all positions share.

        Args:
            queries: h queries for each position.
            values: u value vectors for each context element. On a map of the queries' own size the position
                lambdas are never stored.
            shared: A lambda of each image to be added to each position's own, such as the content's.
            mask: True where a query sees a context element, counted in row-major order.
            causal: Each query of a sequence sees the context up to its own element. The queries are those of
                the context's last elements.
        """
        # What is no tensor has no shape, and is refused below.
        size, context_size = (tuple(getattr(one, "shape", ())[3:]) for one in (queries, values))
        if is_traced():
            size, context_size = plain_sizes(size), plain_sizes(context_size)
        is_map = mask is None and not causal and size == context_size
        if self.is_global or self.bias is not None or not is_map:
            # `position_output` looks at what is handed on to it as it came.
            _check_types("RelativePosition", queries, values, shared, mask)
        if self.bias is not None:  # a lambda too, the same for all value channels
            bias = self.bias[:, None]
            shared = bias.expand(values.shape[0], -1, values.shape[2]) if shared is None else shared + bias
        if is_map:
            table = self.table_for(size) if self.is_global else self.table
            return position_output(queries, values, table, shared=shared, impl=self.impl)
        if mask is None and causal:
            output = _causal_output(queries, values, self.table_for(context_size))
        else:
            output = _general_output(queries, values, self.embeddings(size, context_size), mask, causal)
        return output if shared is None else output + apply_summary(queries, shared)

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

    Raises:
        ArgumentError: Sizes below 1; other lengths than it was made for.
        ArgumentTypeError: Tensors that are not of one floating-point type (`shared` may be of its own);
            a mask that is not boolean.
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

    def forward(
        self,
        queries: Float[Tensor, "b h k n"],
        values: Float[Tensor, "b u v m"],
        shared: Float[Tensor, "b k v"] | None = None,
        *,
        mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b h v n"]:
        """Apply the lambdas that the embeddings of the pairs make, as `RelativePosition` does."""
        _check_types("DensePosition", queries, values, shared, mask)
        embeddings = self.embeddings((queries.shape[3],), (values.shape[3],))
        output = _general_output(queries, values, embeddings, mask, causal)
        return output if shared is None else output + apply_summary(queries, shared)


def causal_mask(queries: Float[Tensor, "b h k n"], m: int) -> Bool[Tensor, "n m"]:
    """True up to each query's own element; the queries are those of the context's last elements.

    Paper: §B.2.
    """
    n = queries.shape[3]
    return torch.ones(n, m, dtype=torch.bool, device=queries.device).tril(m - n)


def state_without_content(recent: Float[Tensor, "b u v past"], k: int) -> CausalState:
    """The state of positions alone: the last values.

    Paper: §B.2.
    """
    b, u, v, _ = recent.shape
    zeros = recent.new_zeros(b, u, k)
    return CausalState(
        maximum=zeros, numerators=recent.new_zeros(b, u, k, v), denominators=zeros, recent=recent
    )


def set_implementation(model: nn.Module, impl: str) -> None:
    """Choose the implementation of `position_output` in every layer of a model.

    Paper: none (ours).
    """
    for module in model.modules():
        if isinstance(module, RelativePosition):
            module.impl = impl


def _check_types(
    who: str, queries: Tensor, values: Tensor, shared: Tensor | None, mask: Tensor | None
) -> None:
    """Raise unless all but the mask are floating-point tensors; what reads them compares their types."""
    bind_type(who, "queries", queries, {})
    bind_type(who, "values", values, {})
    if shared is not None:
        bind_type(who, "shared", shared, {})
    if mask is not None:
        check_mask(who, mask)


def _general_output(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *context"],
    embeddings: Float[Tensor, "n m u k"],
    mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"] | None,
    causal: bool,
) -> Float[Tensor, "b h v *size"]:
    """The position lambdas of any embeddings, stored, and applied."""
    flat = queries.flatten(3)
    if causal:
        past = causal_mask(flat, embeddings.shape[1])
        mask = past if mask is None else mask & past
    output = lambda_layer(flat, None, values.flatten(3), embeddings, mask, key_normalization="none")
    return output.unflatten(-1, queries.shape[3:])


def _causal_output(
    queries: Float[Tensor, "b h k n"], values: Float[Tensor, "b u v m"], table: Float[Tensor, "u k r"]
) -> Float[Tensor, "b h v n"]:
    """The position lambdas of the past, by a convolution with the half of the table that is about it."""
    past, reach = values.shape[-1] - queries.shape[-1], table.shape[-1] // 2
    if past == 0:
        return causal_lambda_layer(queries, None, values, table, key_normalization="none")
    recent = nn.functional.pad(values[..., :past], (reach - past, 0))
    state = state_without_content(recent, table.shape[1])
    return causal_lambda_step(queries, None, values[..., past:], table, state, key_normalization="none")[0]


def per_axis(who: str, argument: str, value: int | Sequence[int], num_axes: int) -> tuple[int, ...]:
    """One positive number for each axis of a map; a single one is that of all."""
    sides = (value,) * num_axes if isinstance(value, int) else tuple(value)
    if len(sides) != num_axes or min(sides) < 1:
        raise ArgumentError(
            f"{who}: {argument} must be a positive number, or {num_axes} of them, got {value}."
        )
    return sides
