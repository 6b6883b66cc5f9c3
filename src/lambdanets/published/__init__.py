"""Published numbers as rows, with their tables and what is doubtful about them."""

from typing import Final

from lambdanets.published.forms import TABLE_1, TABLE_2, TABLE_6, TABLE_7
from lambdanets.published.layers import TABLE_3, TABLE_4, TABLE_8, TABLE_9, TABLE_10, TABLE_11, TABLE_12
from lambdanets.published.networks import RESNET_RS, TABLE_5, TABLE_13, TABLE_15, TABLE_16, TABLE_17, TABLE_18
from lambdanets.published.rows import Number, Row, Value
from lambdanets.published.settings import TABLE_14, TABLE_19, TABLE_20

# By their numbers in the camera-ready paper.
TABLES: Final[dict[int, tuple[Row, ...]]] = {
    1: TABLE_1,
    2: TABLE_2,
    3: TABLE_3,
    4: TABLE_4,
    5: TABLE_5,
    6: TABLE_6,
    7: TABLE_7,
    8: TABLE_8,
    9: TABLE_9,
    10: TABLE_10,
    11: TABLE_11,
    12: TABLE_12,
    13: TABLE_13,
    14: TABLE_14,
    15: TABLE_15,
    16: TABLE_16,
    17: TABLE_17,
    18: TABLE_18,
    19: TABLE_19,
    20: TABLE_20,
}

__all__ = ["RESNET_RS", "TABLES", "Number", "Row", "Value"]
