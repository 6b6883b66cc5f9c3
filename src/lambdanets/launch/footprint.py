"""The memory and disk that a run would need, counted on the meta device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lambdanets.analysis.memory import saved_bytes
from lambdanets.data.config import FilesConfig
from lambdanets.data.task import Batch
from lambdanets.detection.coco import read_part
from lambdanets.detection.mask_rcnn import Detector
from lambdanets.models import create_model, on_meta
from lambdanets.models.config import STAGES
from lambdanets.models.resnet import ResNet
from lambdanets.recipes.detection import NUM_COCO_CATEGORIES, NUM_COCO_IMAGES
from lambdanets.recipes.imagenet import NUM_CLASSES, NUM_IMAGES
from lambdanets.runs.detect import make_detector
from lambdanets.runs.finetune import freeze_stages
from lambdanets.runs.tasks import load_task
from lambdanets.training.config import DetectConfig, ExecConfig, RunConfig, TrainConfig
from lambdanets.training.distributed import autocast_dtype

# Sizes of two batches, whose difference is what each image adds.
_BATCHES: Final = (8, 16)
_FLOAT32: Final = 4

# Numbers that an optimiser keeps for each parameter.
_OPTIMIZER_STATE: Final = {"sgd": 1, "adamw": 2, "lamb": 2, "rmsprop": 2}


@dataclass(frozen=True, kw_only=True)
class MetaImages:
    """Training images of which only the number, shape (channels, height, width) and classes are known."""

    num: int
    shape: tuple[int, int, int]
    num_classes: int
    # How the number is known.
    origin: str
    # The names of the classes, and how images become inputs, where that is known.
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return self.num

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """Fail: these images are only counted."""
        raise NotImplementedError

    def batch(self, *args: Any) -> Batch:
        """Fail: these images are only counted."""
        raise NotImplementedError


def known_images(config: RunConfig) -> MetaImages:
    """Count the training images if they are at hand; otherwise assume those of ImageNet or COCO."""
    if isinstance(config, DetectConfig):
        return _known_objects(config)
    assert isinstance(config, TrainConfig), "a run trains a classifier or a detector"
    data = config.data
    if isinstance(data, FilesConfig) and (missing := _why_not_at_hand(data)):
        return MetaImages(
            num=NUM_IMAGES - round(data.holdout * NUM_IMAGES),
            shape=(3, data.image_size, data.image_size),
            num_classes=NUM_CLASSES,
            origin=f"assumed as of ImageNet: {missing}",
        )
    task = load_task(config)
    channels, height, width = task.train.batch(0, torch.tensor([0])).images.shape[1:]
    shape = (channels, height, width)
    return MetaImages(
        num=len(task.train),
        shape=shape,
        num_classes=len(task.labels),
        origin="counted",
        labels=task.labels,
        preprocessing=task.preprocessing.to_dict() if task.preprocessing else None,
    )


def _known_objects(config: DetectConfig) -> MetaImages:
    """Count the images of a detector; the largest that come have `image_size` as both sides."""
    data = config.data
    known, origin = (NUM_COCO_IMAGES, NUM_COCO_CATEGORIES), "assumed as of COCO: no data.root is given"
    if data.root:
        file = read_part(Path(data.root), data.train)
        known, origin = (len(file.images), len(file.categories)), "counted"
    num, num_classes = known
    shape = (3, data.image_size, data.image_size)
    return MetaImages(num=num, shape=shape, num_classes=num_classes, origin=origin)


def _why_not_at_hand(data: FilesConfig) -> str | None:
    if not data.root:
        return "no data.root is given"
    if data.name != "folder":
        # Opening them would write an index, or download them.
        return f"{data.name} are not opened for this"
    folder = Path(data.root, data.train)
    return None if folder.is_dir() else f"{folder} is not there"


def make_meta_model(config: RunConfig, images: MetaImages) -> nn.Module:
    """Make the network for these images on the meta device."""
    with on_meta():
        if isinstance(config, DetectConfig):
            return make_detector(config, images.num_classes)
        model = create_model(
            config.model.name,
            num_classes=images.num_classes,
            in_channels=images.shape[0],
            **config.model.overrides,
        )
    freeze_stages(model, config)
    return model


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of memory of one process, and on disk.

    Attributes:
        parts: State that stays all the time -> bytes.
        fixed_activations: Activations that do not depend on the batch.
        image_activations: Activations of each image, with the image itself.
        part_size: Images in one part of a process's shard of a batch.
        checkpoint: Bytes of one checkpoint.
        best: Bytes of the best weights.
        keep: Number of checkpoints that are kept.
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
        """Bytes that one part keeps for backward."""
        return self.fixed_activations + self.part_size * self.image_activations

    @property
    def total(self) -> int:
        """Bytes of one process."""
        return sum(self.parts.values()) + self.activations

    @property
    def disk(self) -> int:
        """Bytes of the run folder: an old checkpoint is removed only when the new one is complete."""
        return (self.keep + 1) * self.checkpoint + self.best

    def most_images(self, memory: int) -> int:
        """Return the largest part that fits in so many bytes; 0 if none does."""
        room = memory - sum(self.parts.values()) - self.fixed_activations
        return max(0, room // self.image_activations)


def footprint(config: RunConfig, model: nn.Module, images: MetaImages, num_processes: int) -> Footprint:
    """Count the bytes of a run.

    Weights, gradients, optimiser state and EMA are float32 whatever the precision of the products.
    Activations are what autograd keeps of the network in that precision. With fsdp each process holds its
    shard of the state, and the full EMA besides. The network is on the meta device; its dtype is changed.
    """
    weights = sum(_FLOAT32 * parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    # Frozen weights have neither gradients nor optimizer state.
    trained = sum(_FLOAT32 * parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    optimizer = _OPTIMIZER_STATE[config.optim.name] * trained
    shards = num_processes if config.exec.parallel == "fsdp" else 1
    shard_of_weights = math.ceil(weights / shards)
    parts = {
        "weights": shard_of_weights,
        "gradients": math.ceil(trained / shards),
        f"{config.optim.name} state": math.ceil(optimizer / shards),
        "EMA": shard_of_weights + buffers,
        "running statistics": buffers,
    }
    if shards > 1:
        # It is evaluated unsharded.
        parts["EMA, full"] = weights + buffers
    few, many = (_activations(config.exec, model, images, batch) for batch in _BATCHES)
    image = (many - few) // (_BATCHES[1] - _BATCHES[0])
    dtype = products_dtype(config.exec)
    # Under autocast the weights have a copy in the products' precision, which backward needs.
    copies = 0 if dtype == torch.float32 else weights * dtype.itemsize // _FLOAT32
    shard = math.ceil(config.global_batch_size / num_processes)
    return Footprint(
        parts=parts,
        fixed_activations=max(0, few - _BATCHES[0] * image) + copies,
        image_activations=image + math.prod(images.shape) * _FLOAT32,
        part_size=math.ceil(shard / config.exec.accumulation),
        checkpoint=2 * (weights + buffers) + optimizer,
        best=weights + buffers,
        keep=config.ckpt.keep,
    )


def products_dtype(execution: ExecConfig) -> torch.dtype:
    """Return the precision in which this machine would compute products."""
    has_gpu = execution.device != "cpu" and torch.cuda.is_available()
    return autocast_dtype(execution.precision, torch.device("cuda" if has_gpu else "cpu")) or torch.float32


def _activations(execution: ExecConfig, model: nn.Module, data: MetaImages, batch: int) -> int:
    """Count the bytes that autograd keeps for backward of a batch, in training mode."""
    dtype = products_dtype(execution)
    images = torch.empty(batch, *data.shape, device="meta", dtype=dtype)
    model.to(dtype).train()
    inside = 0
    network = model
    if isinstance(model, Detector):
        inside = _head_bytes(model, batch, dtype)
        network, model = model.backbone.network, _Proposals(model)
    if not (execution.gradient_checkpointing and isinstance(network, ResNet)):
        return inside + saved_bytes(model, images)
    # Each block keeps its input, which others may keep too.
    blocks = [block for stage in STAGES for block in network.get_submodule(stage).children()]
    inputs: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach())) for block in blocks
    ]
    network.set_gradient_checkpointing()
    outside = inside + saved_bytes(model, images, inputs)
    network.set_gradient_checkpointing(False)
    for hook in hooks:
        hook.remove()
    # Backward recomputes one block at a time, from an input that is counted already.
    return outside + max(
        saved_bytes(block, given, [given]) - given.untyped_storage().nbytes()
        for block, given in zip(blocks, inputs, strict=True)
    )


class _Proposals(nn.Module):
    """The part of a detector of fixed shapes: backbone, pyramid and the layers that propose regions."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.body = model.backbone
        self.head = model.rpn.head

    def forward(self, images: Tensor) -> Any:
        return self.head(list(self.body(images).values()))


def _head_bytes(model: Detector, batch: int, dtype: torch.dtype) -> int:
    """Count what the heads keep when every image gives them as many regions as they learn from."""
    heads = model.roi_heads
    sampler = heads.fg_bg_sampler
    regions = batch * sampler.batch_size_per_image
    channels = model.backbone.out_channels
    parts = [(nn.Sequential(heads.box_head, heads.box_predictor), regions, heads.box_roi_pool)]
    if heads.mask_head is not None:
        positive = int(regions * sampler.positive_fraction)
        parts.append((nn.Sequential(heads.mask_head, heads.mask_predictor), positive, heads.mask_roi_pool))
    total = 0
    for part, count, pool in parts:
        maps = torch.empty(count, channels, *pool.output_size, device="meta", dtype=dtype)
        total += saved_bytes(part, maps) + maps.nbytes
    return total
