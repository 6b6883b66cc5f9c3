"""Problems: the letters of one call, written in tables of tests or drawn by hypothesis."""

import math
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

settings.register_profile("lambdanets", deadline=None, derandomize=True, max_examples=25, database=None)

LONGEST_SIDE = {1: 9, 2: 5, 3: 3}


@dataclass(frozen=True, kw_only=True)
class Case:
    """The sizes of one call. Its text is the id of a test."""

    size: tuple[int, ...]
    context: tuple[int, ...] | None = None
    scope: tuple[int, ...] = ()
    b: int = 2
    k: int = 3
    v: int = 2
    u: int = 1
    h: int = 2

    def __str__(self) -> str:
        context = "" if self.context is None else f"-context{_sides(self.context)}"
        scope = f"-r{_sides(self.scope)}" if self.scope else ""
        return f"b{self.b}-size{_sides(self.size)}{context}-k{self.k}-v{self.v}-u{self.u}-h{self.h}{scope}"

    @property
    def n(self) -> int:
        return math.prod(self.size)

    @property
    def m(self) -> int:
        return math.prod(self.size if self.context is None else self.context)

    def draw(self, *names: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Tensor]:
        """Normal tensors for the named arguments: always the same ones for one seed."""
        context = self.size if self.context is None else self.context
        shapes = {
            "queries": (self.b, self.h, self.k, *self.size),
            "keys": (self.b, self.u, self.k, *context),
            "values": (self.b, self.u, self.v, *context),
            "table": (self.u, self.k, *self.scope),
            "shared": (self.b, self.k, self.v),
            "embeddings": (self.n, self.m, self.u, self.k),
        }
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randn(shapes[name], generator=generator, dtype=torch.float64).to(dtype)
            for name in names
        }

    def masks(self) -> dict[str, Tensor | None]:
        """No mask, one for all images and one for each; in the last a query sees nothing."""
        each = torch.rand(self.b, self.n, self.m, generator=torch.Generator().manual_seed(2)) < 0.6
        each[0, 0] = False
        return {"no mask": None, "n m": each[-1], "b n m": each}


def _sides(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


@st.composite
def map_cases(draw: st.DrawFn) -> Case:
    """One, two or three axes; scopes below and above the size of the map."""
    axes = draw(st.integers(1, 3))
    longest = LONGEST_SIDE[axes]
    sides = st.integers(1, longest)
    odd = st.integers(0, longest).map(lambda half: 2 * half + 1)
    return Case(
        size=draw(st.tuples(*[sides] * axes)),
        scope=draw(st.tuples(*[odd] * axes)),
        **{letter: draw(strategy) for letter, strategy in _depths().items()},
    )


@st.composite
def layer_cases(draw: st.DrawFn) -> Case:
    """Any number of queries and of context elements, and a scope for the causal form."""
    lengths = st.tuples(st.integers(1, 9))
    return Case(
        size=draw(lengths),
        context=draw(lengths),
        scope=draw(st.sampled_from([(1,), (3,), (7,), (21,)])),
        **{letter: draw(strategy) for letter, strategy in _depths().items()},
    )


def _depths() -> dict[str, st.SearchStrategy[int]]:
    return {
        "b": st.integers(1, 3),
        "k": st.integers(1, 4),
        "v": st.integers(1, 4),
        "u": st.integers(1, 3),
        "h": st.integers(1, 5),
    }
