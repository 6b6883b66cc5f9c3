"""Named shapes: the lambda layers of a ResNet-50 at 224 pixels, strided blocks too, and timm's scope."""

import itertools
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


STAGES = ((56, 64), (28, 128), (14, 256), (7, 512))

STAGE_SHAPES = tuple(Shape(side, channels, 23) for side, channels in STAGES)

SHAPES = (
    *STAGE_SHAPES,
    *(Shape(side, channels, 7) for side, channels in STAGES),
    *(Shape(side, channels, None) for side, channels in STAGES[1:]),
    Shape(32, 128, 9),
    Shape(16, 256, 9),
    Shape(8, 512, 9),
)

# A strided block runs its layer before the pool: on the larger map, with the channels of the smaller one.
STRIDED_SHAPES = tuple(Shape(side, channels, 23) for (side, _), (_, channels) in itertools.pairwise(STAGES))

# What the peers' embeddings of all pairs leave room for, at a global context, by the side of the map.
GLOBAL_BATCH: Final = {56: 1, 28: 4}

LAYER_SHAPES = (*SHAPES, *STRIDED_SHAPES, Shape(56, 64, None))


def largest_batch(shape: Shape, batch: int) -> int:
    """As many images as were asked for, or as a global context on a large map leaves room for."""
    return min(batch, GLOBAL_BATCH.get(shape.side, batch)) if shape.scope is None else batch
