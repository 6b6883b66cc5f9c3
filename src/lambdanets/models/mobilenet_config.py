"""What a MobileNetV2 with lambda blocks is made of, as one frozen record."""

from dataclasses import dataclass
from typing import Final, Literal

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.models.config import check_network

# Groups of equal blocks in each stage; a stage ends where the stride grows next.
STAGE_GROUPS: Final[dict[str, tuple[int, ...]]] = {
    "c1": (0,),
    "c2": (1,),
    "c3": (2,),
    "c4": (3, 4),
    "c5": (5, 6),
}
_NUM_GROUPS: Final = 7

# Of the stem's convolution.
STEM_STRIDE: Final = 2


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One inverted bottleneck.

    Attributes:
        number: Counted from 1 through the network.
        in_channels: Of its inputs.
        out_channels: Of its outputs.
        expansion: Channels of its depthwise convolution, over `in_channels`.
        stride: 1 or 2.
        is_lambda: Whether a lambda layer stands where the depthwise convolution stood.
        map_size: Height and width of its inputs, at the config's `image_size`.
    """

    number: int
    in_channels: int
    out_channels: int
    expansion: int
    stride: int
    is_lambda: bool
    map_size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class MobileNetConfig:
    """A MobileNetV2 some of whose inverted bottlenecks may be lambda blocks.

    Attributes:
        depths: Blocks of the seven groups; c2 and c3 are one group each, c4 and c5 two.
        widths: Channels the blocks of each group put out.
        strides: Stride of the first block of each group, 1 or 2.
        expansions: Channels of each group's depthwise convolutions, over the channels of the block's inputs.
        lambda_blocks: Blocks, counted from 1 through the network, with a lambda layer for the depthwise
            convolution. They do not expand: their first 1×1 convolution keeps the number of channels.
        lambda_projection: End lambda blocks by a 1×1 convolution, as the others. The paper's text does not
            take it away; its number of parameters, 3.21 M, is that of blocks without.
        stem_width: Channels of the first convolution.
        head_width: Channels of the last 1×1 convolution.
        dropout: Rate before the classifier.
        query_depth: k.
        num_heads: h.
        intra_depth: u.
        scope_size: r; None is the global context.
        content: Use content lambdas.
        positional: Use position lambdas.
        key_normalization: As in `LambdaLayer2d`.
        normalization: Of queries and values, as in `LambdaLayer2d`.
        initialization: As in `LambdaLayer2d`.
        image_size: Images the tables of a global context are sized for; any size runs.
        num_classes: Width of the classifier.
        in_channels: Of the images.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    lambda_blocks: tuple[int, ...] = ()
    lambda_projection: bool = True
    stem_width: int = 32
    head_width: int = 1280
    dropout: float = 0.0
    query_depth: int = 32
    num_heads: int = 4
    intra_depth: int = 1
    scope_size: int | None = 5
    content: bool = True
    positional: bool = True
    key_normalization: Literal["softmax", "softmax_keys_and_queries", "l2", "none"] = "softmax"
    normalization: Literal["batch", "layer", "none"] = "batch"
    initialization: Literal["paper", "unit"] = "paper"
    image_size: int | tuple[int, int] = 224
    num_classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        """Check what the modules would not, or would say less clearly."""
        who = "MobileNetConfig"
        for name in ("depths", "widths", "strides", "expansions"):
            numbers = getattr(self, name)
            if len(numbers) != _NUM_GROUPS or min(numbers) < 1:
                raise ArgumentError(
                    f"{who}: {name} must have {_NUM_GROUPS} positive numbers, one a group, got {numbers}."
                )
        check_positive(who, stem_width=self.stem_width, head_width=self.head_width)
        check_network(who, self)
        depth = sum(self.depths)
        if not all(1 <= block <= depth for block in self.lambda_blocks):
            raise ArgumentError(
                f"{who}: lambda_blocks must be from 1 to {depth}, got {tuple(self.lambda_blocks)}."
            )

    def blocks(self, stage: str) -> tuple[BlockConfig, ...]:
        """The blocks of a stage, c1 to c5."""
        start = STAGE_GROUPS[stage][0]
        number = sum(self.depths[:start])
        channels = self.widths[start - 1] if start else self.stem_width
        size = self._map_size(start)
        blocks = []
        for group in STAGE_GROUPS[stage]:
            for index in range(self.depths[group]):
                number += 1
                stride = self.strides[group] if index == 0 else 1
                block = BlockConfig(
                    number=number,
                    in_channels=channels,
                    out_channels=self.widths[group],
                    expansion=self.expansions[group],
                    stride=stride,
                    is_lambda=number in self.lambda_blocks,
                    map_size=size,
                )
                blocks.append(block)
                channels, size = self.widths[group], _strided(size, stride)
        return tuple(blocks)

    def mixers(self, stage: str) -> str:
        """One letter for each block of a stage: C depthwise convolution, L lambda layer."""
        return "".join("L" if block.is_lambda else "C" for block in self.blocks(stage))

    def _map_size(self, group: int) -> tuple[int, int]:
        """Of the inputs of a group, at `image_size`."""
        size = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        for stride in (STEM_STRIDE, *self.strides[:group]):
            size = _strided(size, stride)
        return size


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
