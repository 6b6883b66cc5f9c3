"""`lambdanets train RECIPE --dry-run`: what a run would do and need, before it runs."""

import math
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lambdanets.analysis.counting import count_layers
from lambdanets.detection.mask_rcnn import Detector
from lambdanets.launch.footprint import (
    Footprint,
    MetaImages,
    footprint,
    known_images,
    make_meta_model,
    products_dtype,
)
from lambdanets.recipes import describe_recipe
from lambdanets.recipes.origins import Setting, lineage, settings_with_origins
from lambdanets.runs.ema import describe_ema
from lambdanets.runs.finetune import (
    frozen_warnings,
    init_record,
    init_rows,
    not_taken_lines,
    plan_init,
    read_init,
    trained_rows,
)
from lambdanets.terminal import count, format_bytes, pairs, table, terminal_width
from lambdanets.training.config import DetectConfig, RunConfig, TrainConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loop import Trainer
from lambdanets.training.objective import Classification
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.run_names import list_checkpoints
from lambdanets.training.state import ema_decay

_WIDTH: Final = 110
_INDENT: Final = 2

# Columns, at most, and rows of the curve of the learning rate, and the room of what stands before it.
_COLUMNS: Final = 64
_ROWS: Final = 6
_LABEL: Final = 12

# Memory of accelerators, in GB, and the fraction of it that activations and state may take.
_ACCELERATORS_GB: Final = (16, 24, 40, 80, 141)
_USABLE: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do and need.

    Attributes:
        config: All settings.
        out: The run folder.
        settings: All settings with their origins.
        images: The training images, as far as they are known.
        trainer: Knows the steps and the learning rate.
        parameters: Trainable numbers.
        trained: What is frozen, and how the learning rate depends on the layer, as rows.
        init: The record of the weights that the run would start with, as its init.json would hold it.
        flops: Of an image forward; of a detector's backbone and pyramid alone.
        footprint: Memory of each process, and disk.
        gpus_here: GPUs of this machine.
    """

    config: RunConfig
    out: Path
    settings: tuple[Setting, ...]
    images: MetaImages
    trainer: Trainer
    parameters: int
    trained: dict[str, str]
    init: dict[str, Any] | None
    flops: int
    footprint: Footprint
    gpus_here: int

    @property
    def num_processes(self) -> int:
        """Number of processes."""
        return self.trainer.ctx.size

    @property
    def images_of_process(self) -> int:
        """Images of a step in one process, at most."""
        return math.ceil(self.config.global_batch_size / self.num_processes)

    @property
    def images_of_part(self) -> int:
        """Images that a process computes at once, at most."""
        return math.ceil(self.images_of_process / self.config.exec.accumulation)

    def text(self) -> str:
        """The plan for people, in the width of the terminal."""
        width = terminal_width()
        sections: dict[str, str | dict[str, str]] = {
            f"settings of {self.config.recipe}, into {self.out}": table(
                None,
                [(one.name, str(one.value) or "''", one.origin) for one in self.settings],
                width=width and width - _INDENT,
            ),
            "differences from the paper": "\n".join(_departures(self)),
            "images": _wrap(f"{_images(self.images)} ({self.images.origin})"),
            "steps": _steps(self),
            "learning rate": _learning_rate(self),
            "network": _network(self),
            **({"weights at the start": start} if (start := _start(self)) else {}),
            "memory of each process, estimated": _memory(self),
            "disk": _disk(self.footprint),
        }
        texts = {
            title: pairs(content, width=_width()) if isinstance(content, dict) else content
            for title, content in sections.items()
        }
        return "\n\n".join(
            f"{title}\n{textwrap.indent(text, ' ' * _INDENT)}" for title, text in texts.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        config, needed = self.config, self.footprint
        described = describe_recipe(config.recipe)
        return {
            "recipe": config.recipe,
            "run": self.out,
            "num_processes": self.num_processes,
            "gpus_here": self.gpus_here,
            "settings": [
                {"name": one.name, "value": one.value, "origin": one.origin, "recipe_value": one.recipe_value}
                for one in self.settings
            ],
            "paper": described.get("Paper"),
            "expected": described.get("Expected"),
            "departures": [{"recipe": name, "text": text} for name, text in _departures_of(config.recipe)],
            "images": {
                "num": len(self.images),
                "num_classes": self.images.num_classes,
                "shape": self.images.shape,
                "origin": self.images.origin,
            },
            **self._schedule(),
            "network": {
                "model": config.model.name,
                "overrides": config.model.overrides,
                "image_shape": self.images.shape,
                "parameters": self.parameters,
                "flops": self.flops,
            },
            "init": self.init,
            "memory": {
                "precision": _precision(config),
                "state_bytes": needed.parts,
                "activation_bytes": needed.activations,
                "activation_bytes_per_image": needed.image_activations,
                "total_bytes": needed.total,
                "fits": [
                    {"memory_gb": size, "images": _most_images(needed, size)} for size in _ACCELERATORS_GB
                ],
            },
            "disk": {
                "checkpoint_bytes": needed.checkpoint,
                "best_bytes": needed.best,
                "checkpoints_kept": needed.keep,
                "total_bytes": needed.disk,
            },
        }

    def _schedule(self) -> dict[str, Any]:
        config, trainer = self.config, self.trainer
        return {
            "steps": {
                "total": trainer.total_steps,
                "epochs": config.sched.epochs,
                "per_epoch": trainer.steps_per_epoch,
                "warmup": trainer.warmup_steps,
                "ema_decay": ema_decay(config, trainer.total_steps),
                "global_batch_size": config.global_batch_size,
                "images_of_process": self.images_of_process,
                "images_of_part": self.images_of_part,
            },
            "learning_rate": {
                "peak": config.peak_learning_rate,
                "schedule": config.sched.describe(),
                "points": [
                    {"at": name, "step": step, "value": trainer.learning_rate(step)}
                    for name, step in _marks(trainer).items()
                ],
            },
        }


def plan(config: RunConfig, out: Path, num_processes: int = 1, given: Collection[str] | None = None) -> Plan:
    """Find out what a config would do: settings with their origins, steps, network, memory and disk.

    Nothing is written, and nothing allocated: networks are on the meta device. Data are opened only if they
    are made here or lie in a folder that exists.

    Args:
        config: The settings.
        out: The run folder.
        num_processes: Processes of the run.
        given: As in `settings_with_origins`.
    """
    images = known_images(config)
    model = make_meta_model(config, images)
    # What follows the pyramid depends on what is found.
    counted = model.backbone if isinstance(model, Detector) else model
    flops = sum(layer.flops for layer in count_layers(counted, images.shape))
    return Plan(
        config=config,
        out=out,
        settings=settings_with_origins(config, given),
        images=images,
        trainer=Trainer(
            config=config,
            data=images,
            test=images,
            objective=Classification(num_classes=images.num_classes),
            ctx=DistributedContext(size=num_processes),
        ),
        parameters=_num_parameters(model),
        trained=trained_rows(model, config),
        init=_planned_init(config, model, images, out),
        flops=flops,
        # Last: it changes the dtype of the model.
        footprint=footprint(config, model, images, num_processes),
        gpus_here=torch.cuda.device_count(),
    )


def _planned_init(
    config: RunConfig, model: nn.Module, images: MetaImages, out: Path
) -> dict[str, Any] | None:
    """Find what a run would take of its `init`; a run that goes on takes nothing more."""
    if not isinstance(config, TrainConfig) or config.init is None:
        return None
    if list_checkpoints(RunFolder(out).checkpoints):
        return RunFolder(out).read_init()
    init = read_init(config.init)
    return init_record(init, plan_init(model, init, config.model, images.labels), config)


def _start(plan: Plan) -> str:
    warnings = [_wrap(f"warning: {warning}") for warning in frozen_warnings(plan.config, plan.init)]
    if plan.init is None:
        return "\n".join(warnings)
    rows = pairs(init_rows(plan.init, plan.images.preprocessing), width=_width())
    return "\n".join([rows, *not_taken_lines(plan.init), *warnings])


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _width() -> int:
    return min(terminal_width() or _WIDTH, _WIDTH) - _INDENT


def _wrap(text: str) -> str:
    return textwrap.fill(text, _width(), break_long_words=False, break_on_hyphens=False)


def _images(images: MetaImages) -> str:
    return f"{count(len(images), 'image')} of {count(images.num_classes, 'class')}"


def _departures_of(recipe: str) -> Iterator[tuple[str, str]]:
    """The recipes that a recipe comes from, each with how it departs from the paper."""
    for name in lineage(recipe):
        if departs := describe_recipe(name).get("Departs"):
            yield name, departs


def _departures(plan: Plan) -> Iterator[str]:
    described = describe_recipe(plan.config.recipe)
    yield pairs({name.lower(): described.get(name, "none") for name in ("Paper", "Expected")}, width=_width())
    yield from (_wrap(f"{name}: {text}") for name, text in _departures_of(plan.config.recipe))
    changed = [one for one in plan.settings if one.is_changed]
    yield from (f"{one.name}: {one.recipe_value} -> {one.value} ({one.origin})" for one in changed)
    if not changed:
        yield "no setting of the recipe is changed"


def _steps(plan: Plan) -> dict[str, str]:
    config, trainer = plan.config, plan.trainer
    epochs, parts = config.sched.epochs, config.exec.accumulation
    missing = ""
    if config.exec.device == "cuda" and plan.num_processes > plan.gpus_here:
        missing = (
            f"; planned for {count(plan.num_processes, 'GPU')}, this machine has {plan.gpus_here or 'none'}"
        )
    steps = count(trainer.steps_per_epoch, "step")
    return {
        "steps": f"{trainer.total_steps:,} = {count(epochs, 'epoch')} × {steps} of at most"
        f" {count(config.global_batch_size, 'image')}",
        "warm-up": f"{count(trainer.warmup_steps, 'step')} = {count(config.sched.warmup_epochs, 'epoch')}",
        "EMA": describe_ema(config, trainer.steps_per_epoch),
        "shown": f"{count(epochs * len(trainer.data), 'image')} in all",
        "a step": f"{count(plan.num_processes, 'process')} × {count(plan.images_of_process, 'image')} in"
        f" {count(parts, 'part')} of at most {plan.images_of_part:,}"
        f"{_seen_by_norms(config, plan.images_of_part)}{missing}",
    }


def _seen_by_norms(config: RunConfig, part: int) -> str:
    """Say how many images a batch norm takes its statistics from, where there are such norms."""
    synced = config.exec.sync_batch_norm
    if isinstance(config, DetectConfig):
        if config.detector.norm in ("group", "frozen"):
            return ""
        synced = config.detector.norm == "sync"
    return f": batch norm sees {'a step' if synced else part}"


def _marks(trainer: Trainer) -> dict[str, int]:
    """Points of the schedule that are worth a number: name -> step."""
    sched, last = trainer.config.sched, trainer.total_steps - 1
    epochs = [0, sched.warmup_epochs, *(quarter * sched.epochs / 4 for quarter in (1, 2, 3))]
    steps = {f"epoch {epoch:g}": min(last, round(epoch * trainer.steps_per_epoch)) for epoch in epochs}
    return {**steps, "last step": last}


def _learning_rate(plan: Plan) -> str:
    config, trainer = plan.config, plan.trainer
    optim, sched = config.optim, config.sched
    scaled = (
        f" = {optim.learning_rate:g} × {config.global_batch_size} / {optim.base_batch_size}"
        if optim.base_batch_size
        else ""
    )
    last = trainer.total_steps - 1
    columns = min(_COLUMNS, _width() - _LABEL)
    curve = [trainer.learning_rate(round(column * last / (columns - 1))) for column in range(columns)]
    values = [f"{name}: {trainer.learning_rate(step):.4g}" for name, step in _marks(trainer).items()]
    peak = (
        f"peak {config.peak_learning_rate:g}{scaled} after {count(trainer.warmup_steps, 'step')}, then"
        f" {sched.describe()}"
    )
    numbers = " · ".join(values)
    return "\n".join([_wrap(peak), *_text_curve(curve), _wrap(numbers) if terminal_width() else numbers])


def _text_curve(values: Sequence[float]) -> list[str]:
    """Draw values from zero to their largest as columns of characters, the largest named beside the top."""
    top = max(values) or 1.0
    eighths = [round(8 * _ROWS * value / top) for value in values]
    labels = [f"{top:.3g}", *[""] * (_ROWS - 2), "0"]
    lines = []
    for label, row in zip(labels, reversed(range(_ROWS)), strict=True):
        columns = "".join(" ▁▂▃▄▅▆▇█"[min(8, max(0, height - 8 * row))] for height in eighths)
        lines.append(f"{label:>{len(labels[0])}} │{columns}".rstrip())
    return lines


def _network(plan: Plan) -> dict[str, str]:
    config = plan.config
    overrides = " ".join(f"{name}={value}" for name, value in config.model.overrides.items())
    part = "; backbone and pyramid alone" if isinstance(config, DetectConfig) else ""
    return {
        "model": f"{config.model.name} {overrides}".strip(),
        "images": "×".join(map(str, plan.images.shape)),
        "parameters": f"{plan.parameters:,}",
        **plan.trained,
        "FLOPs": f"{plan.flops / 1e9:.3g} G an image forward (2 × multiply-adds, by the paper's rule{part})",
    }


def _precision(config: RunConfig) -> str:
    return str(products_dtype(config.exec)).removeprefix("torch.")


def _most_images(needed: Footprint, size_gb: int) -> int:
    return needed.most_images(int(_USABLE * size_gb * 1e9))


def _memory(plan: Plan) -> dict[str, str]:
    config, needed = plan.config, plan.footprint
    kept = "what gradient checkpointing keeps" if config.exec.gradient_checkpointing else "kept for backward"
    most = (f"{size} GB: {_most_images(needed, size):,}" for size in _ACCELERATORS_GB)
    return {
        **{name: format_bytes(size) for name, size in needed.parts.items()},
        "activations": f"{format_bytes(needed.activations)} = {format_bytes(needed.fixed_activations)} +"
        f" {count(needed.part_size, 'image')} × {format_bytes(needed.image_activations)}, {kept} in"
        f" {_precision(config)}",
        "in all": format_bytes(needed.total),
        "fits": f"images at once in nine tenths of {' · '.join(most)}",
        "not counted": "workspaces of kernels, buckets of exchanged gradients (as large as the gradients),"
        " what the allocator holds in reserve, the driver, images that are being loaded",
    }


def _disk(needed: Footprint) -> dict[str, str]:
    return {
        "checkpoint": f"{format_bytes(needed.checkpoint)}: weights, EMA and optimiser",
        "in all": f"{format_bytes(needed.disk)} = {needed.keep} + 1 checkpoints, of which one is being"
        f" written, and the best weights, {format_bytes(needed.best)}",
    }
