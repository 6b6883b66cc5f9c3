"""The alphabet: one meaning for each letter of a shape, and the choices of a lambda layer by name."""

from typing import Final, Literal

ALPHABET: Final[dict[str, str]] = {
    "b": "batch",
    "n": "query positions",
    "m": "context positions",
    "k": "query and key depth",
    "v": "value depth, out_channels / num_heads",
    "h": "queries per position (heads)",
    "u": "intra-depth",
    "r": "scope: side of the local window of the position lambdas",
    "d": "channels",
    "*size": "positions along each axis of a map",
    "*context": "context positions along each axis",
    "*scope": "relative offsets along each axis of a table",
}

# The keys over the context, and the queries over their channels where the name says so.
KeyNormalization = Literal["softmax", "softmax_keys_and_queries", "l2", "none"]
# The norms of queries and values.
Normalization = Literal["batch", "layer", "none"]
# The positions' scale: the paper's, or one with which outputs start at the scale of the values.
Initialization = Literal["paper", "unit"]
