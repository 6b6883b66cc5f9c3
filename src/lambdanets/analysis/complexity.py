"""Time and memory of Tables 2, 4, 6 and 7 in closed form, and the rule of Table 4's gigabytes.

Letters are the library's: b, n, m, k, h, u, d as everywhere, v = d / h, r the side of a window (the paper's r
is the number of offsets in it, here r²), and l layers. The forms say what grows; `time_factor`,
`space_factor` and what is left out say what a plain computation, written as the formula is, counts exactly.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from tokenize import TokenError
from typing import Final

import sympy
from sympy.parsing.sympy_parser import implicit_multiplication, parse_expr, standard_transformations

from lambdanets.errors import ArgumentError

_FLOAT32_BYTES: Final = 4


@dataclass(frozen=True)
class Form:
    """A closed form as the paper writes it.

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
        _parse(self.text)

    def __str__(self) -> str:
        return f"Θ({self.text})"

    @property
    def letters(self) -> frozenset[str]:
        """The letters it depends on."""
        return frozenset(symbol.name for symbol in _parse(self.text).free_symbols)

    def at(self, **sizes: int) -> int | float:
        """Evaluate it; a whole number where it is one. Letters it does not have are ignored.

        Raises:
            ArgumentError: A letter without a size.
        """
        missing = sorted(self.letters - sizes.keys())
        if missing:
            raise ArgumentError(f"Form.at: sizes must have {', '.join(missing)} for {self}, got none.")
        expression = _parse(self.text)
        value = expression.subs({symbol: sizes[symbol.name] for symbol in expression.free_symbols})
        return int(value) if value.is_integer else float(value)


@functools.cache
def _parse(text: str) -> sympy.Expr:
    spelled = re.sub(r"√([a-z])", r"sqrt(\1)", text.replace("²", "**2"))
    letters = {letter: sympy.Symbol(letter, positive=True) for letter in re.findall("[a-z]", text)}
    try:
        if not re.fullmatch(r"[a-z√²()+/ ]+", text):
            raise SyntaxError
        return parse_expr(spelled, letters, (*standard_transformations, implicit_multiplication))
    except (SyntaxError, TokenError):
        raise ArgumentError(f"Form: text must be a sum of products of letters, got {text!r}.") from None


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """One row: a layer, and how its time and its memory grow.

    Attributes:
        time: Multiply-adds.
        space: Numbers kept for backward, beside the layer's inputs.
        time_factor: Multiply-adds of a plain computation, over `time`.
        time_left_out: Its other multiply-adds, which grow no faster in n and m.
        space_factor: Numbers a plain computation keeps, over `space`.
        space_left_out: What else it keeps, of which the paper's row does not speak.
        sizes: Letters that the row itself settles.
        note: What to know when reading it beside the paper.
    """

    layer: str
    time: Form
    space: Form
    time_factor: int = 1
    time_left_out: Form | None = None
    space_factor: int = 1
    space_left_out: Form | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def multiply_adds(self, **sizes: int) -> int | float:
        """Multiply-adds of a plain computation, exactly; FLOPs are twice as many."""
        sizes |= self.sizes
        rest = 0 if self.time_left_out is None else self.time_left_out.at(**sizes)
        return self.time_factor * self.time.at(**sizes) + rest

    def numbers_kept(self, **sizes: int) -> int | float:
        """Numbers a plain computation keeps for backward, exactly, beside the layer's inputs."""
        sizes |= self.sizes
        rest = 0 if self.space_left_out is None else self.space_left_out.at(**sizes)
        return self.space_factor * self.space.at(**sizes) + rest


def paper_gibibytes(row: Complexity, b: int = 128) -> float:
    """The memory column of Table 4 as the paper counts it, for a batch of b images.

    Attention maps alone, or embeddings of all pairs alone, as float32, over the stages of a ResNet-50 at 224
    pixels, with 8 heads of attention and a query depth of 16 unless the row settles it. Left out are the
    lambdas (b·n·k·v), gradients, and the larger map a stage's first layer sees.

    Paper: Table 4.

    Example:
        >>> {row.layer: round(paper_gibibytes(row), 2) for row in TABLE_4 if "axial" in row.layer}
        {'axial attention': 4.82}
    """
    numbers = sum(
        row.space.at(**{"b": b, "h": 8, "k": 16, "l": layers, "n": side * side, **row.sizes})
        for side, layers in zip((56, 28, 14, 7), (3, 4, 6, 3), strict=True)
    )
    return _FLOAT32_BYTES * row.space_factor * numbers / 2**30


_LAMBDA: Final = Complexity(
    layer="lambda layer",
    time=Form("b n m k d / h"),
    space=Form("k n m + b n k d / h"),
    time_left_out=Form("b m k d / h + b n k d"),
    space_left_out=Form("b m k"),
)

TABLE_2: Final = (
    Complexity(
        layer="self-attention",
        time=Form("b n m (h k + d)"),
        space=Form("b h n m"),
        note="relative positions add scores and embeddings, of the same growth in n and m",
    ),
    Complexity(
        layer="linear attention",
        time=Form("b n k d"),
        space=Form("b k d"),
        time_factor=2,
        space_left_out=Form("b n h k"),
        note="for m = n; left out are the normalised keys",
    ),
    _LAMBDA,
)

_NO_TIME: Final = "the paper prints no time here"

_LAMBDAS: Final = Complexity(
    layer="lambda layer",
    time=Form("b l n² k d / h"),
    space=Form("l k n²"),
    time_left_out=Form("b l n k d / h + b l n k d"),
    space_left_out=Form("b l n k d / h + b l n k"),
    note=f"{_NO_TIME}; it leaves out the lambdas, b n k d / h a layer",
)

TABLE_4: Final = (
    Complexity(
        layer="global self-attention",
        time=Form("b l n² (h k + d)"),
        space=Form("b l h n²"),
        note=f"{_NO_TIME}; 122.8 GiB by its rule, printed 120",
    ),
    Complexity(
        layer="axial attention",
        time=Form("b l n √n (h k + d)"),
        space=Form("b l h n √n"),
        time_factor=2,
        space_factor=2,
        note=f"{_NO_TIME}; one map for rows and one for columns",
    ),
    Complexity(
        layer="local attention, 7×7",
        time=Form("b l n m (h k + d)"),
        space=Form("b l h n m"),
        space_left_out=Form("b l n m (h k + d)"),
        sizes={"m": 49},
        note=f"{_NO_TIME}; left out are the windows of keys and values, which a kernel need not keep",
    ),
    _LAMBDAS,
    replace(
        _LAMBDAS,
        layer="lambda layer, k = 8",
        sizes={"k": 8},
        note=f"{_NO_TIME}; 0.96 GiB by its rule, printed 0.95",
    ),
    replace(
        _LAMBDAS,
        layer="lambda layer, shared embeddings",
        space=Form("k n²"),
        note=f"{_NO_TIME}; shared by the layers of a stage",
    ),
    replace(
        _LAMBDAS,
        layer="lambda convolution, 7×7",
        time=Form("b l n m k d / h"),
        space=Form("l k n m"),
        space_left_out=Form("b l n m d / h + b l n k d / h + b l n k"),
        sizes={"m": 49},
        note=f"{_NO_TIME}; the space is that of embeddings of all pairs, a convolution keeps k m a layer",
    ),
)

TABLE_6: Final = (
    Complexity(
        layer="multi-head lambda layer",
        time=Form("b n m k d"),
        space=Form("h k n m + b n k d"),
        time_left_out=Form("b m k d + b n k d"),
        space_left_out=Form("b h m k"),
        note="printed as Θ(k n m + b n k d): the h is in the other row",
    ),
    replace(
        _LAMBDA,
        layer="multi-query lambda layer",
        note="printed as Θ(h k n m + b n k d / h): the h belongs to the other row",
    ),
)

TABLE_7: Final = (
    _LAMBDA,
    Complexity(
        layer="lambda layer with intra-depth",
        time=Form("b n m k u d / h"),
        space=Form("k n m u + b n k d / h"),
        time_left_out=Form("b m k u d / h + b n k d"),
        space_left_out=Form("b m k u"),
    ),
)
