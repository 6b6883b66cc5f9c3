"""`LambdaLayer`: the lambda layer of tokens, with separate contexts, masks and a causal form."""

from typing import Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, Sizes, bind_tensor, check_choice, check_mask
from lambdanets.functional.causal import CausalState, causal_lambda_layer, causal_lambda_step
from lambdanets.functional.content import apply_summary, content_summary
from lambdanets.functional.lambdas import KEY_NORMALIZATIONS, normalize_queries
from lambdanets.functional.layer import lambda_layer
from lambdanets.nn.children import call_child, make_normalization, plain_weight, taken_channels
from lambdanets.nn.lambda_layer import check_projections, check_shared_position, initialize_projections
from lambdanets.nn.position import DensePosition, RelativePosition
from lambdanets.notation import Initialization, KeyNormalization, Normalization

_POSITIONS: Final = ("relative", "dense", "none")


class LambdaLayer(nn.Module):
    """Long-range interactions between tokens "b n d", without attention.

    λₙ = Σₘ (k̄ₘ + eₙₘ) vₘᵀ and yₙ = λₙᵀ qₙ, with the context's tokens m the inputs' own or others. Without
    a mask, a separate context or dense positions the position lambdas are never stored; with them the
    general form takes b·n·k·v numbers, and b·n·m·u·k under a mask.

    Paper: §3, Figure 3; §B.2 (masks).

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs; a multiple of `num_heads`. As `in_channels` by default.
        context_channels: d of a separate context. As `in_channels` by default.
        query_depth: k.
        num_heads: h.
        intra_depth: u.
        position: `"relative"` (one embedding per offset), `"dense"` (one per pair of tokens), `"none"`, or
            a position module to share.
        scope_size: Side of the relative window, odd; None is the global context.
        feature_size: Number of tokens n, or (n, m): sizes dense positions and a global relative table.
        content: Use the content lambda.
        causal: Each token sees itself and what came before. Needs a normalisation that looks at one token
            at a time.
        key_normalization: `"softmax"`, `"softmax_keys_and_queries"`, `"l2"` or `"none"`.
        normalization: Of queries and values: `"batch"`, `"layer"` or `"none"`.
        initialization: `"paper"` or `"unit"`.
        impl: Implementation of `position_output`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together; inputs of another shape.
        ArgumentTypeError: Inputs or a context that are not of the weights' floating-point type; a mask that
            is not boolean.

    Example:
        >>> layer = LambdaLayer(64, context_channels=32)
        >>> layer(torch.ones(2, 10, 64), context=torch.ones(2, 7, 32)).shape
        torch.Size([2, 10, 64])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        context_channels: int | None = None,
        query_depth: int = 16,
        num_heads: int = 4,
        intra_depth: int = 1,
        position: Literal["relative", "dense", "none"] | RelativePosition | DensePosition = "relative",
        scope_size: int | None = 23,
        feature_size: int | tuple[int, int] | None = None,
        content: bool = True,
        causal: bool = False,
        key_normalization: KeyNormalization = "softmax",
        normalization: Normalization = "batch",
        initialization: Initialization = "paper",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        context_channels = in_channels if context_channels is None else context_channels
        check_projections("LambdaLayer", in_channels, out_channels, query_depth, num_heads, intra_depth)
        check_choice("LambdaLayer", "key_normalization", key_normalization, KEY_NORMALIZATIONS)
        if causal and normalization == "batch":
            raise ArgumentError(
                "LambdaLayer: normalization must not look across time when causal is True, got 'batch'. "
                "Use 'layer' or 'none'."
            )
        if position == "none" and not content:
            raise ArgumentError("LambdaLayer: content must be True when position is 'none', got False.")
        self.query_depth, self.num_heads, self.intra_depth = query_depth, num_heads, intra_depth
        self.value_depth = out_channels // num_heads
        self.key_normalization: KeyNormalization = key_normalization
        self.causal = causal
        value_channels = intra_depth * self.value_depth
        self.to_queries = nn.Linear(in_channels, num_heads * query_depth, bias=False)
        self.to_keys = nn.Linear(context_channels, intra_depth * query_depth, bias=False) if content else None
        self.to_values = nn.Linear(context_channels, value_channels, bias=False)
        self.norm_queries = make_normalization(normalization, num_heads * query_depth, 1)
        self.norm_values = make_normalization(normalization, value_channels, 1)
        self.position = _resolve_position(
            position, query_depth, intra_depth, scope_size, feature_size, initialization, impl
        )
        initialize_projections(self, query_depth)

    def forward(
        self,
        inputs: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m c"] | None = None,
        mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"] | None = None,
    ) -> Float[Tensor, "b n out"]:
        """Summarise the context (the inputs by default) and apply the summaries to the inputs' queries.

        `mask` is True where a token sees a context element; one that sees nothing returns zero.
        """
        if self.causal and context is not None:
            raise ArgumentError("LambdaLayer: context must be None when causal is True, got a tensor.")
        queries, keys, values = self._project(inputs, inputs if context is None else context)
        normalization, n, m = self.key_normalization, queries.shape[-1], values.shape[-1]
        if context is not None or mask is not None or isinstance(self.position, DensePosition):
            if self.causal:
                if mask is not None:
                    check_mask("LambdaLayer", mask)
                past = torch.ones(n, m, dtype=torch.bool, device=queries.device).tril()
                mask = past if mask is None else mask & past
            embeddings = None if self.position is None else self.position.embeddings((n,), (m,))
            output = lambda_layer(queries, keys, values, embeddings, mask, key_normalization=normalization)
        elif self.causal:
            table = None if self.position is None else self.position.table_for((n,))
            output = causal_lambda_layer(queries, keys, values, table, key_normalization=normalization)
        else:  # the form of maps, which never stores the position lambdas
            queries = normalize_queries(queries, normalization)
            content: tuple[Tensor, ...] = ()
            if keys is not None:
                content = (content_summary(keys, values, key_normalization=normalization),)
            if self.position is not None:
                output = self.position(queries, values, *content)
            else:
                output = apply_summary(queries, *content)
        return output.flatten(1, 2).transpose(1, 2)

    def step(
        self, inputs: Float[Tensor, "b n d"], state: CausalState | None = None
    ) -> tuple[Float[Tensor, "b n out"], CausalState]:
        """Continue a causal layer with the next tokens; the same outputs as `forward` on all of them.

        Args:
            inputs: The tokens that come next: one, or several.
            state: What the last call returned; None before the first token.
        """
        if not self.causal or isinstance(self.position, DensePosition):
            raise ArgumentError("LambdaLayer: step must be called on a causal layer without dense positions.")
        if self.position is not None and self.position.is_global:
            raise ArgumentError("LambdaLayer: step needs a local scope, got scope_size=None.")
        queries, keys, values = self._project(inputs, inputs)
        table = None if self.position is None else self.position.table
        output, state = causal_lambda_step(
            queries, keys, values, table, state, key_normalization=self.key_normalization
        )
        return output.flatten(1, 2).transpose(1, 2), state

    def _project(
        self, inputs: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"]
    ) -> tuple[Float[Tensor, "b h k n"], Float[Tensor, "b u k m"] | None, Float[Tensor, "b u v m"]]:
        sizes: Sizes = {}
        d, c = taken_channels(self.to_queries), taken_channels(self.to_keys, self.to_values)
        if d is not None:
            sizes["d"] = (d, "in_channels")
        weight = plain_weight(self.to_queries)
        if weight is not None:
            sizes["dtype"] = (weight.dtype, "the weights")
        bind_tensor("LambdaLayer", "inputs", inputs, "b n d", sizes)
        if c is not None:
            sizes["c"] = (c, "context_channels")
        bind_tensor("LambdaLayer", "context", context, "b m c", sizes)
        h, k, u, v = self.num_heads, self.query_depth, self.intra_depth, self.value_depth
        queries = self._branch("queries", inputs, h * k).unflatten(1, (h, k))
        keys = None if self.to_keys is None else self._branch("keys", context, u * k).unflatten(1, (u, k))
        values = self._branch("values", context, u * v).unflatten(1, (u, v))
        return queries, keys, values

    def _branch(self, name: str, tokens: Float[Tensor, "b n d"], channels: int) -> Float[Tensor, "b c n"]:
        """A projection, and the norm behind it where there is one."""
        b, n, _ = tokens.shape
        projection, norm = getattr(self, f"to_{name}"), getattr(self, f"norm_{name}", None)
        projected = call_child("LambdaLayer", f"to_{name}", projection, tokens, (b, n, channels)).mT
        if norm is None:
            return projected
        return call_child("LambdaLayer", f"norm_{name}", norm, projected, (b, channels, n))


def _resolve_position(
    position: str | RelativePosition | DensePosition,
    k: int,
    u: int,
    scope_size: int | None,
    feature_size: int | tuple[int, int] | None,
    initialization: Initialization,
    impl: str,
) -> RelativePosition | DensePosition | None:
    """The module that a name stands for, or the one that was handed in, if it fits."""
    if isinstance(position, RelativePosition):
        check_shared_position("LambdaLayer", position, 1, k, u)
        if position.bias is not None:
            raise ArgumentError("LambdaLayer: position must have no bias, got one with bias=True.")
        return position
    if isinstance(position, DensePosition):
        if tuple(position.table.shape[2:]) != (u, k):
            raise ArgumentError(
                f"LambdaLayer: position must have embeddings (n, m, u, k) with u={u}, k={k}, "
                f"got {tuple(position.table.shape)}."
            )
        return position
    check_choice("LambdaLayer", "position", position, _POSITIONS)
    if position == "relative":
        return RelativePosition(
            1,
            query_depth=k,
            intra_depth=u,
            scope_size=scope_size,
            feature_size=max(feature_size) if isinstance(feature_size, tuple) else feature_size,
            initialization=initialization,
            impl=impl,
        )
    if position == "none":
        return None
    if feature_size is None:
        raise ArgumentError(
            "LambdaLayer: feature_size must be given when position is 'dense', got None. "
            "It is the number of tokens n, or (n, m)."
        )
    n, m = (feature_size, feature_size) if isinstance(feature_size, int) else feature_size
    return DensePosition(n, m, query_depth=k, intra_depth=u, initialization=initialization)
