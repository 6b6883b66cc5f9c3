"""The bottleneck ResNet with convolutions, lambda layers or attention, as its config says."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lambdanets.models.config import EXPANSION, STAGES, ResNetConfig
from lambdanets.models.mixers import make_mixer
from lambdanets.models.stages import StagedNetwork
from lambdanets.nn.children import bind_inputs, call_child, plain_weight
from lambdanets.nn.position import RelativePosition
from lambdanets.nn.scaling import SqueezeExcitation, StochasticDepth

# A tracer keeps the check as one call: it asks for the type of images that are not there yet.
torch.fx.wrap("bind_inputs")


class ResNet(StagedNetwork):
    """A classifier, and the backbone of detectors.

    `stem`, the stages `c2` to `c5` (`nn.Sequential` of `Bottleneck`), `dropout` and `classifier`. Runs on
    images of any size.

    Paper: §4, §5; Tables 12 and 19.

    Raises:
        ArgumentTypeError: Images that are not of the weights' floating-point type, such as bytes.

    Example:
        >>> from lambdanets.models import create_model
        >>> model = create_model("lambda_resnet50", num_classes=10)
        >>> features = model.features(torch.ones(1, 3, 64, 75))
        >>> {stage: tuple(map.shape[1:]) for stage, map in features.items()}["c5"]
        (2048, 2, 3)
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.stem = _make_stem(config)
        channels = config.widths[0]
        own: list[nn.Module] = []
        for stage, stride in zip(STAGES, config.strides, strict=True):
            position = _shared_position(config, stage, stride)
            blocks = _Stage()
            for number, letter in enumerate(config.mixers(stage), 1):
                shared = position if letter in _sharing(config) else None
                block = Bottleneck(config, stage, number, channels, stride, shared)
                if letter != "C":
                    own.append(block.mixer)
                blocks.append(block)
                channels, stride = self.channels[stage], 1
            self.add_module(stage, blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(channels, config.num_classes)
        # Lambda layers, attentions and layers of the user's own keep their initialisation.
        initialize_layers(self, own)
        for module in self.modules():
            if isinstance(module, Bottleneck) and config.zero_gamma:
                nn.init.zeros_(module.norm_expand.weight)

    @property
    def channels(self) -> dict[str, int]:
        """Channels of each stage's output."""
        return {stage: EXPANSION * width for stage, width in zip(STAGES, self.config.widths, strict=True)}

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image from one position of each stage's output to the next."""
        stride = self.config.stem_stride
        strides = {}
        for stage, own in zip(STAGES, self.config.strides, strict=True):
            stride *= own
            strides[stage] = stride
        return strides

    def set_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Keep only the blocks' inputs for backward and compute the rest again: less memory, more time.

        The running statistics of batch norms are updated once, as without it.
        """
        self.gradient_checkpointing = enabled
        for module in self.modules():
            if isinstance(module, _Stage):
                module.gradient_checkpointing = enabled

    def features(self, images: Float[Tensor, "b c height width"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        """The output of each stage, by name; see `channels` and `strides`."""
        bind_inputs("ResNet", "images", images, plain_weight(next(self.stem.children(), self.stem)))
        maps = self.stem(images)
        outputs = {}
        for stage in STAGES:
            maps = self.get_submodule(stage)(maps)
            outputs[stage] = maps
        return outputs

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        return self.classifier(self.dropout(self.features(images)["c5"].mean((2, 3))))


class _Stage(nn.Sequential):
    """Bottlenecks one behind the other, each computed again in backward where a network asks for it."""

    gradient_checkpointing = False

    def forward(self, maps: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Call each block."""
        for block in self:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                maps = checkpoint(block, maps, use_reentrant=False, context_fn=partial(_contexts, block))
            else:
                maps = block(maps)
        return maps


class Bottleneck(nn.Module):
    """1×1 convolution, mixer, 1×1 convolution, and a shortcut around them.

    Each is followed by batch norm and ReLU, as in ResNet-v1, whatever the mixer (its letter is C, L or A).
    Blocks are counted from 1 in each stage. A lambda layer may share the position module of its stage.

    Paper: §4, Appendix C.1.
    """

    def __init__(
        self,
        config: ResNetConfig,
        stage: str,
        number: int,
        in_channels: int,
        stride: int,
        position: RelativePosition | None,
    ) -> None:
        super().__init__()
        index = STAGES.index(stage)
        width = config.widths[index]
        channels = EXPANSION * width
        self.reduce = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm_reduce = nn.BatchNorm2d(width)
        letter = config.mixers(stage)[number - 1]
        self.mixer = make_mixer(letter, config, stage, number, width, stride, position)
        # What the user's own mixer gives is looked at: its name, and its stride.
        is_own = letter == "A" and config.has_own_mixer
        self.checked = (f"mixer of {stage}", stride) if is_own else None
        self.norm_mixer = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, channels, 1, bias=False)
        self.norm_expand = nn.BatchNorm2d(channels)
        squeezed = stage in config.squeeze_excitation and letter == "C"
        self.squeeze_excitation = (
            SqueezeExcitation(channels, int(channels * config.squeeze_ratio)) if squeezed else nn.Identity()
        )
        self.stochastic_depth = StochasticDepth(config.stochastic_depth * (index + 2) / 5)
        self.shortcut = _make_shortcut(config, in_channels, channels, stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Add the branch to the shortcut."""
        maps = torch.relu(self.norm_reduce(self.reduce(inputs)))
        maps = torch.relu(self.norm_mixer(self._mix(maps)))
        maps = self.squeeze_excitation(self.norm_expand(self.expand(maps)))
        return torch.relu(self.stochastic_depth(maps) + self.shortcut(inputs))

    def _mix(self, maps: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d _ _"]:
        """Call the mixer; one of the user's own must give what the block needs."""
        # A tracer's stand-in has no sizes.
        if self.checked is None or not isinstance(maps, Tensor):
            return self.mixer(maps)
        name, stride = self.checked
        wanted = (*maps.shape[:2], *(-(-side // stride) for side in maps.shape[2:]))
        return call_child("ResNet", name, wanted, self.mixer, maps)


def _make_stem(config: ResNetConfig) -> nn.Sequential:
    """The layers before c2: stride 4, or 1 for small images."""
    d, width = config.in_channels, config.widths[0]
    match config.stem:
        case "classic":
            return nn.Sequential(*conv_norm_relu(d, width, 7, 2), nn.MaxPool2d(3, stride=2, padding=1))
        case "deep":
            return nn.Sequential(
                *conv_norm_relu(d, width // 2, 3, 2),
                *conv_norm_relu(width // 2, width // 2, 3, 1),
                *conv_norm_relu(width // 2, width, 3, 1),
                *conv_norm_relu(width, width, 3, 2),
            )
        case "small":
            return nn.Sequential(*conv_norm_relu(d, width, 3, 1))


def conv_norm_relu(
    d: int, out_channels: int, side: int, stride: int = 1, activation: type[nn.Module] = nn.ReLU
) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size of the map, but for its stride, with batch norm and activation."""
    convolution = nn.Conv2d(d, out_channels, side, stride=stride, padding=side // 2, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), activation()


def _sharing(config: ResNetConfig) -> str:
    """The letters of what may share a position module: lambda layers, and layers of the user's own."""
    return "LA" if config.has_own_mixer else "L"


def _shared_position(config: ResNetConfig, stage: str, stride: int) -> RelativePosition | None:
    """One table for all lambda layers of a stage, sized for the largest map among theirs."""
    options, mixers, sharing = config.lambda_layer, config.mixers(stage), _sharing(config)
    if config.share_position == "none" or not options.positional or not {*sharing} & {*mixers}:
        return None
    entering, leaving = config.map_sizes(stage)
    return RelativePosition(
        2,
        query_depth=options.query_depth,
        intra_depth=options.intra_depth,
        scope_size=options.scope_size,
        feature_size=entering if mixers[0] in sharing and stride > 1 else leaving,
        initialization=options.initialization,
    )


def _make_shortcut(config: ResNetConfig, in_channels: int, channels: int, stride: int) -> nn.Module:
    if in_channels == channels and stride == 1:
        return nn.Identity()
    pooled = stride == 2 and config.shortcut == "pool"
    pool = [_HalvingPool()] if pooled else []
    convolution = nn.Conv2d(in_channels, channels, 1, stride=1 if pooled else stride, bias=False)
    return nn.Sequential(*pool, convolution, nn.BatchNorm2d(channels))


class _HalvingPool(nn.AvgPool2d):
    """The 2×2 mean of what is on the map; odd maps get the size that strided convolutions give them."""

    def __init__(self) -> None:
        super().__init__(2, stride=2, ceil_mode=True, count_include_pad=False)

    def forward(self, input: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d _ _"]:
        """The pool, or for compilers the same without a ceiling, which would bind a program to even maps."""
        if not torch.compiler.is_compiling():
            return super().forward(input)
        doubled = nn.functional.pad(input, (0, 1, 0, 1), mode="replicate")
        return nn.functional.avg_pool2d(doubled, 2, stride=2)


def initialize_layers(model: nn.Module, own: Iterable[nn.Module] = ()) -> None:
    """He initialisation for convolutions, 0.01 for linear layers; the modules of `own` keep theirs."""
    kept = {id(part) for layer in own for part in layer.modules()}
    for module in model.modules():
        if id(module) in kept:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for a checkpointed block's two runs: the second leaves running statistics alone."""
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    norms = [part for part in block.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
