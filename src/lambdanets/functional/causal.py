"""`causal_lambda_layer`: each query sees its past, in memory linear in n; and the same, step by step."""

from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv1d

from lambdanets.errors import ArgumentError, ArgumentTypeError, Sizes, bind_tensor
from lambdanets.functional._keys import check_key_normalization
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.lambdas import L2_EPSILON, normalize_queries
from lambdanets.functional.relative_position import check_scope
from lambdanets.notation import KeyNormalization

# Tokens that see one another through a small dense triangle; what came before them is one running sum.
_CHUNK: Final = 32


class CausalState(NamedTuple):
    """What the past leaves behind: its size does not grow with the number of tokens.

    Paper: §B.2.

    Attributes:
        maximum: Largest key of each channel so far; the exponents are taken relative to it.
        numerators: Σ wₘ vₘᵀ of each channel.
        denominators: Σ wₘ of each channel, or Σ kₘ² for `"l2"`.
        recent: The last r // 2 values.
    """

    maximum: Float[Tensor, "b u k"]
    numerators: Float[Tensor, "b u k v"]
    denominators: Float[Tensor, "b u k"]
    recent: Float[Tensor, "b u v past"]


_STATE_LETTERS: Final = {
    "numerators": "b u k v",
    "maximum": "b u k",
    "denominators": "b u k",
    "recent": "b u v r//2",
}


def causal_lambda_layer(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b u k n"] | None,
    values: Float[Tensor, "b u v n"],
    table: Float[Tensor, "u k r"] | None,
    *,
    key_normalization: KeyNormalization = "softmax",
) -> Float[Tensor, "b h v n"]:
    """Apply lambdas made from the elements up to and including each query's own (m <= n).

    The content part keeps running numerators and denominators relative to the running maximum, so
    keys of any size are safe; the position part is a causal lambda convolution. Time b·n·k·v·(r + c)
    for chunks of c tokens, memory linear in n.

    Paper: §B.2.
    Departs: the condition is m <= n where the paper's text has m < n, and keys are normalised over
    what each query sees.

    Args:
        queries: h queries per position.
        keys: One key per element; None leaves out the content lambdas.
        values: One value vector per element.
        table: One embedding per offset; only offsets up to zero are read. None leaves out the
            position lambdas.
        key_normalization: As in `lambda_layer`, by name.

    Raises:
        ArgumentError: Shapes that do not fit, neither keys nor a table, an unknown normalisation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q, k, v = torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.arange(4.0).view(1, 1, 1, 4)
        >>> causal_lambda_layer(q, k, v, None)[0, 0, 0].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    return _advance("causal_lambda_layer", queries, keys, values, table, None, key_normalization)[0]


def causal_lambda_step(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b u k n"] | None,
    values: Float[Tensor, "b u v n"],
    table: Float[Tensor, "u k r"] | None,
    state: CausalState | None,
    *,
    key_normalization: KeyNormalization = "softmax",
) -> tuple[Float[Tensor, "b h v n"], CausalState]:
    """Continue `causal_lambda_layer` with n more tokens (one, at inference) after those behind `state`.

    Paper: §B.2.

    Args:
        state: What the last call returned; None before the first token. It may be of another
            floating-point type than the tokens.

    Returns:
        The outputs of the new tokens, and the state after them, in float32 at least.

    Raises:
        ArgumentError: Shapes that do not fit, neither keys nor a table, an unknown normalisation.
        ArgumentTypeError: Tensors that are not of one floating-point type; a state that is none.
    """
    return _advance("causal_lambda_step", queries, keys, values, table, state, key_normalization)


def _advance(
    who: str,
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b u k n"] | None,
    values: Float[Tensor, "b u v n"],
    table: Float[Tensor, "u k r"] | None,
    state: CausalState | None,
    key_normalization: KeyNormalization,
) -> tuple[Float[Tensor, "b h v n"], CausalState]:
    reach = _check(who, queries, keys, values, table, state, key_normalization)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with outside_autocast(queries):
        q, values = normalize_queries(queries.to(dtype), key_normalization), values.to(dtype)
        b, u, v, n = values.shape
        k = q.shape[2]
        if state is None:
            state = CausalState(
                maximum=values.new_full((b, u, k), torch.finfo(dtype).min),
                numerators=values.new_zeros(b, u, k, v),
                denominators=values.new_zeros(b, u, k),
                recent=values.new_zeros(b, u, v, reach),
            )
        else:
            state = CausalState(*(one.to(dtype) for one in state))
        output = q.new_zeros(b, q.shape[1], v, n)
        if n > 0 and keys is not None:
            content, state = _content(q, keys.to(dtype), values, state, key_normalization)
            output = output + content
        if n > 0 and table is not None:
            # A lambda convolution over the past half of the table; the context begins before the queries.
            context = torch.cat([state.recent, values], dim=-1)
            past = table.to(dtype)[..., : reach + 1].transpose(0, 1)  # k u past
            lambdas = conv1d(context.transpose(1, 2).flatten(0, 1), past).unflatten(0, (b, v))  # b v k n
            output = output + torch.einsum("bhkn,bvkn->bhvn", q, lambdas)
            state = state._replace(recent=context[..., context.shape[-1] - reach :])
        return output.to(queries.dtype), state


def _content(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b u k n"],
    values: Float[Tensor, "b u v n"],
    state: CausalState,
    key_normalization: KeyNormalization,
) -> tuple[Float[Tensor, "b h v n"], CausalState]:
    outputs = []
    for q, key, value in zip(
        queries.split(_CHUNK, dim=-1), keys.split(_CHUNK, dim=-1), values.split(_CHUNK, dim=-1), strict=True
    ):
        weights, decay, divisors, state = _running_weights(key, state, key_normalization)
        decayed = torch.einsum("bhkn,bukn->bhukn", q, decay / divisors)
        past = torch.einsum("bhukn,bukv->bhvn", decayed, state.numerators)
        scores = torch.einsum("bhkn,buknm->bhunm", q, weights / divisors[..., None])
        # A product with zero would carry what is not finite to the queries before it.
        finite = value.where(value.isfinite(), 0)
        present = torch.einsum("bhunm,buvm->bhvn", scores, finite) + (value - finite).cumsum(-1).sum(1, True)
        carried = decay[..., -1, None] * state.numerators
        numerators = carried + torch.einsum("bukm,buvm->bukv", weights[..., -1, :], value)
        state = state._replace(numerators=numerators)
        outputs.append(past + present)
    return torch.cat(outputs, dim=-1), state


def _running_weights(
    keys: Float[Tensor, "b u k c"], state: CausalState, key_normalization: KeyNormalization
) -> tuple[Float[Tensor, "b u k c c"], Float[Tensor, "b u k c"], Float[Tensor, "b u k c"], CausalState]:
    """Weights within a chunk, the factor on what came before, what both are divided by, the new state."""
    length = keys.shape[-1]
    future = torch.ones(length, length, dtype=torch.bool, device=keys.device).triu(1)
    if key_normalization in ("l2", "none"):
        weights = keys[..., None, :].masked_fill(future, 0)  # b u k c c
        squares = state.denominators[..., None] + keys.square().cumsum(dim=-1)
        one = torch.ones_like(keys)
        divisors = squares.clamp(min=L2_EPSILON**2).sqrt() if key_normalization == "l2" else one
        return weights, one, divisors, state._replace(denominators=squares[..., -1])
    # The output does not depend on what the exponents are relative to, so no gradient flows there.
    maximum = torch.maximum(state.maximum[..., None], keys.detach().cummax(dim=-1).values)
    exponents = keys[..., None, :] - maximum[..., None]  # b u k c c
    weights = exponents.masked_fill(future, -torch.inf).exp()
    decay = (state.maximum[..., None] - maximum).exp()
    divisors = decay * state.denominators[..., None] + weights.sum(dim=-1)
    return weights, decay, divisors, state._replace(maximum=maximum[..., -1], denominators=divisors[..., -1])


def _check(
    who: str,
    queries: Tensor,
    keys: Tensor | None,
    values: Tensor,
    table: Tensor | None,
    state: CausalState | None,
    key_normalization: str,
) -> int:
    """Raise unless all fits; return how many elements before its own a query sees by position."""
    if keys is None and table is None:
        raise ArgumentError(f"{who}: keys or table must be given, got None for both.")
    sizes: Sizes = {}
    bind_tensor(who, "queries", queries, "b h k n", sizes)
    if keys is not None:
        bind_tensor(who, "keys", keys, "b u k n", sizes)
    bind_tensor(who, "values", values, "b u v n", sizes)
    if table is not None:
        bind_tensor(who, "table", table, "u k r", sizes)
        check_scope(who, (table.shape[2],), 1)
    check_key_normalization(who, key_normalization, running=True)
    reach = 0 if table is None else table.shape[2] // 2
    if state is not None:
        check_state(who, state, sizes | {"r//2": (reach, "table")})
    return reach


def check_state(who: str, state: CausalState, sizes: Sizes) -> None:
    """Raise unless it is a state, of the sizes "b u k v" and "r//2"."""
    if not isinstance(state, CausalState):
        raise ArgumentTypeError(f"{who}: state must be a CausalState or None, got a {type(state).__name__}.")
    for name, letters in _STATE_LETTERS.items():
        bind_tensor(who, f"state.{name}", getattr(state, name), letters, sizes, own_type=True)
