"""Networks as stages in their order: some of them frozen, and a learning rate for the depth of each layer."""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from lambdanets.errors import check_choice
from lambdanets.models.config import NetworkConfig

Network = TypeVar("Network", bound="StagedNetwork")


class StagedNetwork(nn.Module):
    """What networks of named stages have in common.

    Attributes:
        config: The network's config, whose `stages` are submodules.
        frozen: The stages that training leaves as they are.
    """

    config: NetworkConfig
    frozen: tuple[str, ...] = ()

    def freeze(self, stages: Sequence[str]) -> None:
        """Keep stages as they are: their weights get no gradients, and their norms no new statistics.

        They stay in evaluation mode whatever `train` says, so that dropout and stochastic depth are off there
        too.

        Args:
            stages: Some of `config.stages`, in place of those that were frozen before.

        Raises:
            ArgumentError: There is no such stage.
        """
        for stage in stages:
            check_choice("freeze", "stage", stage, self.config.stages)
        self.frozen = tuple(stage for stage in self.config.stages if stage in stages)
        for stage in self.config.stages:
            self.get_submodule(stage).requires_grad_(stage not in self.frozen)
        self.train(self.training)

    def train(self: Network, mode: bool = True) -> Network:
        """Set training or evaluation mode, but for the frozen stages."""
        super().train(mode)
        for stage in self.frozen:
            self.get_submodule(stage).eval()
        return self

    def layers(self) -> dict[str, nn.Module]:
        """The stem, each block and what stands before the classifier, by name, from the images on.

        Parts without weights are left out, such as those that a detector takes away.
        """
        layers: dict[str, nn.Module] = {}
        for stage in self.config.stages:
            module = self.get_submodule(stage)
            blocks = {f"{stage}.{index}": block for index, block in enumerate(module.children())}
            layers |= blocks if stage in self.config.block_stages else {stage: module}
        return {name: layer for name, layer in layers.items() if any(True for _ in layer.parameters())}
