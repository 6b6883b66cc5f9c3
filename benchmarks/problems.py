"""Named shapes: the lambda layers of a ResNet-50 at 224 pixels, and timm's scope."""

from typing import NamedTuple


class Shape(NamedTuple):
    """Side of the map, channels and scope of one lambda layer; None is the global context."""

    side: int
    channels: int
    scope: int | None

    @property
    def name(self) -> str:
        """Such as 28x28-d128-r23."""
        return f"{self.side}x{self.side}-d{self.channels}-r{self.scope or 'global'}"


STAGES = ((56, 64), (28, 128), (14, 256), (7, 512))

SHAPES = (
    *(Shape(side, channels, 23) for side, channels in STAGES),
    *(Shape(side, channels, 7) for side, channels in STAGES),
    *(Shape(side, channels, None) for side, channels in STAGES[1:]),
    Shape(32, 128, 9),
    Shape(16, 256, 9),
    Shape(8, 512, 9),
)
