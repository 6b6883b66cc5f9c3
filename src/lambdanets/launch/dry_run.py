"""`lambdanets train RECIPE --dry-run`: all that can be said of a run before it runs."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torch import nn

from lambdanets.analysis.counting import count_layers
from lambdanets.launch.footprint import (
    Footprint,
    MetaImages,
    MetaTest,
    footprint,
    known_images,
    make_meta_model,
    products_dtype,
)
from lambdanets.recipes import describe_recipe
from lambdanets.recipes.origins import Setting, lineage, settings_with_origins
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loop import Trainer

_WIDTH: Final = 110
_COLUMNS: Final = 64
_ROWS: Final = 6
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"

# Memory of accelerators, in GB, and how much of it activations and state may take.
_ACCELERATORS_GB: Final = (16, 24, 40, 80, 141)
_USABLE: Final = 0.9


def describe(config: TrainConfig, out: Path, num_processes: int = 1) -> str:
    """Say what a config would do: settings with their origins, steps, network, memory and disk.

    Nothing is written, and nothing allocated: networks are on the meta device. Data are looked at where they
    are made here or lie in a folder that exists.

    Args:
        config: The run.
        out: Its folder, which is not made.
        num_processes: How many would share each batch.
    """
    images = known_images(config)
    model = make_meta_model(config, images)
    settings = settings_with_origins(config)
    ctx = DistributedContext(size=num_processes)
    trainer = Trainer(config=config, data=images, test=MetaTest(), num_classes=images.num_classes, ctx=ctx)
    sections = {
        f"settings of {config.recipe}, into {out}": _settings(settings),
        "differences from the paper": _departures(config.recipe, settings),
        "images": [f"{len(images):,} of {images.num_classes} classes ({images.origin})"],
        "steps": _steps(trainer),
        "learning rate": _learning_rate(config, trainer),
        "network": _network(config, model, images),
    }
    taken = footprint(config, model, images, num_processes)
    sections["memory of each process, estimated"] = _memory(config, taken)
    sections["disk"] = _disk(taken)
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _settings(settings: Sequence[Setting]) -> list[str]:
    names = max(len(one.name) for one in settings)
    values = max(len(_value(one.value)) for one in settings)
    return [f"{one.name:<{names}}  {_value(one.value):<{values}}  {one.origin}" for one in settings]


def _value(value: object) -> str:
    return str(value) or "''"


def _departures(recipe: str, settings: Sequence[Setting]) -> list[str]:
    lines = []
    for name in lineage(recipe):
        described = describe_recipe(name)
        if name == recipe:
            lines += _rows({"paper": described["Paper"], "expected": described["Expected"]})
        if "Departs" in described:
            lines += textwrap.wrap(f"{name}: {described['Departs']}", _WIDTH)
    changed = [setting for setting in settings if setting.is_changed]
    lines += [f"{one.name}: {one.recipe_value} -> {one.value} ({one.origin})" for one in changed]
    return lines if changed else [*lines, "no setting of the recipe is changed"]


def _steps(trainer: Trainer) -> list[str]:
    config, num_processes = trainer.config, trainer.ctx.size
    epochs, batch = config.sched.epochs, config.global_batch_size
    share = math.ceil(batch / num_processes)
    part = math.ceil(share / config.exec.accumulation)
    processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
    return _rows(
        {
            "steps": f"{trainer.total_steps:,} = {epochs} epochs × {trainer.steps_per_epoch:,} steps of at"
            f" most {batch:,} images",
            "warm-up": f"{trainer.warmup_steps:,} steps = {config.sched.warmup_epochs:g} epochs",
            "shown": f"{epochs * len(trainer.data):,} images in all",
            "a step": f"{processes} × {share:,} images in {config.exec.accumulation} part(s) of at most"
            f" {part:,}: batch norm sees {'a step' if config.exec.sync_batch_norm else part}",
        }
    )


def _learning_rate(config: TrainConfig, trainer: Trainer) -> list[str]:
    optim, sched = config.optim, config.sched
    scaled = (
        f" = {optim.learning_rate:g} × {config.global_batch_size} / {optim.base_batch_size}"
        if optim.base_batch_size
        else ""
    )
    shape = (
        "then half a cosine to 0"
        if sched.shape == "cosine"
        else f"then × {sched.step_factor:g} every {sched.step_epochs:g} epochs"
    )
    last = trainer.total_steps - 1
    steps = [round(column * last / (_COLUMNS - 1)) for column in range(_COLUMNS)]
    marks = [0, sched.warmup_epochs, *(part * sched.epochs / 4 for part in (1, 2, 3))]
    at = {f"{epoch:g}": min(last, round(epoch * trainer.steps_per_epoch)) for epoch in marks}
    values = [f"epoch {epoch}: {trainer.learning_rate(step):.4g}" for epoch, step in at.items()]
    return [
        f"peak {config.peak_learning_rate:g}{scaled} after {trainer.warmup_steps:,} steps, {shape}",
        *text_curve([trainer.learning_rate(step) for step in steps]),
        " · ".join([*values, f"last step: {trainer.learning_rate(last):.4g}"]),
    ]


def text_curve(values: Sequence[float], rows: int = _ROWS) -> list[str]:
    """Draw values from zero to their largest as columns of characters, the largest named beside the top."""
    top = max(values) or 1.0
    eighths = [round(8 * rows * value / top) for value in values]
    label = f"{top:.3g}"
    lines = []
    for row in reversed(range(rows)):
        columns = "".join(_EIGHTHS[min(8, max(0, height - 8 * row))] for height in eighths)
        lines.append(
            f"{label if row == rows - 1 else '0' if row == 0 else '':>{len(label)}} │{columns}".rstrip()
        )
    return lines


def _network(config: TrainConfig, model: nn.Module, images: MetaImages) -> list[str]:
    flops = sum(layer.flops for layer in count_layers(model, images.shape))
    overrides = " ".join(f"{name}={value}" for name, value in config.model.overrides.items())
    return _rows(
        {
            "model": f"{config.model.name} {overrides}".strip(),
            "images": "×".join(map(str, images.shape)),
            "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
            "FLOPs": f"{flops / 1e9:.3g} G an image forward (2 × multiply-adds, by the paper's rule)",
        }
    )


def _memory(config: TrainConfig, taken: Footprint) -> list[str]:
    precision = str(products_dtype(config.exec)).removeprefix("torch.")
    kept = "what gradient checkpointing keeps" if config.exec.gradient_checkpointing else "kept for backward"
    rows = {name: _bytes(size) for name, size in taken.parts.items()}
    rows["activations"] = (
        f"{_bytes(taken.activations)} = {_bytes(taken.fixed_activations)} + {taken.part_size:,} images ×"
        f" {_bytes(taken.image_activations)}, {kept} in {precision}"
    )
    rows["together"] = _bytes(taken.total)
    most = (f"{size} GB: {taken.most_images(int(_USABLE * size * 1e9)):,}" for size in _ACCELERATORS_GB)
    rows["fits"] = f"images at once in nine tenths of {' · '.join(most)}"
    rows["not counted"] = (
        "workspaces of kernels, buckets of exchanged gradients (as large as the gradients), what the"
        " allocator holds in reserve, the driver, images under way"
    )
    return _rows(rows)


def _disk(taken: Footprint) -> list[str]:
    return _rows(
        {
            "checkpoint": f"{_bytes(taken.checkpoint)}: weights, average and optimiser",
            "together": f"{_bytes(taken.disk)} = {taken.keep} + 1 checkpoints, of which one is being written,"
            f" and the best weights, {_bytes(taken.best)}",
        }
    )


def _rows(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    lines: list[str] = []
    for name, text in rows.items():
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{name:<{width}}  ",
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,
        )
    return lines


def _bytes(size: int) -> str:
    """Decimal units, three digits."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size < 1000 * unit else f"{size / unit:,.0f} {name}"
    return f"{size} B"
