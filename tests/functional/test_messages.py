"""Every message of functional/, word for word: one row for each."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lambdanets import functional
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.functional import (
    apply_lambdas,
    axial_attention,
    causal_lambda_layer,
    causal_lambda_step,
    channel_lambda,
    content_lambda,
    content_output,
    content_summary,
    global_attention,
    lambda_layer,
    linear_attention,
    local_attention,
    local_relation,
    multihead_lambda_layer,
    normalize_keys,
    normalize_queries,
    position_lambdas,
    position_output,
    relative_position,
    spatial_lambdas,
    vector_attention,
    window_values,
)
from lambdanets.functional import content as content_operator
from lambdanets.functional import position as position_operator
from lambdanets.functional._dispatch import Implementation, choose

FUNCTIONAL = Path(functional.__file__).parent


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


def unable() -> None:
    described = position_operator.describe(zeros(1, 1, 1, 2), zeros(1, 1, 1, 2), zeros(1, 1, 3))
    reason = "needs a CUDA tensor"
    triton = Implementation("triton", lambda _: reason, lambda _: 1.0, lambda *_: zeros())
    choose((triton,), described)


# b=2, h=3, k=4, v=5, u=1, n=6, m=7.
Q, K, V, E = zeros(2, 3, 4, 6), zeros(2, 1, 4, 7), zeros(2, 1, 5, 7), zeros(6, 7, 1, 4)
MAP_Q, MAP_V, R = zeros(2, 3, 4, 6, 7), zeros(2, 1, 5, 6, 7), zeros(1, 4, 3, 3)
MASK = torch.ones(6, 7).bool()
PAST_K, PAST_V, PAST_R = zeros(2, 1, 4, 6), zeros(2, 1, 5, 6), zeros(1, 4, 3)
# b=2, h=3, k=4, v=5 of attention.
HEAD_Q, HEAD_V, ROWS, COLUMNS = zeros(2, 3, 4, 6, 7), zeros(2, 3, 5, 6, 7), zeros(4, 3), zeros(4, 5)
CHOICES = "'softmax', 'softmax_keys_and_queries', 'l2', 'none'"
POSITION_NAMES, CONTENT_NAMES = (
    ", ".join(["auto", *(one.name for one in operator.IMPLEMENTATIONS)])
    for operator in (position_operator, content_operator)
)

# The whole text -> a call that raises it.
MESSAGES: dict[str, Callable[[], object]] = {
    "position_output: queries must have shape (b, h, k, *size), got (6, 7).": lambda: position_output(
        MAP_Q[0, 0, 0], MAP_V, R
    ),
    (
        "position_output: values must have shape (b, u, v, *size) with b=2, *size=(6, 7) taken from "
        "queries, got (2, 1, 5, 6, 5)."
    ): lambda: position_output(MAP_Q, MAP_V[..., :5], R),
    (
        "position_output: table must have shape (u, k, *scope) with u=1 taken from values, k=4 taken from "
        "queries, got (1, 3, 3, 3)."
    ): lambda: position_output(MAP_Q, MAP_V, R[:, :3]),
    "position_output: scope must have 2 sides, one for each axis, got (3,).": lambda: position_output(
        MAP_Q, MAP_V, R[..., 0]
    ),
    "position_output: scope must be odd, got 24. An even window has no centre; use 23 or 25.": lambda: (
        position_output(MAP_Q, MAP_V, zeros(1, 4, 3, 24))
    ),
    "position_output: queries must have a position along every axis, got (0, 3).": lambda: position_output(
        torch.ones(1, 1, 2, 0, 3), torch.ones(1, 1, 4, 0, 3), torch.ones(1, 2, 3, 3)
    ),
    "position_output: queries must have 1, 2 or 3 axes of positions, got 4.": lambda: position_output(
        zeros(1, 1, 1, 2, 2, 2, 2), zeros(1, 1, 1, 2, 2, 2, 2), zeros(1, 1, 1, 1, 1, 1)
    ),
    "position_output: workspace must be at least 1, got 0.": lambda: position_output(
        MAP_Q, MAP_V, R, workspace=0
    ),
    (
        f"position_output: impl must be one of {POSITION_NAMES}, got 'convolutional'. Closest: convolution."
    ): lambda: position_output(MAP_Q, MAP_V, R, impl="convolutional"),
    "position_output: no implementation can run this call.\n  triton: needs a CUDA tensor": unable,
    ("content_summary: keys must have shape (b, u, k, *context), got (2, 7)."): lambda: content_summary(
        K[:, 0, 0], V
    ),
    (
        "content_summary: values must have shape (b, u, v, *context) with b=2, u=1, *context=(7,) taken from "
        "keys, got (2, 1, 5, 6)."
    ): lambda: content_summary(K, V[..., :6]),
    f"content_summary: key_normalization must be one of {CHOICES}, got 'l1'.": lambda: content_summary(
        K, V, key_normalization="l1"
    ),
    f"content_summary: impl must be one of {CONTENT_NAMES}, got 'fast'.": lambda: content_summary(
        K, V, impl="fast"
    ),
    "content_output: queries must have shape (b, h, k, *size), got (3, 4, 6).": lambda: content_output(
        Q[0], K, V
    ),
    (
        "content_output: keys must have shape (b, u, k, *context) with b=2, k=4 taken from queries, got (2, "
        "1, 3, 7)."
    ): lambda: content_output(Q, K[:, :, :3], V),
    (
        "content_output: values must have shape (b, u, v, *context) with b=2 taken from queries, u=1, "
        "*context=(7,) taken from keys, got (2, 1, 5, 6)."
    ): lambda: content_output(Q, K, V[..., :6]),
    f"content_output: key_normalization must be one of {CHOICES}, got 'l1'.": lambda: content_output(
        Q, K, V, key_normalization="l1"
    ),
    f"content_output: impl must be one of {CONTENT_NAMES}, got 'fast'.": lambda: content_output(
        Q, K, V, impl="fast"
    ),
    "lambda_layer: keys or embeddings must be given, got None for both.": lambda: lambda_layer(
        Q, None, V, None
    ),
    "lambda_layer: queries must have shape (b, h, k, n), got (2, 3, 4).": lambda: lambda_layer(
        Q[..., 0], K, V, E
    ),
    (
        "lambda_layer: keys must have shape (b, u, k, m) with b=2, k=4 taken from queries, got (1, 1, 4, 7)."
    ): lambda: lambda_layer(Q, K[:1], V, E),
    (
        "lambda_layer: values must have shape (b, u, v, m) with b=2 taken from queries, u=1, m=7 taken from "
        "keys, got (2, 1, 5, 4)."
    ): lambda: lambda_layer(Q, K, V[..., :4], E),
    (
        "lambda_layer: embeddings must have shape (n, m, u, k) with n=6, k=4 taken from queries, m=7, u=1 "
        "taken from values, got (7, 6, 1, 4)."
    ): lambda: lambda_layer(Q, None, V, E.transpose(0, 1)),
    "lambda_layer: mask must be boolean, True where a query sees an element, got torch.float32.": lambda: (
        lambda_layer(Q, K, V, E, torch.ones(6, 7))
    ),
    (
        "lambda_layer: mask must have shape (n, m) with n=6 taken from queries, m=7 taken from keys, got "
        "(7, 6)."
    ): lambda: lambda_layer(Q, K, V, E, torch.ones(7, 6, dtype=torch.bool)),
    (
        "lambda_layer: mask must have shape (b, n, m) with b=2, n=6 taken from queries, m=7 taken from "
        "keys, got (3, 6, 7)."
    ): lambda: lambda_layer(Q, K, V, E, torch.ones(3, 6, 7, dtype=torch.bool)),
    f"lambda_layer: key_normalization must be one of {CHOICES}, got 'softmx'. Closest: softmax.": lambda: (
        lambda_layer(Q, K, V, E, key_normalization="softmx")
    ),
    "causal_lambda_layer: keys or table must be given, got None for both.": lambda: causal_lambda_layer(
        Q, None, PAST_V, None
    ),
    (
        "causal_lambda_layer: keys must have shape (b, u, k, n) with b=2, k=4, n=6 taken from queries, got "
        "(2, 1, 4, 7)."
    ): lambda: causal_lambda_layer(Q, K, PAST_V, PAST_R),
    (
        "causal_lambda_layer: values must have shape (b, u, v, n) with b=2, n=6 taken from queries, u=1 "
        "taken from keys, got (2, 1, 5, 7)."
    ): lambda: causal_lambda_layer(Q, PAST_K, V, PAST_R),
    (
        "causal_lambda_layer: table must have shape (u, k, r) with u=1 taken from keys, k=4 taken from "
        "queries, got (1, 4, 3, 3)."
    ): lambda: causal_lambda_layer(Q, PAST_K, PAST_V, R),
    "causal_lambda_layer: scope must be odd, got 2. An even window has no centre; use 1 or 3.": lambda: (
        causal_lambda_layer(Q, PAST_K, PAST_V, zeros(1, 4, 2))
    ),
    f"causal_lambda_step: key_normalization must be one of {CHOICES}, got ''.": lambda: causal_lambda_step(
        Q, PAST_K, PAST_V, None, None, key_normalization=""
    ),
    (
        "causal_lambda_step: state.recent must have shape (b, u, v, r//2) with b=2 taken from queries, u=1 "
        "taken from keys, v=5 taken from values, r//2=2 taken from table, got (2, 1, 5, 1)."
    ): lambda: causal_lambda_step(
        Q, PAST_K, PAST_V, zeros(1, 4, 5), causal_lambda_step(Q, PAST_K, PAST_V, PAST_R, None)[1]
    ),
    (
        "causal_lambda_step: state.numerators must have shape (b, u, k, v) with b=2, k=4 taken from queries, "
        "u=1 taken from keys, v=5 taken from values, got (1, 1, 4, 5)."
    ): lambda: causal_lambda_step(
        Q, PAST_K, PAST_V, None, causal_lambda_step(Q[:1], PAST_K[:1], PAST_V[:1], None, None)[1]
    ),
    "causal_lambda_step: state must be a CausalState or None, got a tuple.": lambda: causal_lambda_step(
        Q, PAST_K, PAST_V, None, tuple(causal_lambda_step(Q, PAST_K, PAST_V, None, None)[1])
    ),
    (
        "multihead_lambda_layer: values must have shape (b, h, v, m) with b=2, h=3 taken from queries, m=7 "
        "taken from keys, got (2, 1, 5, 7)."
    ): lambda: multihead_lambda_layer(Q, zeros(2, 3, 4, 7), V, zeros(3, 6, 7, 4)),
    "normalize_keys: keys must have shape (b, u, k, m), got (1, 4, 7).": lambda: normalize_keys(K[0, :1]),
    "normalize_queries: queries must have shape (b, h, k, *size), got (3, 4, 6).": lambda: normalize_queries(
        Q[0]
    ),
    f"normalize_keys: key_normalization must be one of {CHOICES}, got 'none '. Closest: none.": lambda: (
        normalize_keys(K, "none ")
    ),
    f"normalize_queries: key_normalization must be one of {CHOICES}, got 'L2'.": lambda: normalize_queries(
        Q, "L2"
    ),
    (
        "content_lambda: values must have shape (b, u, v, m) with b=2, u=1, m=7 taken from normalized_keys, "
        "got (2, 1, 5)."
    ): lambda: content_lambda(K, V[..., 0]),
    (
        "position_lambdas: embeddings must have shape (n, m, u, k) with m=7, u=1 taken from values, got (6, "
        "6, 1, 4)."
    ): lambda: position_lambdas(V, E[:, :6]),
    (
        "apply_lambdas: lambdas must have shape (b, k, v) with b=2, k=4 taken from queries, got (2, 5, 4)."
    ): lambda: apply_lambdas(Q, zeros(2, 5, 4)),
    (
        "apply_lambdas: lambdas must have shape (b, n, k, v) with b=2, n=6, k=4 taken from queries, got (2, "
        "7, 4, 5)."
    ): lambda: apply_lambdas(Q, zeros(2, 7, 4, 5)),
    "channel_lambda: weights must have shape (b, k), got (2, 4, 1).": lambda: channel_lambda(zeros(2, 4, 1)),
    "spatial_lambdas: weights must have shape (b, n), got (6,).": lambda: spatial_lambdas(
        zeros(6), query_depth=4
    ),
    "spatial_lambdas: query_depth must be at least 1, got 0.": lambda: spatial_lambdas(
        zeros(2, 6), query_depth=0
    ),
    "global_attention: queries must have shape (b, h, k, *size), got (2, 3, 4).": lambda: global_attention(
        Q[..., 0], K, V
    ),
    (
        "global_attention: keys must have shape (b, h, k, *context) with b=2, h=3, k=4 taken from queries, "
        "got (2, 1, 4, 7)."
    ): lambda: global_attention(Q, K, V),
    (
        "global_attention: values must have shape (b, h, v, *context) with b=2, h=3 taken from queries, "
        "*context=(6, 7) taken from keys, got (2, 3, 5, 6, 6)."
    ): lambda: global_attention(HEAD_Q, HEAD_Q, HEAD_V[..., :6]),
    "global_attention: tables must be 2, one for each axis, got 1.": lambda: global_attention(
        HEAD_Q, HEAD_Q, HEAD_V, [ROWS]
    ),
    ("global_attention: tables must have shape (k, r) with k=4 taken from queries, got (2, 5)."): lambda: (
        global_attention(HEAD_Q, HEAD_Q, HEAD_V, [ROWS, COLUMNS[:2]])
    ),
    (
        "global_attention: length of tables must be odd, got 4. An even window has no centre; use 3 or 5."
    ): lambda: global_attention(HEAD_Q, HEAD_Q, HEAD_V, [ROWS, COLUMNS[:, :4]]),
    ("global_attention: keys must have 2 axes of positions when tables are given, got 1."): lambda: (
        global_attention(HEAD_Q, HEAD_Q.flatten(3), HEAD_V.flatten(3), [ROWS, COLUMNS])
    ),
    ("global_attention: impl must be one of auto, reference, products, sdpa, got 'flash'."): lambda: (
        global_attention(HEAD_Q, HEAD_Q, HEAD_V, impl="flash")
    ),
    "axial_attention: axis must be from -2 to 1, got 2.": lambda: axial_attention(
        HEAD_Q, HEAD_Q, HEAD_V, ROWS, axis=2
    ),
    (
        "axial_attention: keys must have shape (b, h, k, *size) with b=2, h=3, k=4, *size=(6, 7) taken from "
        "queries, got (2, 3, 4, 6, 6)."
    ): lambda: axial_attention(HEAD_Q, HEAD_Q[..., :6], HEAD_V[..., :6], axis=0),
    ("local_attention: window_size must be odd, got 4. An even window has no centre; use 3 or 5."): lambda: (
        local_attention(HEAD_Q, HEAD_Q, HEAD_V, window_size=4)
    ),
    ("local_attention: window_size must have 2 sides, one for each axis, got (3,)."): lambda: local_attention(
        HEAD_Q, HEAD_Q, HEAD_V, window_size=(3,)
    ),
    (
        "local_relation: prior must have shape (h, *scope) with h=3 taken from queries, got (2, 3, 3)."
    ): lambda: local_relation(HEAD_Q, HEAD_Q, HEAD_V, zeros(2, 3, 3)),
    ("local_relation: prior must be odd, got 2. An even window has no centre; use 1 or 3."): lambda: (
        local_relation(HEAD_Q, HEAD_Q, HEAD_V, zeros(3, 3, 2))
    ),
    (
        "local_relation: appearance must be one of 'squared_difference', 'difference', 'product', got "
        "'absolute'."
    ): lambda: local_relation(HEAD_Q, HEAD_Q, HEAD_V, zeros(3, 3, 3), appearance="absolute"),
    (
        "vector_attention: weights must have shape (b, h, r, *size) with r=9, one for each offset of the "
        "window, got (2, 3, 4, 6, 7)."
    ): lambda: vector_attention(HEAD_Q, HEAD_V, window_size=3),
    (
        "vector_attention: weights must have shape (b, h, r, *size) with b=2, h=3, *size=(6, 7) taken from "
        "values, got (2, 1, 9, 6, 7)."
    ): lambda: vector_attention(zeros(2, 1, 9, 6, 7), HEAD_V, window_size=3),
    "window_values: maps must have shape (b, d, *size), got (2, 3).": lambda: window_values(zeros(2, 3), 3),
    (
        "linear_attention: values must have shape (b, h, v, *context) with b=2, h=3 taken from queries, "
        "*context=(6, 7) taken from keys, got (2, 3, 5, 6)."
    ): lambda: linear_attention(HEAD_Q, HEAD_Q, HEAD_V[..., 0]),
    "scope_mask: scope must be odd, got 2. An even window has no centre; use 1 or 3.": lambda: (
        relative_position.scope_mask((4,), (2,))
    ),
    "dense_embeddings: scope must have 1 sides, one for each axis, got (3, 3).": lambda: (
        relative_position.dense_embeddings(R, (4,))
    ),
    (
        "table_from_embeddings: embeddings must have shape (n, m, u, k) with n=6, m=6 taken from size, got "
        "(6, 7, 1, 4)."
    ): lambda: relative_position.table_from_embeddings(E, (6,)),
    "crop_table: scope must be positive and odd, got 0.": lambda: relative_position.crop_table(R, (3, 0)),
    "resize_table: scope must have 2 sides, one for each axis, got (3,).": lambda: (
        relative_position.resize_table(R, (3,))
    ),
    "content_summary: key_normalization must be a name or a callable, got a int.": lambda: content_summary(
        K, V, key_normalization=7
    ),
    "normalize_keys: key_normalization must take keys and dim=-1, got <lambda>.": lambda: content_summary(
        K, V, key_normalization=lambda keys: keys
    ),
    (
        "lambda_layer: key_normalization must take keys, dim=-1 and mask, where elements are hidden, got "
        "<lambda>."
    ): lambda: lambda_layer(Q, K, V, None, MASK, key_normalization=lambda keys, dim: keys),
    (
        "normalize_keys: key_normalization must take keys (2, 1, 4, 7), got 'unsupported operand type(s) for "
        "+: 'int' and 'str''."
    ): lambda: normalize_keys(K, lambda keys, dim: dim + "0"),
    (
        "normalize_keys: key_normalization must give floating-point keys (2, 1, 4, 7), got (2, 1, 4) of "
        "torch.float32."
    ): lambda: normalize_keys(K, lambda keys, dim: keys.sum(dim)),
    (
        "normalize_keys: key_normalization must give floating-point keys (2, 1, 4, 7), got (2, 1, 4, 7) of "
        "torch.int32."
    ): lambda: normalize_keys(K, lambda keys, dim: keys.int()),
    ("normalize_keys: key_normalization must give floating-point keys (2, 1, 4, 7), got a tuple."): lambda: (
        normalize_keys(K, lambda keys, dim: (keys, dim))
    ),
    (
        "causal_lambda_layer: key_normalization must be one of 'softmax', 'softmax_keys_and_queries', 'l2', "
        "'none' for causal sums, got softmax. With a causal mask instead, a callable works."
    ): lambda: causal_lambda_layer(Q, PAST_K, PAST_V, None, key_normalization=torch.softmax),
}
# All are an `ArgumentError` but these.
OTHER_ERRORS = {
    "key_normalization must be a name": ArgumentTypeError,
    "key_normalization must take keys (": ArgumentTypeError,
    "mask must be boolean": ArgumentTypeError,
    "state must be a CausalState": ArgumentTypeError,
    "no implementation can run": NotImplementedError,
}


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.usefixtures("unchecked")
def test_message(message: str) -> None:
    expected = next((error for words, error in OTHER_ERRORS.items() if words in message), ArgumentError)
    with pytest.raises(expected) as caught:
        MESSAGES[message]()
    assert str(caught.value) == message
    assert type(caught.value) is expected


def raised_words(source: str) -> list[list[str]]:
    """The constant parts of each message that is raised, in order."""
    raises = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    texts = [call.args[0] for call in raises if isinstance(call, ast.Call) and call.args]
    return [
        [
            node.value
            for node in ast.walk(text)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        for text in texts
    ]


@pytest.mark.parametrize(
    "path", sorted(FUNCTIONAL.rglob("*.py")), ids=lambda path: str(path.relative_to(FUNCTIONAL))
)
def test_every_message_has_a_row(path: Path) -> None:
    for words in raised_words(path.read_text()):
        assert any(all(word in message for word in words) for message in MESSAGES), words


def test_a_message_begins_with_the_function_that_was_called() -> None:
    for message in MESSAGES:
        assert message.partition(":")[0] in {*functional.__all__, *vars(relative_position)}
