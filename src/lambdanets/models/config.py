"""What a ResNet of this family is made of, as one frozen record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from lambdanets.errors import ArgumentError, check_choice, check_positive

STAGES: Final = ("c2", "c3", "c4", "c5")
LETTERS: Final = {"C": "3×3 convolution", "L": "lambda layer", "A": "attention, by the name in `mixer`"}

# What the letter A can be.
ATTENTIONS: Final = (
    "augmented_convolution",
    "axial_attention",
    "double_attention",
    "efficient_attention",
    "global_attention",
    "linear_attention",
    "local_attention",
    "local_relation",
    "pairwise_attention",
    "patchwise_attention",
    "relative_attention",
)

# Channels out of a bottleneck, over its width.
EXPANSION: Final = 4


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A bottleneck ResNet whose 3×3 convolutions may be lambda layers or attention.

    Attributes:
        depths: Blocks of the stages c2 to c5.
        layers: One letter a stage: C convolution, L lambda layer, A attention.
        lambda_blocks: Stage -> blocks, counted from 1, that are lambda layers in a convolution stage.
        widths: Channels of the 3×3 convolution or lambda layer in each stage; blocks put out 4 times as many.
        strides: Stride of the first block of each stage, 1 or 2.
        stem: `"classic"` (7×7 and max pool, stride 4), `"deep"` (five 3×3 layers' ResNet-RS stem, stride 4)
            or `"small"` (one 3×3, stride 1: for images of some 32 pixels and less).
        shortcut: `"convolution"` (strided 1×1) or `"pool"` (2×2 average pool, then 1×1: ResNet-D).
        squeeze_excitation: Stages whose convolution blocks end in squeeze-and-excitation.
        squeeze_ratio: Its bottleneck, as a part of the block's output channels.
        dropout: Rate before the classifier.
        stochastic_depth: Rate in c5; c2 to c4 take 2/5, 3/5 and 4/5 of it.
        zero_gamma: Start every residual branch at zero.
        query_depth: k.
        num_heads: h.
        intra_depth: u.
        scope_size: r; None is the global context.
        content: Use content lambdas.
        positional: Use position lambdas.
        share_position: `"none"`, or `"stage"` for one position table for all lambda layers of a stage.
        key_normalization: As in `LambdaLayer2d`.
        normalization: Of queries and values, as in `LambdaLayer2d`.
        initialization: As in `LambdaLayer2d`.
        mixer: Which attention the letter A is; one of `ATTENTIONS`. `"linear_attention"` is the content
            lambda, with the lambdas' own depths.
        attention_heads: h of attention.
        attention_window: Side of its window where it is local.
        image_size: Images the tables of a global context are sized for; any size runs.
        num_classes: Width of the classifier.
        in_channels: Of the images.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    layers: str = "CCCC"
    lambda_blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    stem: Literal["classic", "deep", "small"] = "classic"
    shortcut: Literal["convolution", "pool"] = "convolution"
    squeeze_excitation: tuple[str, ...] = ()
    squeeze_ratio: float = 0.25
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    zero_gamma: bool = True
    query_depth: int = 16
    num_heads: int = 4
    intra_depth: int = 1
    scope_size: int | None = 23
    content: bool = True
    positional: bool = True
    share_position: Literal["none", "stage"] = "none"
    key_normalization: Literal["softmax", "softmax_keys_and_queries", "l2", "none"] = "softmax"
    normalization: Literal["batch", "layer", "none"] = "batch"
    initialization: Literal["paper", "unit"] = "paper"
    mixer: str | None = None
    attention_heads: int = 8
    attention_window: int = 7
    image_size: int | tuple[int, int] = 224
    num_classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        """Check what the modules would not, or would say less clearly."""
        who = "ResNetConfig"
        for name in ("depths", "widths", "strides"):
            if len(getattr(self, name)) != len(STAGES):
                raise ArgumentError(
                    f"{who}: {name} must have 4 numbers, one a stage, got {getattr(self, name)}."
                )
        check_network(who, self)
        for stage, depth, width in zip(STAGES, self.depths, self.widths, strict=True):
            check_positive(who, **{f"depth of {stage}": depth, f"width of {stage}": width})
        check_choice(who, "stem", self.stem, ("classic", "deep", "small"))
        check_choice(who, "shortcut", self.shortcut, ("convolution", "pool"))
        check_choice(who, "share_position", self.share_position, ("none", "stage"))
        for stage in self.squeeze_excitation:
            check_choice(who, "squeeze_excitation", stage, STAGES)
        self._check_layers(who)
        self._check_attention(who)

    def _check_layers(self, who: str) -> None:
        letters = ", ".join(LETTERS)
        if len(self.layers) != len(STAGES):
            raise ArgumentError(f"{who}: layers must have 4 letters, one a stage, got {self.layers!r}.")
        for stage, letter in zip(STAGES, self.layers, strict=True):
            if letter not in LETTERS:
                raise ArgumentError(
                    f"{who}: layers must use the letters {letters}, got {self.layers!r} "
                    f"(unknown {letter!r} at {stage})."
                )
        for stage, blocks in self.lambda_blocks.items():
            check_choice(who, "lambda_blocks", stage, STAGES)
            depth = self.depths[STAGES.index(stage)]
            if not all(1 <= block <= depth for block in blocks):
                raise ArgumentError(
                    f"{who}: lambda_blocks of {stage} must be from 1 to {depth}, got {tuple(blocks)}."
                )

    def _check_attention(self, who: str) -> None:
        if self.mixer is not None:
            check_choice(who, "mixer", self.mixer, ATTENTIONS)
        if ("A" in self.layers) != (self.mixer is not None):
            raise ArgumentError(
                f"{who}: mixer must be given when layers have the letter A, and then alone, "
                f"got {self.mixer!r} and {self.layers!r}. Known: {', '.join(ATTENTIONS)}."
            )
        check_positive(who, attention_heads=self.attention_heads)
        if self.attention_window < 1 or self.attention_window % 2 == 0:
            raise ArgumentError(
                f"{who}: attention_window must be positive and odd, got {self.attention_window}."
            )

    def mixers(self, stage: str) -> str:
        """One letter for each block of a stage."""
        index = STAGES.index(stage)
        lambdas = self.lambda_blocks.get(stage, ())
        return "".join(
            "L" if block in lambdas else self.layers[index] for block in range(1, self.depths[index] + 1)
        )

    def map_sizes(self, stage: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the map that enters a stage and of the one that leaves it, at `image_size`."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        stem_stride = 1 if self.stem == "small" else 4
        entering = leaving = (-(-height // stem_stride), -(-width // stem_stride))
        for stride in self.strides[: STAGES.index(stage) + 1]:
            entering, leaving = leaving, (-(-leaving[0] // stride), -(-leaving[1] // stride))
        return entering, leaving


@runtime_checkable
class _Network(Protocol):
    """What the config of every network holds."""

    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def dropout(self) -> float: ...
    @property
    def scope_size(self) -> int | None: ...
    @property
    def image_size(self) -> int | tuple[int, int]: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def in_channels(self) -> int: ...


def check_network(who: str, config: _Network) -> None:
    """Raise unless the fields that every network has are such as can be built."""
    check_positive(who, num_classes=config.num_classes, in_channels=config.in_channels)
    sides = (config.image_size,) if isinstance(config.image_size, int) else config.image_size
    check_positive(who, image_size=min(sides))
    if config.scope_size is not None and config.scope_size % 2 == 0:
        raise ArgumentError(
            f"{who}: scope_size must be odd, got {config.scope_size}. None is the global context."
        )
    if not set(config.strides) <= {1, 2}:
        raise ArgumentError(f"{who}: strides must be 1 or 2, got {config.strides}.")
    if not 0 <= config.dropout < 1:
        raise ArgumentError(f"{who}: dropout must be at least 0 and below 1, got {config.dropout}.")
