"""The parts of report.md: rows of what was found, what was met on the way, tables and lists."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lambdanets.recipes import describe_recipe
from lambdanets.runs.class_report import HEADINGS, ClassCount, confused_pairs, listed_classes
from lambdanets.runs.display import format_duration
from lambdanets.runs.load import count_parameters
from lambdanets.training.config import TrainConfig
from lambdanets.training.metrics import TOP, Evaluation
from lambdanets.training.state import Events, TrainState

# Sentences of one list that the page shows, and steps of one row.
_MOST_LISTED: Final = 50
_MOST_STEPS: Final = 10


def result_rows(config: TrainConfig, state: TrainState, evaluation: Evaluation) -> dict[str, str]:
    """What has come of a run.

    Args:
        config: Of the run.
        state: At its end.
        evaluation: Of the averaged network.
    """
    best: dict[str, Any] = state.best or {}
    rows = {
        "accuracy": f"{evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total} held-out"
        " images, after the last epoch (moving average)",
    }
    if len(evaluation.confusion) > TOP:
        rows["top-5"] = f"{evaluation.top5_accuracy:.2%}, {evaluation.top5_correct} of {evaluation.total}"
    return {
        **rows,
        "best": f"{best['test_accuracy']:.2%}, {best['test_correct']} of {best['test_total']}, after epoch"
        f" {best['epoch']}; chosen on the same images, so optimistic",
        "reference": describe_recipe(config.recipe).get("Expected", "none").rstrip("."),
        "parameters": f"{count_parameters(state.model):,}",
        "training time": f"{format_duration(state.seconds)} for {config.sched.epochs} epochs,"
        f" {state.step:,} steps",
    }


def event_rows(events: Events, num_files: int) -> dict[str, str]:
    """What went wrong and was borne: unreadable files always, everything else where there is any.

    Args:
        events: Of the whole run.
        num_files: Images to train with.
    """
    unreadable = f"{len(events.unreadable)} of {num_files:,} to train with, below"
    rows = {"unreadable files": unreadable if events.unreadable else "none"}
    if events.skipped_steps:
        rows["skipped updates"] = f"{len(events.skipped_steps)}, not finite: {_steps(events.skipped_steps)}"
    if events.rolled_back_steps:
        rows["rollbacks"] = (
            f"{len(events.rolled_back_steps)}, not finite and passed over: {_steps(events.rolled_back_steps)}"
        )
    if events.failed_saves:
        rows["failed saves"] = f"{events.failed_saves}, the disk refused them"
    return rows


def row_table(rows: Mapping[str, str]) -> str:
    """A table of names with values."""
    return _table(("", ""), rows.items())


def listed(title: str, sentences: Sequence[str]) -> list[str]:
    """A section with a line for each sentence, as code: names of files are no marks. None without any."""
    if not sentences:
        return []
    more = len(sentences) - _MOST_LISTED
    lines = [sentence.replace("`", "'") for sentence in sentences[:_MOST_LISTED]]
    return ["\n".join([f"{title}:\n\n```", *lines, *([f"and {more} more"] if more > 0 else []), "```"])]


def class_sections(counts: Sequence[ClassCount]) -> list[str]:
    """The table of classes; of many the worst, and the most frequent confusions."""
    rows = listed_classes(counts)
    table = _table(HEADINGS, [count.cells() for count in rows])
    if len(rows) == len(counts):
        return [f"By class:\n\n{table}"]
    most = [(label, other, str(times)) for label, other, times in confused_pairs(counts)]
    return [
        f"The {len(rows)} of {len(counts)} classes with the lowest recall:\n\n{table}",
        f"Most frequent confusions:\n\n{_table(('is', 'taken for', 'images'), most)}",
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([_line(headings), "|---" * len(headings) + "|", *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    words = [cell.replace("|", "\\|") for cell in cells]
    return "|" + "|".join(f" {word} " if word else " " for word in words) + "|"


def _steps(steps: Sequence[int]) -> str:
    return f"{', '.join(map(str, steps[:_MOST_STEPS]))}{', …' if len(steps) > _MOST_STEPS else ''}"
