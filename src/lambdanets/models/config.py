"""Networks as frozen records: the options of a lambda layer, of a ResNet and of a MobileNetV2."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final, Literal, get_args

from lambdanets.errors import ArgumentError, check_choice, require
from lambdanets.models.mixers import MixerName
from lambdanets.models.references import is_reference, resolve
from lambdanets.notation import Initialization, KeyNormalization, Normalization
from lambdanets.ranges import Channels, Range, Rate, check_settings

STAGES: Final = ("c2", "c3", "c4", "c5")
# Convolution, lambda layer, and attention, by the name in `mixer`.
_LETTERS: Final = ("C", "L", "A")

# Side of an image, of which a position table may be made, and of a window that reaches across it.
MapSide = Annotated[int, Range(1, 8192)]
Window = Annotated[int, Range(1, 2 * 8192 - 1)]
Depth = Annotated[int, Range(1, 1000)]
Stride = Annotated[int, Range(1, 2)]

# Channels out of a ResNet's bottleneck, over its width.
EXPANSION: Final = 4

# A MobileNetV2's groups of equal blocks in each stage; a stage ends where the stride grows next.
STAGE_GROUPS: Final[dict[str, tuple[int, ...]]] = {
    "c1": (0,),
    "c2": (1,),
    "c3": (2,),
    "c4": (3, 4),
    "c5": (5, 6),
}
_NUM_GROUPS: Final = 7
MOBILENET_STEM_STRIDE: Final = 2


@dataclass(frozen=True, kw_only=True)
class LambdaConfig:
    """The options of every lambda layer of a network; `LambdaLayer2d` has them by the same names.

    Attributes:
        query_depth: k.
        num_heads: h, queries per position.
        intra_depth: u.
        scope_size: r, side of the local window of the position lambdas; None is the global context.
        content: Use content lambdas.
        positional: Use position lambdas.
        key_normalization: `"softmax"`, `"softmax_keys_and_queries"`, `"l2"`, `"none"`, a callable or factory
            as in `LambdaLayer2d`, or the text `module:name` that says where one is imported from.
        normalization: Normalisation of queries and values: `"batch"`, `"layer"` or `"none"`.
        initialization: `"paper"`, or `"unit"` for position outputs that start with the scale of the values.
    """

    query_depth: Channels = 16
    num_heads: Channels = 4
    intra_depth: Channels = 1
    scope_size: Window | None = 23
    content: bool = True
    positional: bool = True
    key_normalization: str | Callable[..., Any] = "softmax"
    normalization: Normalization = "batch"
    initialization: Initialization = "paper"

    def __post_init__(self) -> None:
        """Check the values; whether the heads divide the channels, the layers say."""
        who = "LambdaConfig"
        check_settings(self)
        if self.scope_size is not None and self.scope_size % 2 == 0:
            raise ArgumentError(
                f"{who}: scope_size must be positive and odd, got {self.scope_size}. "
                "None is the global context."
            )
        if not self.content and not self.positional:
            raise ArgumentError(f"{who}: content or positional must be True, got False for both.")
        _check_named(self, "key_normalization", get_args(KeyNormalization))

    def options(self) -> dict[str, Any]:
        """The arguments of a lambda layer. Modules are not copied, and what is named is imported."""
        options = {one.name: getattr(self, one.name) for one in fields(self)}
        normalization = resolve("LambdaConfig", "key_normalization", self.key_normalization)
        return {**options, "key_normalization": normalization}


def _check_named(config: object, argument: str, known: tuple[str, ...]) -> None:
    """Raise unless a setting is a known name, where something is imported from, or a callable."""
    value = getattr(config, argument)
    if isinstance(value, str) and not is_reference(value):
        check_choice(type(config).__name__, argument, value, known)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The options that every network has.

    Attributes:
        lambda_layer: Options of the lambda layers.
        strides: Stride of the first block of each stage or group, 1 or 2.
        dropout: Rate before the classifier.
        image_size: Images the tables of a global context are sized for; any size runs.
        num_classes: Width of the classifier.
        in_channels: Channels of the images.
    """

    lambda_layer: LambdaConfig = LambdaConfig()
    strides: tuple[Stride, ...]
    dropout: Rate = 0.0
    image_size: MapSide | tuple[MapSide, MapSide] = 224
    num_classes: Annotated[int, Range(1, 10**7)] = 1000
    in_channels: Channels = 3

    def __post_init__(self) -> None:
        """Check what the modules would not, or would say less clearly."""
        check_settings(self)

    @property
    def block_stages(self) -> tuple[str, ...]:
        """The stages that are made of blocks, from the images on."""
        return STAGES

    @property
    def stages(self) -> tuple[str, ...]:
        """The parts of the network before the classifier, by their names, from the images on."""
        return ("stem", *self.block_stages)

    def _size_behind(self, *strides: int) -> tuple[int, int]:
        """Height and width of an image of `image_size` behind layers of these strides."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        for stride in strides:
            height, width = -(-height // stride), -(-width // stride)
        return height, width


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetworkConfig):
    """A bottleneck ResNet whose 3×3 convolutions may be lambda layers or attention.

    Attributes:
        depths: Blocks of the stages c2 to c5.
        layers: One letter a stage: C convolution, L lambda layer, A attention.
        lambda_blocks: Stage -> blocks, counted from 1, that are lambda layers in a convolution stage.
        widths: Channels of the 3×3 convolution or lambda layer in each stage; blocks put out 4 times as many.
        stem: `"classic"` (7×7 and max pool, stride 4), `"deep"` (four 3×3 layers, as in ResNet-RS, stride 4)
            or `"small"` (one 3×3, stride 1: for images of some 32 pixels and less).
        shortcut: `"convolution"` (strided 1×1) or `"pool"` (2×2 average pool, then 1×1: ResNet-D).
        squeeze_excitation: Stages whose convolution blocks end in squeeze-and-excitation.
        squeeze_ratio: Its bottleneck, as a fraction of the block's output channels.
        stochastic_depth: Rate in c5; c2 to c4 take 2/5, 3/5 and 4/5 of it.
        zero_gamma: Start every residual branch at zero.
        share_position: `"none"`, or `"stage"` for one position table for all lambda layers of a stage.
        mixer: Which attention the letter A is. `"linear_attention"` is the content lambda, with the options
            of the lambda layers. Or a callable that makes a layer of your own, or the text `module:name` that
            says where it is imported from: `lambdanets.models.mixers` says how it is called.
        attention_heads: h of attention.
        attention_window: Side of its window where it is local.
    """

    depths: tuple[Depth, ...] = (3, 4, 6, 3)
    layers: str = "CCCC"
    lambda_blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    widths: tuple[Channels, ...] = (64, 128, 256, 512)
    strides: tuple[Stride, ...] = (1, 2, 2, 2)
    stem: Literal["classic", "deep", "small"] = "classic"
    shortcut: Literal["convolution", "pool"] = "convolution"
    squeeze_excitation: tuple[str, ...] = ()
    squeeze_ratio: Annotated[float, Range(0, 16, "low")] = 0.25
    stochastic_depth: Rate = 0.0
    zero_gamma: bool = True
    share_position: Literal["none", "stage"] = "none"
    mixer: str | Callable[..., Any] | None = None
    attention_heads: Channels = 8
    attention_window: Window = 7

    def __post_init__(self) -> None:
        """Check what the modules would not, or would say less clearly."""
        who = "ResNetConfig"
        super().__post_init__()
        for name in ("depths", "widths", "strides"):
            require(self, name, len(getattr(self, name)) == len(STAGES), "have 4 numbers, one a stage")
        # The first layers of that stem have half as many.
        is_wide = self.stem != "deep" or self.widths[0] > 1
        require(self, "widths", is_wide, "begin with at least 2 for the deep stem")
        for stage in self.squeeze_excitation:
            check_choice(who, "squeeze_excitation", stage, STAGES)
        self._check_layers(who)
        if self.mixer is not None:
            _check_named(self, "mixer", get_args(MixerName))
        if ("A" in self.layers) != (self.mixer is not None):
            raise ArgumentError(
                f"{who}: mixer must be given when layers have the letter A, and then alone, "
                f"got {getattr(self.mixer, '__name__', repr(self.mixer))} and {self.layers!r}. "
                f"Known: {', '.join(get_args(MixerName))}."
            )
        require(self, "attention_window", self.attention_window % 2 == 1, "be positive and odd")

    def _check_layers(self, who: str) -> None:
        if len(self.layers) != len(STAGES):
            raise ArgumentError(f"{who}: layers must have 4 letters, one a stage, got {self.layers!r}.")
        for stage, letter in zip(STAGES, self.layers, strict=True):
            if letter not in _LETTERS:
                raise ArgumentError(
                    f"{who}: layers must use the letters {', '.join(_LETTERS)}, got {self.layers!r} "
                    f"(unknown {letter!r} at {stage})."
                )
        for stage, blocks in self.lambda_blocks.items():
            check_choice(who, "lambda_blocks", stage, STAGES)
            depth = self.depths[STAGES.index(stage)]
            if not all(1 <= block <= depth for block in blocks):
                raise ArgumentError(
                    f"{who}: lambda_blocks of {stage} must be from 1 to {depth}, got {tuple(blocks)}."
                )

    @property
    def has_own_mixer(self) -> bool:
        """Whether the letter A is a layer of the user's own."""
        return callable(self.mixer) or is_reference(self.mixer)

    @property
    def stem_stride(self) -> int:
        """Pixels of the image from one position behind the stem to the next."""
        return 1 if self.stem == "small" else 4

    def mixers(self, stage: str) -> str:
        """One letter for each block of a stage."""
        index = STAGES.index(stage)
        lambdas = self.lambda_blocks.get(stage, ())
        return "".join(
            "L" if block in lambdas else self.layers[index] for block in range(1, self.depths[index] + 1)
        )

    def map_sizes(self, stage: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the map that enters a stage and of the one that leaves it, at `image_size`."""
        strides = (self.stem_stride, *self.strides[: STAGES.index(stage) + 1])
        return self._size_behind(*strides[:-1]), self._size_behind(*strides)


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One inverted bottleneck of a MobileNetV2.

    Attributes:
        number: Counted from 1 through the network.
        expansion: Channels of its depthwise convolution, over `in_channels`.
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
class MobileNetConfig(NetworkConfig):
    """A MobileNetV2 some of whose inverted bottlenecks may be lambda blocks.

    Attributes:
        depths: Blocks of the seven groups; c2 and c3 are one group each, c4 and c5 two.
        widths: Channels the blocks of each group put out.
        expansions: Channels of each group's depthwise convolutions, over the channels of the block's inputs.
        lambda_blocks: Blocks, counted from 1 through the network, with a lambda layer for the depthwise
            convolution. They do not expand: their first 1×1 convolution keeps the number of channels.
        lambda_projection: End lambda blocks by a 1×1 convolution, as the others. The paper's text does not
            take it away; its number of parameters, 3.21 M, is that of blocks without.
        stem_width: Channels of the first convolution.
        head_width: Channels of the last 1×1 convolution.
    """

    depths: tuple[Depth, ...] = (1, 2, 3, 4, 3, 3, 1)
    widths: tuple[Channels, ...] = (16, 24, 32, 64, 96, 160, 320)
    strides: tuple[Stride, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[Annotated[int, Range(1, 100)], ...] = (1, 6, 6, 6, 6, 6, 6)
    lambda_blocks: tuple[int, ...] = ()
    lambda_projection: bool = True
    stem_width: Channels = 32
    head_width: Channels = 1280
    lambda_layer: LambdaConfig = LambdaConfig(query_depth=32, scope_size=5)

    def __post_init__(self) -> None:
        """Check what the modules would not, or would say less clearly."""
        super().__post_init__()
        for name in ("depths", "widths", "strides", "expansions"):
            fits = len(getattr(self, name)) == _NUM_GROUPS
            require(self, name, fits, f"have {_NUM_GROUPS} positive numbers, one a group")
        depth = sum(self.depths)
        inside = all(1 <= block <= depth for block in self.lambda_blocks)
        require(self, "lambda_blocks", inside, f"be from 1 to {depth}")

    @property
    def block_stages(self) -> tuple[str, ...]:
        """The stages that are made of blocks, from the images on."""
        return tuple(STAGE_GROUPS)

    @property
    def stages(self) -> tuple[str, ...]:
        """The parts of the network before the classifier, by their names, from the images on."""
        return (*super().stages, "head")

    def blocks(self, stage: str) -> tuple[BlockConfig, ...]:
        """The blocks of a stage, c1 to c5."""
        start = STAGE_GROUPS[stage][0]
        number = sum(self.depths[:start])
        channels = self.widths[start - 1] if start else self.stem_width
        strides = [MOBILENET_STEM_STRIDE, *self.strides[:start]]
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
                    map_size=self._size_behind(*strides),
                )
                blocks.append(block)
                channels = self.widths[group]
                strides.append(stride)
        return tuple(blocks)

    def mixers(self, stage: str) -> str:
        """One letter for each block of a stage: C depthwise convolution, L lambda layer."""
        return "".join("L" if block.is_lambda else "C" for block in self.blocks(stage))
