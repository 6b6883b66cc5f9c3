"""What is left when a run ends: one page, the images, and the lines for the terminal."""

import platform
import textwrap
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from lambdanets.data.task import Task
from lambdanets.files import replace_file
from lambdanets.nn import LambdaLayer2d
from lambdanets.runs.class_report import class_counts
from lambdanets.runs.plots import confusion, learning_curves, position_tables, save_figure
from lambdanets.runs.report_page import class_sections, event_rows, listed, result_rows, row_table
from lambdanets.training.config import TrainConfig
from lambdanets.training.metrics import Evaluation
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState

# Columns of a terminal that the closing lines keep to.
_WIDTH: Final = 80


def write_report(
    folder: RunFolder,
    config: TrainConfig,
    state: TrainState,
    model: nn.Module,
    task: Task,
    command: str,
    evaluation: Evaluation,
) -> str:
    """Draw the images, write report.md last, and give the closing lines for the terminal.

    Args:
        folder: Of the run.
        config: Of the run.
        state: At the end of the run, with what went wrong on the way.
        model: The averaged network.
        task: What was trained on.
        command: The command line that repeats the run.
        evaluation: Of the averaged network.
    """
    images = draw_images(folder, config, model, evaluation, task.labels)
    results = result_rows(config, state, evaluation)
    rows = {**results, **_circumstances(folder), **event_rows(state.events, len(task.train))}
    parts = [
        f"# {config.recipe}: {config.model.name}",
        row_table(rows),
        f"Repeat it in an empty folder:\n\n```\n{command}\n```",
        *listed("Warnings", folder.warnings()),
        *listed("Unreadable files", state.events.unreadable),
        "\n\n".join(f"![{name.removesuffix('.png')}]({name})" for name in images),
        *class_sections(class_counts(evaluation.confusion, task.labels)),
        f"Settings:\n\n```json\n{config.to_json()}```",
    ]
    replace_file(folder.report, ("\n\n".join(parts) + "\n").encode(errors="surrogateescape"))
    places = ["report.md", *images, folder.best.name, "metrics.jsonl", "train.log", "checkpoints/"]
    return _closing_lines({**results, "files": f"{folder.path}/: {' · '.join(places)}"})


def _circumstances(folder: RunFolder) -> dict[str, str]:
    warnings = folder.warnings()
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads,"
        f" Python {platform.python_version()}, torch {torch.__version__}",
        "restarts": str(folder.sessions() - 1),
        "warnings": "none" if not warnings else f"{len(warnings)}, below",
    }


def _closing_lines(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    lines = [
        textwrap.fill(
            value,
            _WIDTH,
            initial_indent=f"{name:<{width}}",
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, value in rows.items()
    ]
    return "\n".join(["", *lines])


def draw_images(
    folder: RunFolder, config: TrainConfig, model: nn.Module, evaluation: Evaluation, labels: tuple[str, ...]
) -> list[str]:
    """Draw curves, confusion matrix and the position tables of lambda layers; give the names."""
    title = f"{config.recipe}: {config.model.name}, {evaluation.accuracy:.2%} of {evaluation.total}"
    figures = {
        "curves.png": learning_curves(folder.read_metrics(), title),
        "confusion.png": confusion(evaluation.confusion.numpy(), labels, title),
    }
    tables = learned_tables(model)
    if tables:
        figures["lambdas.png"] = position_tables(
            tables, f"{title}: learned position lambdas, R[m - n] by channel"
        )
    for name, figure in figures.items():
        save_figure(figure, folder.path / name)
    return list(figures)


def learned_tables(model: nn.Module) -> dict[str, np.ndarray]:
    """Collect the relative tables of all lambda layers by the name of the layer; a shared one once."""
    tables: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        table = getattr(getattr(module, "position", None), "table", None)
        if isinstance(module, LambdaLayer2d) and isinstance(table, Tensor) and id(table) not in seen:
            seen.add(id(table))
            tables[name] = table.detach().cpu().float().numpy()
    return tables
