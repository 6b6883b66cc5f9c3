"""What a run would take, before it runs: images, steps, memory and disk, counted on the meta device."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lambdanets.analysis.memory import saved_bytes
from lambdanets.data.config import FilesConfig
from lambdanets.data.task import Batch
from lambdanets.models import create_model, on_meta
from lambdanets.models.config import STAGES
from lambdanets.models.resnet import ResNet
from lambdanets.recipes.imagenet import NUM_CLASSES, NUM_IMAGES
from lambdanets.runs.tasks import load_task
from lambdanets.training.config import ExecConfig, TrainConfig
from lambdanets.training.distributed import autocast_dtype

# Two batches, whose difference is what each image adds.
_BATCHES: Final = (8, 16)
_FLOAT32: Final = 4

# Numbers that an optimiser remembers of each parameter.
_REMEMBERED: Final = {"sgd": 1, "adamw": 2, "lamb": 2, "rmsprop": 2}


class MetaImages:
    """Training images of which the number and the size are known and nothing else, on the meta device.

    Attributes:
        shape: Channels, height and width.
        num_classes: Classes of the labels.
        origin: How the number is known.
    """

    def __init__(self, num: int, shape: tuple[int, int, int], num_classes: int, origin: str) -> None:
        self._num = num
        self.shape = shape
        self.num_classes = num_classes
        self.origin = origin

    def __len__(self) -> int:
        """How many there are."""
        return self._num

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """One after another."""
        return torch.arange(self._num)

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        """As many images as indices."""
        num = len(indices)
        images = torch.empty(num, *self.shape, device="meta")
        return Batch(images, torch.zeros(num, dtype=torch.int64, device="meta"))


class MetaTest:
    """No images to test with: a plan of steps asks for none."""

    def __len__(self) -> int:
        """None."""
        return 0

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """As many as indices, of no size."""
        num = len(indices)
        images = torch.empty(num, 1, 0, 0, device="meta")
        return Batch(images, torch.zeros(num, dtype=torch.int64, device="meta"))


def known_images(config: TrainConfig) -> MetaImages:
    """What is known of the training images: counted where they are at hand, else as of ImageNet."""
    data = config.data
    if isinstance(data, FilesConfig) and (missing := _why_not_at_hand(data)):
        num = NUM_IMAGES - round(data.holdout * NUM_IMAGES)
        side = data.image_size
        return MetaImages(num, (3, side, side), NUM_CLASSES, f"assumed as of ImageNet: {missing}")
    task = load_task(config)
    channels, height, width = task.train.batch(0, torch.tensor([0])).images.shape[1:]
    return MetaImages(len(task.train), (channels, height, width), len(task.labels), "counted")


def _why_not_at_hand(data: FilesConfig) -> str | None:
    if not data.root:
        return "no data.root is given"
    if data.name != "folder":
        # They would be indexed or fetched, and so something be written.
        return f"{data.name} are not opened for this"
    folder = Path(data.root, data.train)
    return None if folder.is_dir() else f"{folder} is not there"


def make_meta_model(config: TrainConfig, images: MetaImages) -> nn.Module:
    """The network for these images, without numbers."""
    with on_meta():
        return create_model(
            config.model.name,
            num_classes=images.num_classes,
            in_channels=images.shape[0],
            **config.model.overrides,
        )


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of one process, and of the run folder.

    Attributes:
        parts: What stays all the time -> bytes.
        fixed_activations: Kept for backward whatever the batch.
        image_activations: Kept for backward for each image, with the image itself.
        part_size: Images in one part of a process's share of a batch.
        checkpoint: One checkpoint.
        best: The best weights.
        keep: Checkpoints that stay.
    """

    parts: dict[str, int]
    fixed_activations: int
    image_activations: int
    part_size: int
    checkpoint: int
    best: int
    keep: int

    @property
    def activations(self) -> int:
        """Of one part."""
        return self.fixed_activations + self.part_size * self.image_activations

    @property
    def total(self) -> int:
        """Of one process."""
        return sum(self.parts.values()) + self.activations

    @property
    def disk(self) -> int:
        """Of the run folder: old checkpoints go only when the new one is whole."""
        return (self.keep + 1) * self.checkpoint + self.best

    def most_images(self, memory: int) -> int:
        """The largest part that fits in so many bytes; 0 where none does."""
        room = memory - sum(self.parts.values()) - self.fixed_activations
        return max(0, room // self.image_activations)


def footprint(config: TrainConfig, model: nn.Module, images: MetaImages, num_processes: int) -> Footprint:
    """Count the bytes of a run.

    Weights, gradients, the optimiser's memory and the average are float32 whatever the precision of the
    products. Activations are what autograd keeps of the network in that precision. With fsdp each process has
    its part of what stays, and the whole average besides.

    Args:
        config: The run.
        model: Its network, on the meta device; its dtype is changed.
        images: What it trains on.
        num_processes: How many share each batch.
    """
    weights = sum(_FLOAT32 * parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    remembered = _REMEMBERED[config.optim.name] * weights
    cut = config.exec.parallel == "fsdp" and num_processes > 1
    shares = num_processes if cut else 1
    parts = {
        "weights": math.ceil(weights / shares),
        "gradients": math.ceil(weights / shares),
        f"{config.optim.name}'s memory": math.ceil(remembered / shares),
        "average": math.ceil(weights / shares) + buffers,
        "running statistics": buffers,
    }
    if cut:
        # Tests are made with the whole of it.
        parts["average, whole"] = weights + buffers
    few, many = (_kept(config.exec, model, images, batch) for batch in _BATCHES)
    image = (many - few) // (_BATCHES[1] - _BATCHES[0])
    dtype = products_dtype(config.exec)
    # Under autocast the weights have a copy in the products' precision, which backward needs.
    copies = 0 if dtype == torch.float32 else weights * dtype.itemsize // _FLOAT32
    share = math.ceil(config.global_batch_size / num_processes)
    return Footprint(
        parts=parts,
        fixed_activations=max(0, few - _BATCHES[0] * image) + copies,
        image_activations=image + math.prod(images.shape) * _FLOAT32,
        part_size=math.ceil(share / config.exec.accumulation),
        checkpoint=2 * (weights + buffers) + remembered,
        best=weights + buffers,
        keep=config.ckpt.keep,
    )


def products_dtype(execution: ExecConfig) -> torch.dtype:
    """What products would be computed in on this machine."""
    has_gpu = execution.device != "cpu" and torch.cuda.is_available()
    return autocast_dtype(execution.precision, torch.device("cuda" if has_gpu else "cpu")) or torch.float32


def _kept(execution: ExecConfig, model: nn.Module, data: MetaImages, batch: int) -> int:
    """Bytes that autograd keeps for backward of a batch, in training mode."""
    dtype = products_dtype(execution)
    images = torch.empty(batch, *data.shape, device="meta", dtype=dtype)
    model.to(dtype).train()
    if not (execution.gradient_checkpointing and isinstance(model, ResNet)):
        return saved_bytes(model, images)
    with _checkpointed(model) as blocks:
        outside = saved_bytes(model, images)
    # Backward computes one block at a time again.
    again = max(saved_bytes(block, inputs) for block, inputs in blocks)
    return outside + sum(inputs.untyped_storage().nbytes() for _, inputs in blocks) + again


@contextmanager
def _checkpointed(model: ResNet) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Switch gradient checkpointing on, and note each block with the inputs that it keeps."""
    blocks: list[tuple[nn.Module, Tensor]] = []

    def note(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        blocks.append((block, inputs[0].detach()))

    hooks = [
        block.register_forward_pre_hook(note)
        for stage in STAGES
        for block in model.get_submodule(stage).children()
    ]
    model.set_gradient_checkpointing()
    try:
        yield blocks
    finally:
        model.set_gradient_checkpointing(False)
        for hook in hooks:
            hook.remove()
