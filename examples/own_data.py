"""A data set and a recipe of one's own: registered, trained on and used.

python examples/own_data.py
lambdanets train stripes --import examples/own_data.py
"""

import tempfile
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import lambdanets
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.task import Batch, Task


@dataclass(frozen=True)
class Training:
    """Images to train with: any class with these three functions.

    Everything follows from the epoch and the index, so that a run that was stopped continues bit for bit,
    whatever the number of processes.
    """

    images: Tensor
    labels: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, epoch: int) -> Tensor:
        """Each index once, in another order in each epoch."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(self.seed + 1000 * epoch))

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        """The images of some indices, as this epoch shows them: every other epoch upside down."""
        images = self.images[indices]
        return Batch(images.flip(2) if epoch % 2 else images, self.labels[indices])


@dataclass(frozen=True)
class Test:
    """Images to test with."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Batch:
        """The images of some indices."""
        return Batch(self.images[indices], self.labels[indices])


@lambdanets.register_data_set
@dataclass(frozen=True, kw_only=True)
class StripesConfig(lambdanets.DataConfig):
    """Stripes that lie or stand, in noise.

    Attributes:
        noise: Standard deviation of the noise.
    """

    name: Literal["stripes"] = "stripes"
    noise: float = 0.5

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> Task:
        """Make the images: here they are drawn, elsewhere they are read."""
        images, labels = self._draw(160)
        return Task(
            train=Training(images[:128], labels[:128], seed),
            test=Test(images[128:], labels[128:]),
            labels=("lying", "standing"),
            in_channels=1,
        )

    def _draw(self, num: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(num) % 2
        wave = torch.sin(torch.arange(8) * 1.5).expand(num, 1, 8, 8)
        images = torch.where(labels[:, None, None, None] == 1, wave, wave.mT)
        return images + self.noise * torch.randn(images.shape, generator=generator), labels


@lambdanets.register_recipe
def stripes() -> lambdanets.TrainConfig:
    """The network of the digits on stripes.

    Derives: `digits`.
    """
    return lambdanets.get_recipe("digits").replace(
        data={"name": "stripes"}, sched={"epochs": 3, "warmup_epochs": 1}, global_batch_size=32
    )


def main() -> None:
    """Train with less noise, and look at one image."""
    with tempfile.TemporaryDirectory() as out:
        run = lambdanets.train("stripes", out=out, data={"noise": 0.3}, progress=False)
    image = (
        StripesConfig(noise=0.3).load(seed=0, augment=AugmentConfig()).test.batch(torch.tensor([0])).images[0]
    )
    label, probability = run.classify(image)[0]
    print(f"{label} at {probability:.0%}; {run.origin.describe()}")


if __name__ == "__main__":
    main()
