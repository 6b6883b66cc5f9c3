"""What is measured: everything on a GPU, and something tiny of each kind in a rehearsal."""

from dataclasses import dataclass
from typing import NamedTuple

from problems import STAGE_SHAPES, STAGES, STRIDED_SHAPES, Shape


class Case(NamedTuple):
    """One lambda layer with so many images, and the group in whose mean it counts."""

    group: str
    shape: Shape
    batch: int

    @property
    def name(self) -> str:
        """Such as 28x28-d128-r23-b128."""
        return f"{self.shape.name}-b{self.batch}"


class Call(NamedTuple):
    """Sizes of a call that is compared with float64."""

    size: tuple[int, ...]
    scope: tuple[int, ...]
    b: int = 2
    h: int = 4
    k: int = 16
    v: int = 16
    u: int = 1

    @property
    def name(self) -> str:
        """Such as 14x14-r27x27-h4-k16-v64-u1."""
        size, scope = ("x".join(map(str, sides)) for sides in (self.size, self.scope))
        return f"{size}-r{scope}-h{self.h}-k{self.k}-v{self.v}-u{self.u}-b{self.b}"


@dataclass(frozen=True)
class Sizes:
    """All sizes of a run.

    Attributes:
        every_precision: Calls compared in every precision.
        bfloat16: Calls compared in bfloat16 alone.
        repeats: How often the bits of a call are compared.
        elements: More numbers than this in each tensor of the largest call.
        matrix: Side of the matrices of the ceiling.
        copied_bytes: Of the ceiling of copies.
        cases: Timed with all gradients.
        small: Timed in inference, with few images.
        seconds: Of the repeats of one timing.
        models: Side of the images and number of them, of all models.
        larger_side: Side of the images of models that are made for larger ones.
        limit: Starts of the search for what fits: images of a layer and of a model, side of a map.
    """

    every_precision: tuple[Call, ...]
    bfloat16: tuple[Call, ...]
    repeats: int
    elements: int
    matrix: int
    copied_bytes: int
    cases: tuple[Case, ...]
    small: tuple[Case, ...]
    seconds: float
    models: tuple[int, int]
    larger_side: int
    limit: tuple[int, int, int]


def _cases(group: str, shapes: tuple[Shape, ...], batch: int) -> tuple[Case, ...]:
    return tuple(Case(group, shape, batch) for shape in shapes)


_TIMM = (Shape(32, 128, 9), Shape(16, 256, 9), Shape(8, 512, 9))
_WINDOWS = tuple(Shape(side, channels, 7) for side, channels in STAGES)

FULL = Sizes(
    every_precision=(
        Call((14, 14), (23, 23), v=64),
        Call((7, 7), (13, 13), b=4, v=128),
        Call((5, 11), (9, 21), b=3, h=2, k=8, v=8, u=2),
    ),
    bfloat16=(
        Call((56, 56), (23, 23)),
        Call((28, 28), (55, 55), v=32),
        Call((28, 28), (7, 7), v=32),
        Call((13, 17), (9, 9), h=16, k=32, v=8),
        Call((197,), (31,), h=5, v=64, u=4),
        Call((4, 9, 10), (3, 5, 5), v=8),
    ),
    repeats=100,
    elements=2**31,
    matrix=8192,
    copied_bytes=4 << 30,
    cases=(
        *_cases("r=23", STAGE_SHAPES, 128),
        Case("global", Shape(28, 128, None), 128),
        Case("global", Shape(14, 256, None), 128),
        *_cases("r=7", _WINDOWS, 128),
        *_cases("r=9", _TIMM, 128),
        Case("global", Shape(56, 64, None), 32),
        *_cases("strided", STRIDED_SHAPES, 128),
        Case("global", Shape(128, 64, None), 8),
    ),
    small=tuple(case for batch in (1, 4) for case in _cases(f"b={batch}", STAGE_SHAPES, batch))
    + _cases("b=1", _WINDOWS, 1)
    + (Case("b=1", Shape(28, 128, None), 1),),
    seconds=0.15,
    models=(224, 128),
    larger_side=256,
    limit=(512, 128, 256),
)

REHEARSAL = Sizes(
    every_precision=(Call((3, 5), (3, 9), h=2, k=8, v=8),),
    bfloat16=(Call((6,), (5,), h=2, k=8, v=8),),
    repeats=2,
    elements=2**10,
    matrix=128,
    copied_bytes=1 << 20,
    cases=(
        Case("r=23", Shape(5, 16, 3), 2),
        Case("global", Shape(4, 16, None), 2),
        Case("r=7", Shape(4, 16, 3), 2),
    ),
    small=(Case("b=1", Shape(4, 16, 3), 1),),
    seconds=0.02,
    models=(32, 2),
    larger_side=64,
    limit=(2, 2, 8),
)
