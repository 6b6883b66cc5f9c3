"""The alphabet: one meaning for each letter of a shape, in the whole library."""

from typing import Final

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
