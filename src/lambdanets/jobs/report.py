"""What is left when a run ends: one page, the pictures, and the lines for the terminal."""

import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lambdanets.analysis.plots import confusion, learning_curves, position_tables, save_figure
from lambdanets.jobs.display import duration
from lambdanets.jobs.tasks import Task
from lambdanets.jobs.trained import count_parameters
from lambdanets.nn import LambdaLayer2d
from lambdanets.recipes import describe_recipe
from lambdanets.training.config import TrainConfig
from lambdanets.training.feeding import test_batches
from lambdanets.training.files import replace_file
from lambdanets.training.metrics import Evaluation, evaluate
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState


def write_report(
    folder: RunFolder, config: TrainConfig, state: TrainState, model: nn.Module, task: Task, command: str
) -> str:
    """Draw the pictures, write report.md last, and give the closing lines for the terminal.

    Args:
        folder: Of the run.
        config: Of the run.
        state: At the end of the run.
        model: The averaged network.
        task: What was trained on.
        command: The command line that repeats the run.
    """
    evaluation = evaluate(model, test_batches(task.test), len(task.labels))
    pictures = draw_pictures(folder, config, model, evaluation, task.labels)
    results = _results(config, state, evaluation)
    page = _page(folder, config, state, results, pictures, command)
    replace_file(folder.report, page.encode())
    width = max(map(len, results))
    lines = [f"{name:<{width}}  {value}" for name, value in results.items()]
    places = ["report.md", *pictures, folder.best.name, "metrics.jsonl", "train.log", "checkpoints/"]
    return "\n".join(["", *lines, f"{'files':<{width}}  {folder.path}/: {' · '.join(places)}"])


def draw_pictures(
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


def _results(config: TrainConfig, state: TrainState, evaluation: Evaluation) -> dict[str, str]:
    best: dict[str, Any] = state.best or {}
    return {
        "accuracy": f"{evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total} held-out"
        " pictures, after the last epoch (moving average)",
        "best": f"{best['test_accuracy']:.2%}, {best['test_correct']} of {best['test_total']}, after epoch"
        f" {best['epoch']}; chosen on the same pictures, so optimistic",
        "reference": describe_recipe(config.recipe).get("Expected", "none").rstrip("."),
        "parameters": f"{count_parameters(state.model):,}",
        "training time": f"{duration(state.seconds)} for {config.sched.epochs} epochs, {state.step:,} steps",
    }


def _page(
    folder: RunFolder,
    config: TrainConfig,
    state: TrainState,
    results: dict[str, str],
    pictures: list[str],
    command: str,
) -> str:
    warnings = folder.warnings()
    rows = {
        **results,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads,"
        f" Python {platform.python_version()}, torch {torch.__version__}",
        "unreadable files": "none",
        "restarts": str(folder.sessions() - 1),
        "warnings": "none" if not warnings else f"{len(warnings)}, below",
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    images = "\n\n".join(f"![{name.removesuffix('.png')}]({name})" for name in pictures)
    parts = [
        f"# {config.recipe}: {config.model.name}",
        table,
        f"Repeat it in an empty folder:\n\n```\n{command}\n```",
        *(["Warnings:\n\n" + "\n".join(f"- {warning}" for warning in warnings)] if warnings else []),
        images,
        f"Settings:\n\n```json\n{config.to_json()}```",
    ]
    return "\n\n".join(parts) + "\n"
