"""The end of a run: report.md, its images, and the closing lines for the terminal."""

import platform
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from torch import Tensor, nn

from lambdanets.data.task import Task
from lambdanets.errors import first_line
from lambdanets.files import replace_file
from lambdanets.models.factory import count_parameters
from lambdanets.nn import LambdaLayer2d
from lambdanets.recipes.origins import describe_reference
from lambdanets.runs.class_report import (
    HEADINGS,
    class_counts,
    confused_pairs,
    listed_classes,
    save_confusion,
)
from lambdanets.runs.ema import compare_weights
from lambdanets.runs.figure_style import save_figure
from lambdanets.runs.finetune import init_rows, not_taken_lines, trained_rows
from lambdanets.runs.plots import draw_confusion, learning_curves, position_tables
from lambdanets.streams import print_line
from lambdanets.terminal import count, format_duration, pairs
from lambdanets.text import markdown_line, printable, shell_words, shown
from lambdanets.training.config import RunConfig, TrainConfig
from lambdanets.training.metrics import TOP, Evaluation
from lambdanets.training.objective import Evaluations
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import Events, TrainState

# Width of the closing lines.
_WIDTH: Final = 80
# Most steps that one row names.
_MOST_STEPS: Final = 10


def write_report(
    folder: RunFolder,
    state: TrainState,
    model: nn.Module,
    command: str,
    evaluations: Evaluations,
    *,
    config: TrainConfig,
    task: Task,
) -> str:
    """Draw the images, write report.md last, and give the closing lines for the terminal.

    Args:
        folder: The run folder.
        state: The state at the end of the run, with what went wrong on the way.
        model: The EMA model.
        command: The command line that repeats the run.
        evaluations: The last evaluations of the EMA model and of the raw weights.
        config: The settings of the run.
        task: The data set.
    """
    evaluation = evaluations.ema
    assert isinstance(evaluation, Evaluation), "a classifier's"
    title = f"{config.recipe}: {config.model.name}, {evaluation.accuracy:.2%} of {evaluation.total}"
    record = folder.read_init()
    preprocessing = task.preprocessing.to_dict() if task.preprocessing else None
    save_confusion(folder.path, evaluation.confusion, task.labels)
    more = {"confusion.png": lambda: draw_confusion(evaluation.confusion, task.labels, title)}
    return finish_report(
        folder,
        state,
        command,
        template="report.md",
        results=_result_rows(config, state, evaluations, task),
        start=init_rows(record, preprocessing) if record else {},
        not_taken=not_taken_lines(record) if record else [],
        images=draw_figures(folder, model, title, more, test_name=task.test_name),
        num_files=len(task.train),
        config=config,
        **_class_values(evaluation, task.labels),
    )


def _class_values(evaluation: Evaluation, labels: Sequence[str]) -> dict[str, Any]:
    """What the template says of the classes."""
    counts = class_counts(evaluation.confusion, labels)
    return {
        "headings": HEADINGS,
        "classes": [count.cells() for count in listed_classes(counts)],
        "num_classes": len(counts),
        "confusions": [(label, other, str(times)) for label, other, times in confused_pairs(counts)],
    }


def finish_report(
    folder: RunFolder,
    state: TrainState,
    command: str,
    *,
    template: str,
    results: dict[str, str],
    images: Sequence[str],
    num_files: int,
    start: Mapping[str, str] = MappingProxyType({}),
    **values: Any,
) -> str:
    """Write report.md, and give the closing lines for the terminal.

    Args:
        folder: The run folder.
        state: The state at the end of the run.
        command: The command line that repeats the run.
        template: Name of the template.
        results: The results by name.
        images: Names of the images.
        num_files: Number of training images.
        start: The weights it started with, as rows of the page.
        **values: What the template needs beside these.
    """
    warnings = folder.warnings()
    rows = {
        **results,
        **start,
        "machine": f"{platform.machine()}, {count(torch.get_num_threads(), 'thread')},"
        f" Python {platform.python_version()}, torch {torch.__version__}",
        "restarts": str(folder.sessions() - 1),
        "warnings": f"{len(warnings)}, below" if warnings else "none",
        **_event_rows(state.events, num_files),
    }
    page = _render(
        template,
        rows=rows,
        command=command,
        warnings=warnings,
        unreadable=state.events.unreadable,
        images=images,
        **values,
    )
    replace_file(folder.report, page.encode())
    files = ["report.md", *images, folder.best.name, "metrics.jsonl", "train.log", "checkpoints/"]
    return "\n" + pairs({**results, "files": f"{folder.path}/: {' · '.join(files)}"}, width=_WIDTH)


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("lambdanets.runs"),
        # Markdown, whose signs the template escapes by its filters.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"markdown": markdown_line, "printable": lambda text: shown(printable(text))}
    return environment.get_template(template).render(**values)


def _result_rows(
    config: TrainConfig, state: TrainState, evaluations: Evaluations, task: Task
) -> dict[str, str]:
    """The results of a run by name, for the report and the terminal."""
    best: dict[str, Any] = state.best or {}
    evaluation = evaluations.ema
    assert isinstance(evaluation, Evaluation), "a classifier's"
    rows = {
        "accuracy": f"{evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total}"
        f" {task.test_name} images, after the last epoch (EMA)",
    }
    if len(evaluation.confusion) > TOP:
        rows["top-5"] = f"{evaluation.top5_accuracy:.2%}, {evaluation.top5_correct} of {evaluation.total}"
    if raw := compare_weights(evaluations):
        rows["raw weights"] = raw
    kept = "raw weights" if best.get("weights") == "raw" else "EMA"
    return {
        **rows,
        "best": f"{best['test_accuracy']:.2%}, {best['test_correct']} of {best['test_total']}, after epoch"
        f" {best['epoch']} ({kept}); chosen on the same {best['test_total']} {task.test_name} images, so"
        " optimistic",
        **run_rows(config, state, len(task.labels)),
    }


def run_rows(config: RunConfig, state: TrainState, num_classes: int) -> dict[str, str]:
    """The rows of any run: what its recipe expects where it can be compared, its parameters and its time."""
    return {
        "reference": describe_reference(config, num_classes),
        "parameters": f"{count_parameters(state.model):,}",
        **trained_rows(state.model, config),
        "training time": f"{format_duration(state.seconds)} for"
        f" {count(config.sched.epochs, 'epoch')}, {count(state.step, 'step')}",
    }


def _event_rows(events: Events, num_files: int) -> dict[str, str]:
    """Errors that have not ended a run: unreadable files always, anything else where there is any.

    Args:
        events: The events of the whole run.
        num_files: Number of training images.
    """
    unreadable = f"{len(events.unreadable)} of {num_files:,} to train with, below"
    rows = {"unreadable files": unreadable if events.unreadable else "none"}
    if events.skipped_steps:
        rows["skipped updates"] = f"{len(events.skipped_steps)}, not finite: {_steps(events.skipped_steps)}"
    if events.rolled_back_steps:
        rows["rollbacks"] = (
            f"{len(events.rolled_back_steps)}, not finite and skipped: {_steps(events.rolled_back_steps)}"
        )
    if events.failed_saves:
        rows["failed saves"] = f"{events.failed_saves}, the disk refused them"
    return rows


def _steps(steps: Sequence[int]) -> str:
    return f"{', '.join(map(str, steps[:_MOST_STEPS]))}{', …' if len(steps) > _MOST_STEPS else ''}"


def draw_figures(
    folder: RunFolder,
    model: nn.Module,
    title: str,
    more: Mapping[str, Callable[[], Figure]],
    *,
    test_name: str = "test",
) -> list[str]:
    """Draw curves, the figures of a task, and the position tables of lambda layers; give the names.

    One that cannot be drawn or written is left out with a warning.
    """
    figures = {"curves.png": lambda: learning_curves(folder.read_metrics(), title, test_name), **more}
    if tables := _learned_tables(model):
        heading = f"{title}: learned position lambdas, R[m - n] by channel"
        figures["lambdas.png"] = lambda: position_tables(tables, heading)
    drawn = []
    for name, draw in figures.items():
        try:
            save_figure(draw(), folder.path / name)
            drawn.append(name)
        # Any: the libraries that draw have their own, and a training that is done does not fail by its page.
        except Exception as error:
            warn_of_report(folder, name, error)
    return drawn


def warn_of_report(folder: RunFolder, name: str, error: Exception) -> None:
    """Say that a part of the report is missing, and how to have it."""
    reason = first_line(error).removesuffix(".")
    again = f"lambdanets report {shell_words(folder.path)}"
    warning = f"warning: {name} could not be made: {reason}. Make it again: {again}"
    folder.append_log(warning)
    print_line(warning)


def _learned_tables(model: nn.Module) -> dict[str, np.ndarray]:
    """Collect the relative tables of all lambda layers by the name of the layer; a shared one once."""
    tables: dict[str, np.ndarray] = {}
    known: set[int] = set()
    for name, module in model.named_modules():
        table = getattr(getattr(module, "position", None), "table", None)
        if isinstance(module, LambdaLayer2d) and isinstance(table, Tensor) and id(table) not in known:
            known.add(id(table))
            tables[name] = table.detach().cpu().float().numpy()
    return tables
