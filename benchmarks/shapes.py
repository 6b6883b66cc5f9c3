"""What is measured: the lambda layers of a ResNet-50 at 224 pixels, strided ones too, and timm's scope."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

# k and h of every layer here: the paper's.
QUERY_DEPTH: Final = 16
NUM_HEADS: Final = 4


class Shape(NamedTuple):
    """Side of the map, channels and scope of one lambda layer; None is the global context."""

    side: int
    channels: int
    scope: int | None

    @property
    def name(self) -> str:
        """Such as 28x28-d128-r23."""
        return f"{self.side}x{self.side}-d{self.channels}-r{self.scope or 'global'}"

    @property
    def positions(self) -> int:
        """n."""
        return self.side**2

    @property
    def value_depth(self) -> int:
        """v."""
        return self.channels // NUM_HEADS

    @property
    def table_side(self) -> int:
        """Offsets along each axis of the table."""
        return self.scope or 2 * self.side - 1


class Case(NamedTuple):
    """A layer with so many images, and the group in whose mean it counts."""

    group: str
    shape: Shape
    batch: int

    @property
    def name(self) -> str:
        """Such as 28x28-d128-r23-b128."""
        return f"{self.shape.name}-b{self.batch}"


class CallSizes(NamedTuple):
    """Sizes of a call that is compared with float64, in the paper's letters."""

    size: tuple[int, ...]
    scope: tuple[int, ...]
    b: int = 2
    h: int = 4
    k: int = 16
    v: int = 16
    u: int = 1

    @property
    def name(self) -> str:
        """Such as 14x14-r27x27-h4-k16-v64-u1-b2."""
        size, scope = ("x".join(map(str, sides)) for sides in (self.size, self.scope))
        return f"{size}-r{scope}-h{self.h}-k{self.k}-v{self.v}-u{self.u}-b{self.b}"


STAGES: Final = ((56, 64), (28, 128), (14, 256), (7, 512))
STAGE_SHAPES: Final = tuple(Shape(side, channels, 23) for side, channels in STAGES)
WINDOW_SHAPES: Final = tuple(Shape(side, channels, 7) for side, channels in STAGES)
TIMM_SHAPES: Final = (Shape(32, 128, 9), Shape(16, 256, 9), Shape(8, 512, 9))
GLOBAL_SHAPES: Final = tuple(Shape(side, channels, None) for side, channels in STAGES[1:])
LARGE_GLOBAL: Final = Shape(56, 64, None)
# A strided block runs its layer before the pool: on the larger map, with the channels of the smaller one.
STRIDED_SHAPES: Final = tuple(
    Shape(side, channels, 23) for (side, _), (_, channels) in itertools.pairwise(STAGES)
)

OPERATOR_SHAPES: Final = (*STAGE_SHAPES, *WINDOW_SHAPES, *GLOBAL_SHAPES, *TIMM_SHAPES)
LAYER_SHAPES: Final = (*OPERATOR_SHAPES, *STRIDED_SHAPES, LARGE_GLOBAL)
MEMORY_SHAPES: Final = (*STAGE_SHAPES, *GLOBAL_SHAPES, LARGE_GLOBAL)
ERROR_SHAPES: Final = (*STAGE_SHAPES[1:], WINDOW_SHAPES[1], TIMM_SHAPES[1], *GLOBAL_SHAPES[:2])

# What the peers' embeddings of all pairs leave room for, at a global context, by the side of the map.
_GLOBAL_BATCH: Final = {56: 1, 28: 4}


def largest_batch(shape: Shape, batch: int) -> int:
    """The batch, or what a global context on a large map leaves room for."""
    return min(batch, _GLOBAL_BATCH.get(shape.side, batch)) if shape.scope is None else batch


def named(shapes: Iterable[Shape], parts: Sequence[str]) -> Iterator[Shape]:
    """The shapes whose names have one of these parts."""
    return (shape for shape in shapes if any(part in shape.name for part in parts))


def _cases(group: str, shapes: Iterable[Shape], batch: int) -> tuple[Case, ...]:
    return tuple(Case(group, shape, batch) for shape in shapes)


class Sizes(NamedTuple):
    """All sizes of a run on a GPU.

    Attributes:
        every_precision: Calls compared in every precision.
        bfloat16: Calls compared in bfloat16 alone.
        repeats: How often the bits of a call are compared.
        elements: More numbers than this in each tensor of the largest call.
        matrix: Side of the matrices whose product gives the rate of the device.
        copied_bytes: Bytes whose copy gives the bandwidth of the device.
        cases: Timed with all gradients.
        small: Timed in inference, with few images.
        seconds: Seconds of the repeats of one timing.
        models: Side of the images and number of them, for all models.
        larger_side: Side of the images of models that are made for larger ones.
    """

    every_precision: tuple[CallSizes, ...]
    bfloat16: tuple[CallSizes, ...]
    repeats: int
    elements: int
    matrix: int
    copied_bytes: int
    cases: tuple[Case, ...]
    small: tuple[Case, ...]
    seconds: float
    models: tuple[int, int]
    larger_side: int


FULL: Final = Sizes(
    every_precision=(
        CallSizes((14, 14), (23, 23), v=64),
        CallSizes((7, 7), (13, 13), b=4, v=128),
        CallSizes((5, 11), (9, 21), b=3, h=2, k=8, v=8, u=2),
    ),
    bfloat16=(
        CallSizes((56, 56), (23, 23)),
        CallSizes((28, 28), (55, 55), v=32),
        CallSizes((28, 28), (7, 7), v=32),
        CallSizes((13, 17), (9, 9), h=16, k=32, v=8),
        CallSizes((197,), (31,), h=5, v=64, u=4),
        CallSizes((4, 9, 10), (3, 5, 5), v=8),
    ),
    repeats=100,
    elements=2**31,
    matrix=8192,
    copied_bytes=4 << 30,
    cases=(
        *_cases("r=23", STAGE_SHAPES, 128),
        *_cases("global", GLOBAL_SHAPES[:2], 128),
        *_cases("r=7", WINDOW_SHAPES, 128),
        *_cases("r=9", TIMM_SHAPES, 128),
        Case("global", LARGE_GLOBAL, 32),
        *_cases("strided", STRIDED_SHAPES, 128),
        Case("global", Shape(128, 64, None), 8),
    ),
    small=(
        *_cases("b=1", STAGE_SHAPES, 1),
        *_cases("b=4", STAGE_SHAPES, 4),
        *_cases("b=1", (*WINDOW_SHAPES, GLOBAL_SHAPES[0]), 1),
    ),
    seconds=0.15,
    models=(224, 128),
    larger_side=256,
)

REHEARSAL: Final = Sizes(
    every_precision=(CallSizes((3, 5), (3, 9), h=2, k=8, v=8),),
    bfloat16=(CallSizes((6,), (5,), h=2, k=8, v=8),),
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
)
