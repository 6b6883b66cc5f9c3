"""Closed forms: sums of products of letters, written as a paper writes them and evaluated."""

import functools
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from lambdanets.errors import ArgumentError

# Letter -> exponent; a product of powers.
_Term = dict[str, Fraction]

_LETTER: Final = r"√?[a-z]²?"
_TEXT: Final = re.compile(rf"({_LETTER}|[()+ ]|/ ?(?={_LETTER}))+")


@dataclass(frozen=True)
class Form:
    """A sum of products of letters.

    Example:
        >>> form = Form("b n m (h k + d)")
        >>> print(form, form.at(b=1, n=10, m=10, h=2, k=3, d=4))
        Θ(b n m (h k + d)) 1000

    Attributes:
        text: Letters beside one another are multiplied; `/` divides by the next one, `√` and `²` bind to one
            letter, `+` adds, and brackets group.
    """

    text: str

    def __post_init__(self) -> None:
        """Read the text once, so that a slip in it shows where it is written."""
        _expand(self.text)

    def __str__(self) -> str:
        return f"Θ({self.text})"

    @property
    def letters(self) -> frozenset[str]:
        """What it depends on."""
        return frozenset(letter for term in _expand(self.text) for letter in term)

    def at(self, **sizes: int) -> int | float:
        """Evaluate it; a whole number where it is one. Letters it does not have are ignored.

        Raises:
            ArgumentError: A letter without a size.
        """
        missing = sorted(self.letters - sizes.keys())
        if missing:
            raise ArgumentError(f"Form.at: sizes must have {', '.join(missing)} for {self}, got none.")
        total = sum(
            math.prod(_power(sizes[letter], exponent) for letter, exponent in term.items())
            for term in _expand(self.text)
        )
        return int(total) if total == int(total) else float(total)


def _power(size: int, exponent: Fraction) -> Fraction | float:
    if exponent.denominator == 1:
        return Fraction(size) ** int(exponent)
    root = math.isqrt(size)
    return Fraction(root) ** exponent.numerator if root * root == size else size ** float(exponent)


@functools.cache
def _expand(text: str) -> tuple[_Term, ...]:
    """The products of a form, without brackets."""
    tokens = re.findall(rf"{_LETTER}|\S", text)
    terms = _read_sum(tokens)
    if tokens or {} in terms or not _TEXT.fullmatch(text):
        raise ArgumentError(f"Form: text must be a sum of products of letters, got {text!r}.")
    return tuple(terms)


def _read_sum(tokens: list[str]) -> list[_Term]:
    terms = _read_product(tokens)
    while tokens and tokens[0] == "+":
        del tokens[0]
        terms += _read_product(tokens)
    return terms


def _read_product(tokens: list[str]) -> list[_Term]:
    terms: list[_Term] = [{}]
    sign = 1
    while tokens and tokens[0] not in ("+", ")"):
        token = tokens.pop(0)
        if token == "/":
            sign = -1
            continue
        if token == "(":
            factors = _read_sum(tokens)
            if tokens[:1] != [")"]:
                return [{}]
            del tokens[0]
        else:
            letter = token.strip("√²")
            factors = [{letter: Fraction(sign * (2 if "²" in token else 1), 2 if "√" in token else 1)}]
        terms = [_times(term, factor) for term in terms for factor in factors]
        sign = 1
    return terms


def _times(left: _Term, right: _Term) -> _Term:
    product = {
        letter: left.get(letter, Fraction()) + right.get(letter, Fraction()) for letter in left | right
    }
    return {letter: exponent for letter, exponent in product.items() if exponent}
