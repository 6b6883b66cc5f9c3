"""Values that settings are not made for, and what may come of them: a value that fits, or one sentence."""

import math
from typing import Any

from lambdanets.errors import ArgumentError, ArgumentTypeError

# What a hand, a file or another program may put where a setting belongs.
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, True, False, 10**9, 2**64, -(2**63) - 1, 10**400),
    *(0.5, 5e-324, 1e300, math.nan, math.inf, -math.inf),
    *("", "abc", "1", None, (), [], [1], [[1]], [None], {}, {"a": 1}, {"a": {"a": []}}),
)

# The same as words of a command line.
WORDS = (
    *("0", "-1", "nan", "inf", "-inf", "1e300", str(2**64), str(-(2**63) - 1)),
    *("", "abc", "True", "1" * 5000),
)


def tried(call: Any, *arguments: Any, **options: Any) -> tuple[Any, str | None]:
    """What a call returns, or the one sentence that it ends with. Any other error is a fault."""
    try:
        return call(*arguments, **options), None
    except (ArgumentError, ArgumentTypeError) as error:
        text = str(error)
        assert ": " in text and " must " in text and "\n" not in text and len(text) < 1500, text
        return None, text


def numbers_in(value: Any) -> list[Any]:
    """Every number in a value, of a list or a dictionary too; a bool is none."""
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers_in(one)]
    if isinstance(value, tuple | list):
        return [number for one in value for number in numbers_in(one)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
