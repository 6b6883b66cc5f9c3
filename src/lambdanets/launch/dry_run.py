"""`lambdanets train RECIPE --dry-run`: what a run would do and need, before it runs."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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
from lambdanets.terminal import format_bytes, pairs, table
from lambdanets.training.config import DetectConfig, RunConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loop import Trainer
from lambdanets.training.objective import Classification

_WIDTH: Final = 110

# Columns and rows of the curve of the learning rate.
_COLUMNS: Final = 64
_ROWS: Final = 6

# Memory of accelerators, in GB, and the fraction of it that activations and state may take.
_ACCELERATORS_GB: Final = (16, 24, 40, 80, 141)
_USABLE: Final = 0.9


def describe(config: RunConfig, out: Path, num_processes: int = 1) -> str:
    """Describe what a config would do: settings with their origins, steps, network, memory and disk.

    Nothing is written, and nothing allocated: networks are on the meta device. Data are opened only if they
    are made here or lie in a folder that exists.
    """
    images = known_images(config)
    model = make_meta_model(config, images)
    settings = settings_with_origins(config)
    trainer = Trainer(
        config=config,
        data=images,
        test=images,
        objective=Classification(num_classes=images.num_classes),
        ctx=DistributedContext(size=num_processes),
    )
    network = _network(config, model, images)
    # It changes the dtype of the model.
    needed = footprint(config, model, images, num_processes)
    disk = {
        "checkpoint": f"{format_bytes(needed.checkpoint)}: weights, EMA and optimiser",
        "in all": f"{format_bytes(needed.disk)} = {needed.keep} + 1 checkpoints, of which one is being"
        f" written, and the best weights, {format_bytes(needed.best)}",
    }
    sections: dict[str, str | dict[str, str]] = {
        f"settings of {config.recipe}, into {out}": table(
            None, [(one.name, str(one.value) or "''", one.origin) for one in settings]
        ),
        "differences from the paper": _departures(config.recipe, settings),
        "images": f"{len(images):,} of {images.num_classes} classes ({images.origin})",
        "steps": _steps(trainer),
        "learning rate": _learning_rate(trainer),
        "network": network,
        "memory of each process, estimated": _memory(config, needed),
        "disk": disk,
    }
    texts = {
        title: pairs(content, width=_WIDTH) if isinstance(content, dict) else content
        for title, content in sections.items()
    }
    return "\n\n".join(f"{title}\n{textwrap.indent(text, '  ')}" for title, text in texts.items())


def _departures(recipe: str, settings: Sequence[Setting]) -> str:
    described = describe_recipe(recipe)
    lines = [
        pairs({name.lower(): described.get(name, "none") for name in ("Paper", "Expected")}, width=_WIDTH)
    ]
    for name in lineage(recipe):
        if departs := describe_recipe(name).get("Departs"):
            lines += textwrap.wrap(f"{name}: {departs}", _WIDTH)
    changed = [one for one in settings if one.is_changed]
    lines += [f"{one.name}: {one.recipe_value} -> {one.value} ({one.origin})" for one in changed]
    return "\n".join(lines if changed else [*lines, "no setting of the recipe is changed"])


def _steps(trainer: Trainer) -> dict[str, str]:
    config, num_processes = trainer.config, trainer.ctx.size
    epochs, batch = config.sched.epochs, config.global_batch_size
    shard = math.ceil(batch / num_processes)
    part = math.ceil(shard / config.exec.accumulation)
    processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
    return {
        "steps": f"{trainer.total_steps:,} = {epochs} epochs × {trainer.steps_per_epoch:,} steps of at"
        f" most {batch:,} images",
        "warm-up": f"{trainer.warmup_steps:,} steps = {config.sched.warmup_epochs:g} epochs",
        "shown": f"{epochs * len(trainer.data):,} images in all",
        "a step": f"{processes} × {shard:,} images in {config.exec.accumulation} part(s) of at most"
        f" {part:,}{_seen_by_norms(config, part)}",
    }


def _seen_by_norms(config: RunConfig, part: int) -> str:
    """Say how many images a batch norm takes its statistics from, where there are such norms."""
    synced = config.exec.sync_batch_norm
    if isinstance(config, DetectConfig):
        if config.detector.norm in ("group", "frozen"):
            return ""
        synced = config.detector.norm == "sync"
    return f": batch norm sees {'a step' if synced else part}"


def _learning_rate(trainer: Trainer) -> str:
    config = trainer.config
    optim, sched = config.optim, config.sched
    scaled = (
        f" = {optim.learning_rate:g} × {config.global_batch_size} / {optim.base_batch_size}"
        if optim.base_batch_size
        else ""
    )
    last = trainer.total_steps - 1
    curve = [trainer.learning_rate(round(column * last / (_COLUMNS - 1))) for column in range(_COLUMNS)]
    marks = [0, sched.warmup_epochs, *(quarter * sched.epochs / 4 for quarter in (1, 2, 3))]
    steps = {f"epoch {epoch:g}": min(last, round(epoch * trainer.steps_per_epoch)) for epoch in marks}
    values = [
        f"{name}: {trainer.learning_rate(step):.4g}" for name, step in {**steps, "last step": last}.items()
    ]
    return "\n".join(
        [
            f"peak {config.peak_learning_rate:g}{scaled} after {trainer.warmup_steps:,} steps, then"
            f" {sched.describe()}",
            *_text_curve(curve),
            " · ".join(values),
        ]
    )


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


def _network(config: RunConfig, model: nn.Module, images: MetaImages) -> dict[str, str]:
    # What follows the pyramid depends on what is found.
    counted = model.backbone if isinstance(model, Detector) else model
    flops = sum(layer.flops for layer in count_layers(counted, images.shape))
    overrides = " ".join(f"{name}={value}" for name, value in config.model.overrides.items())
    return {
        "model": f"{config.model.name} {overrides}".strip(),
        "images": "×".join(map(str, images.shape)),
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "FLOPs": f"{flops / 1e9:.3g} G an image forward (2 × multiply-adds, by the paper's rule"
        f"{'; backbone and pyramid alone' if counted is not model else ''})",
    }


def _memory(config: RunConfig, needed: Footprint) -> dict[str, str]:
    precision = str(products_dtype(config.exec)).removeprefix("torch.")
    kept = "what gradient checkpointing keeps" if config.exec.gradient_checkpointing else "kept for backward"
    most = (f"{size} GB: {needed.most_images(int(_USABLE * size * 1e9)):,}" for size in _ACCELERATORS_GB)
    return {
        **{name: format_bytes(size) for name, size in needed.parts.items()},
        "activations": f"{format_bytes(needed.activations)} = {format_bytes(needed.fixed_activations)} +"
        f" {needed.part_size:,} images × {format_bytes(needed.image_activations)}, {kept} in {precision}",
        "in all": format_bytes(needed.total),
        "fits": f"images at once in nine tenths of {' · '.join(most)}",
        "not counted": "workspaces of kernels, buckets of exchanged gradients (as large as the gradients),"
        " what the allocator holds in reserve, the driver, images that are being loaded",
    }
