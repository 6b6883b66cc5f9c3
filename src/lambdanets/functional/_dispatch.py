"""Which implementation runs: reasons why one cannot, a cost for each that can, no state."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from lambdanets.errors import ArgumentError, did_you_mean, plain_sizes
from lambdanets.functional._layout import is_traced


class Problem(NamedTuple):
    """One call of an operator, as plain data: what capability and cost depend on, and nothing else.

    Attributes:
        operation: The public function's name.
        size: Query positions along each axis.
        scope: Relative offsets along each axis of the table, or context positions along each axis.
        dtype: Of the values.
        device: Device type, such as `"cpu"`.
        backward: Whether the gradients are wanted, instead of the output.
        workspace: Bytes an implementation may use beside inputs and outputs.
        normalizes_by_name: Whether the keys' normalisation is one that implementations know, no callable.
    """

    operation: str
    batch: int
    heads: int
    query_depth: int
    intra_depth: int
    value_depth: int
    size: tuple[int, ...]
    scope: tuple[int, ...]
    dtype: torch.dtype
    device: str
    backward: bool = False
    workspace: int = 0
    normalizes_by_name: bool = True

    @property
    def positions(self) -> int:
        """n, query positions."""
        return math.prod(self.size)

    @property
    def reachable_scope(self) -> tuple[int, ...]:
        """Offsets along each axis that join two elements of the map."""
        return tuple(min(scope, 2 * size - 1) for scope, size in zip(self.scope, self.size, strict=True))

    @property
    def is_global(self) -> bool:
        """Whether the window of every position is the whole map."""
        return self.reachable_scope == tuple(2 * size - 1 for size in self.size)

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return self.dtype.itemsize


def describe(
    queries: Tensor, values: Tensor, table: Tensor, *, backward: bool = False, workspace: int = 0
) -> Problem:
    """One direction of a call of `position_output` as plain data."""
    b, h, k, *size = queries.shape
    u, v = values.shape[1:3]
    scope, dtype, device = tuple(table.shape[2:]), values.dtype, values.device.type
    return Problem("position_output", b, h, k, u, v, tuple(size), scope, dtype, device, backward, workspace)


@dataclass(frozen=True, slots=True)
class Implementation:
    """One exact way to compute an operator.

    Attributes:
        name: What `impl=` calls it.
        why_not: Why it cannot run a problem, in a few words, or None. Never raises.
        cost: Estimated seconds for a problem.
        run: The computation; the operator's tensors in, its outputs out.
        gradients: The gradient of the output first, then what `run` takes and keeps; out come the gradients
            of the tensors. None where autograd differentiates `run`.
        suits: For which images the result is exact, by the problem and what is summed over windows: products
            of tensors. It gives None where that is all of them; it is None where numbers do not matter.
        adds_shared: Whether both take a lambda that all positions share, and add it by themselves.
        alias: A former name that `impl=` still accepts.
    """

    name: str
    why_not: Callable[[Problem], str | None]
    cost: Callable[[Problem], float]
    run: Callable[..., Any]
    gradients: Callable[..., tuple[Tensor, ...]] | None = None
    suits: Callable[[Problem, Sequence[Sequence[Tensor]]], Tensor | None] | None = None
    adds_shared: bool = False
    alias: str | None = None


class Rates(NamedTuple):
    """What a kind of device does in a second, as far as choosing needs to know."""

    product_flops: float
    convolution_flops: float
    bytes: float
    launch_seconds: float


# Origin: cpu, fitted by least squares to times of all forms at shapes like those of benchmarks/ops.py, and
# rounded (two threads of an AMD EPYC, float32; its result file has estimates beside times); cuda, orders
# of magnitude from data sheets, not measured.
RATES: Final[dict[str, Rates]] = {
    "cpu": Rates(product_flops=110e9, convolution_flops=50e9, bytes=16e9, launch_seconds=10e-6),
    "cuda": Rates(product_flops=200e12, convolution_flops=15e12, bytes=3e12, launch_seconds=5e-6),
}


# Default workspaces: what stays in a CPU's and a GPU's caches.
_WORKSPACE: Final[dict[str, int]] = {"cpu": 16 << 20, "cuda": 64 << 20}


def default_workspace(device: str) -> int:
    """Bytes of scratch memory for a kind of device; a CPU's where none is known."""
    return _WORKSPACE.get(device, _WORKSPACE["cpu"])


def rates(device: str) -> Rates:
    """The rates of a kind of device; of a CPU where none are known."""
    return RATES.get(device, RATES["cpu"])


def runs_everything(problem: Problem) -> str | None:
    """No reason against any problem: the `why_not` of what is never unable."""
    return None


def needs_a_name(problem: Problem) -> str | None:
    """The reason of what makes the weights of keys by itself, and their gradients."""
    return None if problem.normalizes_by_name else "needs a key_normalization by name, got a callable"


def choose(implementations: Sequence[Implementation], problem: Problem, name: str = "auto") -> Implementation:
    """The cheapest implementation that can run, or the named one.

    Raises:
        ArgumentError: The name is unknown.
        NotImplementedError: The named one, or every one, has a reason why it cannot run.
    """
    check_implementation(problem.operation, implementations, name)
    named = [one for one in implementations if name in ("auto", one.name, one.alias)]
    able = [one for one in named if one.why_not(problem) is None]
    if not able:
        reasons = "\n".join(f"  {one.name}: {one.why_not(problem)}" for one in named)
        raise NotImplementedError(f"{problem.operation}: no implementation can run this call.\n{reasons}")
    costs = [one.cost(problem) for one in able]
    return able[costs.index(min(costs))]


def check_implementation(who: str, implementations: Sequence[Implementation], name: str) -> None:
    """Raise unless one has the name, or had it formerly.

    Raises:
        ArgumentError: The name is unknown.
    """
    if name == "auto" or any(name in (one.name, one.alias) for one in implementations):
        return
    known = [one.name for one in implementations]
    listed = ", ".join(["auto", *known])
    raise ArgumentError(f"{who}: impl must be one of {listed}, got {name!r}.{did_you_mean(name, known)}")


def _without_symbols(problem: Problem) -> Problem:
    """Numbers for sizes that a tracer holds open: comparing those would bind the program to the choice."""
    numbers = plain_sizes if is_traced() else lambda sizes: tuple(_hint(size) for size in sizes)
    b, h, k, u, v = numbers(problem[1:6])
    return problem._replace(
        batch=b,
        heads=h,
        query_depth=k,
        intra_depth=u,
        value_depth=v,
        size=numbers(problem.size),
        scope=numbers(problem.scope),
    )


def _hint(size: Any) -> Any:
    """The number that torch.export was given as an example, where it holds a size open."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


_remembered = lru_cache(maxsize=1024)(choose)


def choose_again(
    implementations: tuple[Implementation, ...], problem: Problem, name: str = "auto"
) -> Implementation:
    """`choose` for calls that repeat: choosing takes longer than a small layer's products."""
    if torch.compiler.is_compiling() or is_traced():
        return choose(implementations, _without_symbols(problem), name)
    return _remembered(implementations, problem, name)
