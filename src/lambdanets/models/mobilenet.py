"""MobileNetV2 with depthwise convolutions or lambda layers, as its config says."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.models.config import (
    MOBILENET_STEM_STRIDE,
    STAGE_GROUPS,
    STAGES,
    BlockConfig,
    MobileNetConfig,
)
from lambdanets.models.resnet import conv_norm_relu, initialize_layers
from lambdanets.models.stages import StagedNetwork
from lambdanets.nn.children import bind_inputs, plain_weight
from lambdanets.nn.lambda_layer import LambdaLayer2d

torch.fx.wrap("bind_inputs")


class MobileNetV2(StagedNetwork):
    """A small classifier, and the backbone of detectors.

    `stem`, the stages `c1` to `c5` (`nn.Sequential` of `InvertedBottleneck`), `head` (a 1×1 convolution),
    `dropout` and `classifier`. Runs on images of any size.

    Paper: Table 17; the network without lambda blocks is Sandler et al. 2018, Table 2.

    Raises:
        ArgumentTypeError: Images that are not of the weights' floating-point type, such as bytes.

    Example:
        >>> from lambdanets.models import create_model
        >>> model = create_model("lambda_mobilenetv2", num_classes=10)
        >>> features = model.features(torch.ones(1, 3, 64, 75))
        >>> {stage: tuple(map.shape[1:]) for stage, map in features.items()}["c5"]
        (320, 2, 3)
    """

    config: MobileNetConfig

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _conv_norm_relu6(config.in_channels, config.stem_width, 3, MOBILENET_STEM_STRIDE)
        for stage in STAGE_GROUPS:
            blocks = [InvertedBottleneck(config, block) for block in config.blocks(stage)]
            self.add_module(stage, nn.Sequential(*blocks))
        self.head = _conv_norm_relu6(config.widths[-1], config.head_width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head_width, config.num_classes)
        initialize_layers(self, (layer for layer in self.modules() if isinstance(layer, LambdaLayer2d)))

    @property
    def channels(self) -> dict[str, int]:
        """Channels of each stage's output."""
        return {stage: self.config.widths[STAGE_GROUPS[stage][-1]] for stage in STAGES}

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image from one position of each stage's output to the next."""
        stride = MOBILENET_STEM_STRIDE
        strides = {}
        for stage, groups in STAGE_GROUPS.items():
            for group in groups:
                stride *= self.config.strides[group]
            strides[stage] = stride
        return {stage: strides[stage] for stage in STAGES}

    def features(self, images: Float[Tensor, "b c height width"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        """The output of each stage from c2, by name; see `channels` and `strides`."""
        bind_inputs("MobileNetV2", "images", images, plain_weight(next(self.stem.children(), self.stem)))
        maps = self.stem(images)
        outputs = {}
        for stage in STAGE_GROUPS:
            maps = self.get_submodule(stage)(maps)
            outputs[stage] = maps
        return {stage: outputs[stage] for stage in STAGES}

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        return self.classifier(self.dropout(self.head(self.features(images)["c5"]).mean((2, 3))))


class InvertedBottleneck(nn.Module):
    """1×1 convolution, mixer, 1×1 convolution, and a shortcut around them where the shapes agree.

    Batch norm follows each, and ReLU6 each but the last. The mixer is a depthwise 3×3 convolution of
    `expansion` times as many channels, or a lambda layer of as many as come in.

    Paper: Table 17 (lambda blocks).
    """

    def __init__(self, config: MobileNetConfig, block: BlockConfig) -> None:
        super().__init__()
        width = block.in_channels * (1 if block.is_lambda else block.expansion)
        # The first block of the network neither expands nor has a 1×1 convolution that would.
        reads_inputs = block.is_lambda or block.expansion > 1
        self.expand = _conv_norm_relu6(block.in_channels, width, 1) if reads_inputs else nn.Identity()
        projected = config.lambda_projection or not block.is_lambda
        mixed = width if projected else block.out_channels
        stride, size = block.stride, block.map_size
        if block.is_lambda:
            options = config.lambda_layer.options()
            self.mixer: nn.Module = LambdaLayer2d(width, mixed, feature_size=size, stride=stride, **options)
        else:
            self.mixer = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, bias=False)
        self.norm_mixer = nn.BatchNorm2d(mixed)
        # The end of a block is linear, as MobileNetV2 has it.
        self.activation = nn.ReLU6() if projected else nn.Identity()
        project = nn.Conv2d(mixed, block.out_channels, 1, bias=False)
        self.project = (
            nn.Sequential(project, nn.BatchNorm2d(block.out_channels)) if projected else nn.Identity()
        )
        self.has_shortcut = block.stride == 1 and block.in_channels == block.out_channels

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Mix, and add the inputs where the shapes agree."""
        maps = self.activation(self.norm_mixer(self.mixer(self.expand(inputs))))
        maps = self.project(maps)
        return inputs + maps if self.has_shortcut else maps


def _conv_norm_relu6(d: int, out_channels: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*conv_norm_relu(d, out_channels, side, stride, nn.ReLU6))
