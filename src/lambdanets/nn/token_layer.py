"""`LambdaLayer`: the lambda layer of tokens, with separate contexts, masks and a causal form."""

from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lambdanets.errors import (
    ArgumentError,
    Sizes,
    bind_shape,
    bind_tensor,
    check_choice,
    check_mask,
)
from lambdanets.functional._keys import KeyNormalizer
from lambdanets.functional.causal import CausalState, causal_lambda_layer, causal_lambda_step, check_state
from lambdanets.functional.content import apply_summary, content_summary
from lambdanets.functional.lambdas import normalize_queries
from lambdanets.functional.layer import lambda_layer
from lambdanets.nn.children import (
    as_one_node,
    call_child,
    is_symbolic,
    make_normalization,
    plain_weight,
    taken_channels,
)
from lambdanets.nn.key_normalization import make_key_normalization
from lambdanets.nn.lambda_layer import check_projections, check_shared_position, initialize_projections
from lambdanets.nn.position import DensePosition, RelativePosition, causal_mask, state_without_content
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
            a position module to share: one of these, or any that is called as they are.
        scope_size: Side of the relative window, odd; None is the global context.
        feature_size: Number of tokens n, or (n, m): sizes dense positions and a global relative table.
        content: Use the content lambda.
        causal: Each token sees itself and what came before. Needs a normalisation that looks at one token
            at a time.
        key_normalization: `"softmax"`, `"softmax_keys_and_queries"`, `"l2"`, `"none"`, or a callable or
            module, as in `LambdaLayer2d`, under a mask as in `lambda_layer`. Causal layers take names alone.
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
        position: Literal["relative", "dense", "none"] | nn.Module = "relative",
        scope_size: int | None = 23,
        feature_size: int | tuple[int, int] | None = None,
        content: bool = True,
        causal: bool = False,
        key_normalization: KeyNormalization | KeyNormalizer = "softmax",
        normalization: Normalization = "batch",
        initialization: Initialization = "paper",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        context_channels = in_channels if context_channels is None else context_channels
        check_projections("LambdaLayer", in_channels, out_channels, query_depth, num_heads, intra_depth)
        if causal and normalization == "batch":
            raise ArgumentError(
                "LambdaLayer: normalization must not look across time when causal is True, got 'batch'. "
                "Use 'layer' or 'none'."
            )
        if position == "none" and not content:
            raise ArgumentError("LambdaLayer: content must be True when position is 'none', got False.")
        self.query_depth, self.num_heads, self.intra_depth = query_depth, num_heads, intra_depth
        self.value_depth = out_channels // num_heads
        self.key_normalization = make_key_normalization("LambdaLayer", key_normalization, causal=causal)
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
        if is_symbolic(inputs):
            return as_one_node(self, inputs, context, mask)
        if self.causal and context is not None:
            raise ArgumentError("LambdaLayer: context must be None when causal is True, got a tensor.")
        queries, keys, values = self._project(inputs, inputs if context is None else context)
        seen: dict[str, Any] = {}
        if mask is not None:
            _check_mask(mask, queries, values)
            seen["mask"] = mask & causal_mask(queries, values.shape[3]) if self.causal else mask
        elif self.causal:
            seen["causal"] = True
        shared, own = self._content(queries, keys, values, **seen)
        queries = normalize_queries(queries, self.key_normalization)
        if self.position is not None:
            output = self._apply_position(queries, values, shared, **seen)
            output = output if own is None else output + own
        elif own is not None:
            output = own
        elif shared is not None:
            output = apply_summary(queries, shared)
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
        reach = self._reach()
        queries, keys, values = self._project(inputs, inputs)
        if state is None:
            recent = values.new_zeros(*values.shape[:3], reach)
            state = state_without_content(recent, self.query_depth)
            before = None
        else:
            (b, _, k, _), (_, u, v, _) = queries.shape, values.shape
            sizes: Sizes = {"b": (b, "inputs"), "u": (u, "intra_depth"), "k": (k, "query_depth")}
            sizes |= {"v": (v, "out_channels"), "r//2": (reach, "scope_size")}
            check_state("LambdaLayer", state, sizes)
            recent, before = state.recent, state._replace(recent=state.recent[..., :0])
        output = None
        if keys is not None:
            output, state = causal_lambda_step(
                queries, keys, values, None, before, key_normalization=self._named()
            )
        if self.position is not None:
            queries = normalize_queries(queries, self.key_normalization)
            values = torch.cat([recent.to(values.dtype), values], dim=-1)
            positional = self._apply_position(queries, values, None, causal=True)
            output = positional if output is None else output + positional
            state = state._replace(recent=values[..., values.shape[-1] - reach :])
        assert output is not None
        return output.flatten(1, 2).transpose(1, 2), state

    def _content(
        self,
        queries: Float[Tensor, "b h k n"],
        keys: Float[Tensor, "b u k m"] | None,
        values: Float[Tensor, "b u v m"],
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> tuple[Float[Tensor, "b k v"] | None, Float[Tensor, "b h v n"] | None]:
        """The content's lambda where all queries share it; otherwise the output of each query's own."""
        normalization = self.key_normalization
        if keys is None:
            return None, None
        if mask is not None:
            return None, lambda_layer(queries, keys, values, None, mask, key_normalization=normalization)
        if causal:
            named = self._named()
            return None, causal_lambda_layer(queries, keys, values, None, key_normalization=named)
        return content_summary(keys, values, key_normalization=normalization), None

    def _named(self) -> KeyNormalization:
        """The normalisation of a causal layer, which takes no callables."""
        assert isinstance(self.key_normalization, str)
        return self.key_normalization

    def _apply_position(
        self,
        queries: Float[Tensor, "b h k n"],
        values: Float[Tensor, "b u v m"],
        shared: Float[Tensor, "b k v"] | None,
        **seen: Any,
    ) -> Float[Tensor, "b h v n"]:
        """Call the position module; `seen` is the mask, or that the past alone is seen."""
        assert self.position is not None
        b, h, _, n = queries.shape
        wanted = (b, h, values.shape[2], n)
        # Hooks of others, such as those that keep inputs, expect every one to be a tensor.
        tensors = (queries, values) if shared is None else (queries, values, shared)
        return call_child("LambdaLayer", "position", wanted, self.position, *tensors, **seen)

    def _reach(self) -> int:
        """The tokens before its own that a token sees by their positions."""
        if self.position is None:
            return 0
        table = getattr(self.position, "table", None)
        if table is None:
            raise ArgumentError(
                f"LambdaLayer: position must have a table for step, got a {type(self.position).__name__}."
            )
        if getattr(self.position, "is_global", False):
            raise ArgumentError("LambdaLayer: step needs a local scope, got scope_size=None.")
        return int(table.shape[-1]) // 2

    def _project(
        self, inputs: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"]
    ) -> tuple[Float[Tensor, "b h k n"], Float[Tensor, "b u k m"] | None, Float[Tensor, "b u v m"]]:
        sizes: Sizes = {}
        weight = plain_weight(self.to_queries)
        if weight is not None:
            sizes["dtype"] = (weight.dtype, "the weights")
        bind_tensor("LambdaLayer", "inputs", inputs, "b n d", sizes)
        if context is not inputs:
            del sizes["d"], sizes["n"]
            bind_tensor("LambdaLayer", "context", context, "b m c", sizes)
        h, k, u, v = self.num_heads, self.query_depth, self.intra_depth, self.value_depth
        try:
            queries = self._branch("queries", inputs, h * k).unflatten(1, (h, k))
            keys = None if self.to_keys is None else self._branch("keys", context, u * k).unflatten(1, (u, k))
            values = self._branch("values", context, u * v).unflatten(1, (u, v))
        except ArgumentError:
            self._check_channels(inputs, context)
            raise
        return queries, keys, values

    def _branch(self, name: str, tokens: Float[Tensor, "b n d"], channels: int) -> Float[Tensor, "b c n"]:
        """A projection, and the norm behind it where there is one."""
        b, n, _ = tokens.shape
        projection, norm = getattr(self, f"to_{name}"), getattr(self, f"norm_{name}", None)
        projected = call_child("LambdaLayer", f"to_{name}", (b, n, channels), projection, tokens).mT
        if norm is None:
            return projected
        if torch.compiler.is_compiling():
            # Batch norms write another order than compilers expect of them where tokens are not contiguous.
            projected = projected.contiguous()
        return call_child("LambdaLayer", f"norm_{name}", (b, channels, n), norm, projected)

    def _check_channels(self, inputs: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"]) -> None:
        """Raise if a projection failed because of the layer's inputs."""
        d, c = taken_channels(self.to_queries), taken_channels(self.to_keys, self.to_values)
        # Where keys and values take the inputs as they are, they are right, and the child is not.
        if d is not None and not (context is inputs and c == inputs.shape[2]):
            bind_shape("LambdaLayer", "inputs", inputs, "b n d", {"d": (d, "in_channels")})
        if c is not None:
            sizes: Sizes = {"b": (inputs.shape[0], "inputs"), "c": (c, "context_channels")}
            bind_shape("LambdaLayer", "context", context, "b m c", sizes)


def _check_mask(mask: Tensor, queries: Float[Tensor, "b h k n"], values: Float[Tensor, "b u v m"]) -> None:
    """Raise unless a mask says for each token which elements it sees."""
    check_mask("LambdaLayer", mask)
    (b, *_, n), m = queries.shape, values.shape[3]
    sizes: Sizes = {"b": (b, "inputs"), "n": (n, "inputs"), "m": (m, "context")}
    bind_shape("LambdaLayer", "mask", mask, "n m" if mask.ndim == 2 else "b n m", sizes)


def _resolve_position(
    position: str | nn.Module,
    k: int,
    u: int,
    scope_size: int | None,
    feature_size: int | tuple[int, int] | None,
    initialization: Initialization,
    impl: str,
) -> nn.Module | None:
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
    if isinstance(position, nn.Module):
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
