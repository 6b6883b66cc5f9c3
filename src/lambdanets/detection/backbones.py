"""Backbones of detectors: ours and timm's by their names, weights of a classifier, and a feature pyramid."""

from collections.abc import Mapping
from typing import Any, Final, Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from lambdanets.errors import ArgumentError
from lambdanets.integrations.timm import create_timm_backbone
from lambdanets.models.factory import Network, create_model
from lambdanets.training.transfer import match_weights
from lambdanets.training.weights import check_state

_TIMM: Final = "timm:"
# Behind the last stage of our networks: no feature map needs them.
_CLASSIFIER: Final = ("head", "dropout", "classifier")


@runtime_checkable
class Backbone(Protocol):
    """A network that gives a map for each of its stages, from the finest to the coarsest.

    Attributes:
        channels: Channels of each stage's map, by its name.
        strides: Pixels of the image from one position of each stage's map to the next.
    """

    @property
    def channels(self) -> dict[str, int]: ...  # noqa: D102

    @property
    def strides(self) -> dict[str, int]: ...  # noqa: D102

    def features(self, images: Float[Tensor, "b c height width"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        """The output of each stage, by name."""


def create_backbone(name: str, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """Build a backbone by its name, with random weights and without a classifier.

    Args:
        name: One of `list_models()`, or `timm:` before the name of a model of timm that has features.
        in_channels: Channels of the images.
        **overrides: As `create_model` takes them, or timm's.

    Raises:
        ArgumentError: An unknown name or override, with the nearest known ones.
        DependencyError: timm, or the torchvision it needs, cannot be imported.
    """
    if name.startswith(_TIMM):
        return create_timm_backbone(name.removeprefix(_TIMM), in_channels, **overrides)
    return drop_classifier(create_model(name, num_classes=1, in_channels=in_channels, **overrides))


def drop_classifier(backbone: nn.Module) -> nn.Module:
    """Take away, in place, what only the logits of our networks need: DDP waits for all gradients."""
    for name in _CLASSIFIER:
        if isinstance(backbone, Network) and hasattr(backbone, name):
            setattr(backbone, name, nn.Identity())
    return backbone


def load_backbone(backbone: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Start a backbone with the weights of a classifier, whose last layers are left out.

    A first convolution for other channels is adapted; see `match_weights`.

    Args:
        backbone: As `create_backbone` gives it, before a detector is built on it.
        tensors: The state of the network that was trained to classify images.
        where: The file they come from, for the message.

    Raises:
        CheckpointError: Weights that are missing, superfluous, of another shape or not finite, by name.
    """
    left_out = tuple(f"{name}." for name in _CLASSIFIER)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(left_out)}
    transfer = match_weights(backbone, kept, where)
    check_state(backbone, {**kept, **transfer.tensors}, where)
    transfer.load(backbone)


def _levels_of(backbone: Backbone) -> dict[str, int]:
    """The strides of the stages that a feature pyramid reads: the last one of each stride."""
    by_stride = {stride: stage for stage, stride in backbone.strides.items()}
    return {stage: stride for stride, stage in sorted(by_stride.items())}


class PyramidBackbone(nn.Module):
    """A backbone with torchvision's feature pyramid, and a level pooled from its last one.

    Paper: §5 (the backbones of Mask R-CNN); Lin et al. 2017, "Feature pyramid networks".

    Args:
        network: The backbone, which follows the protocol `Backbone`.
        channels: Channels of every level.
        norm_layer: Makes the norms behind the pyramid's convolutions; none: they have biases instead.

    Raises:
        ArgumentError: A network that gives no feature maps.
    """

    def __init__(self, network: nn.Module, channels: int, norm_layer: type[nn.Module] | None) -> None:
        super().__init__()
        if not isinstance(network, Backbone):
            raise ArgumentError(
                "build_detector: backbone must have features, channels and strides, got a"
                f" {type(network).__name__}. create_backbone makes such ones."
            )
        self.network = network
        self.levels = _levels_of(self._network)
        self.out_channels = channels
        taken = [self._network.channels[stage] for stage in self.levels]
        self.pyramid = FeaturePyramidNetwork(taken, channels, LastLevelMaxPool(), norm_layer)

    @property
    def _network(self) -> Backbone:
        return cast(Backbone, self.network)

    def forward(self, images: Float[Tensor, "b c height width"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        """One map for each level, from the finest, by the name of its stage; the last is `pool`."""
        features = self._network.features(images)
        return self.pyramid({stage: features[stage] for stage in self.levels})
