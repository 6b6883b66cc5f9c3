"""`lambdanets compare`: put finished runs side by side."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lambdanets.cli._options import Format, print_json
from lambdanets.runs.compare import (
    Difference,
    RunSummary,
    Seeds,
    differences_of,
    differing_settings,
    seeds_of,
    setting_text,
    summarize,
)
from lambdanets.streams import print_line
from lambdanets.terminal import count, fill, format_duration, table, terminal_width

# Settings that have a line of their own above the others.
_SHOWN: Final = ("recipe", "seed", "model.name")


def compare(runs: tuple[Path, ...], /, *, format: Format = "text") -> None:
    """Put runs side by side: accuracy, the settings that differ, and the spread of seeds.

    Args:
        runs: Run folders.
        format: text or json; --json is short for the latter.
    """
    summaries = [summarize(run) for run in runs]
    settings = differing_settings(summaries)
    groups = seeds_of(summaries)
    differences = differences_of(groups)
    if format == "json":
        found = {
            "runs": [summary.to_dict() for summary in summaries],
            "settings": settings,
            "seeds": [group.to_dict() for group in groups],
            "differences": [difference.to_dict() for difference in differences],
        }
        print_json(found)
        return
    columns = [_column(summary) for summary in summaries]
    for name, values in settings.items():
        if name not in _SHOWN:
            for column, value in zip(columns, values, strict=True):
                column[name] = setting_text(value)
    print_line("\n\n".join(_blocks(columns, terminal_width())))
    for group in groups:
        print_line(f"\n{_heading(group)}:\n{_spread(group)}")
    for difference in differences:
        print_line("\n" + fill(_difference(difference)))


def _heading(group: Seeds) -> str:
    seeds = ", ".join(str(run.config.seed) for run in group.runs)
    return fill(f"{group.runs[0].recipe} ({group.runs[0].model}), seeds {seeds}")


def _spread(group: Seeds) -> str:
    """The spread of the accuracy, with EMA and raw weights where both were evaluated."""
    raw = group.raw_accuracies
    kinds = {"EMA": group.accuracies, "raw": raw} if raw else {"accuracy": group.accuracies}
    rows = [
        (
            name,
            f"{statistics.fmean(values):.2%} ± {statistics.stdev(values):.2%} (n={len(values)})",
            f"lowest {min(values):.2%}",
            f"highest {max(values):.2%}",
        )
        for name, values in kinds.items()
    ]
    return table(None, rows, indent=2)


def _difference(difference: Difference) -> str:
    groups = (difference.first, difference.second)
    names = [group.runs[0].recipe for group in groups]
    if names[0] == names[1]:
        names = [f"the {count(len(group.runs), 'run')} of {group.runs[0].path}" for group in groups]
    return (
        f"{names[0]} less {names[1]}: {100 * difference.mean:+.2f} points, standard error"
        f" {100 * difference.standard_error:.2f}"
    )


def _blocks(columns: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    """Put as many columns beside each other as there is room for, the others below."""
    known = dict.fromkeys(name for column in columns for name in column)
    names = [name for name in known if any(column.get(name) for column in columns)]

    def block(part: Sequence[Mapping[str, str]], width: int | None = None) -> str:
        return table(
            None, [(name, *(column.get(name, "") for column in part)) for name in names], width=width
        )

    num = len(columns)
    while num > 1 and width is not None and max(map(len, block(columns[:num]).splitlines())) > width:
        num -= 1
    return [block(columns[:num], width), *(_blocks(columns[num:], width) if columns[num:] else ())]


def _column(summary: RunSummary) -> dict[str, str]:
    done, planned = summary.epochs
    top5, raw, total = summary.top5_correct, summary.raw_correct, summary.total
    return {
        "run": str(summary.path),
        "recipe": summary.recipe,
        "model": summary.model,
        "seed": str(summary.config.seed),
        "evaluated on": f"{summary.test_name}, {count(total, 'image')}",
        "last epoch" if raw is None else "last epoch, EMA": f"{summary.accuracy:.2%}",
        "last epoch, raw": "" if raw is None else f"{raw / total:.2%}",
        "correct": f"{summary.correct} of {total}",
        "top-5": "" if top5 is None else f"{top5 / total:.2%}",
        "best epoch (same images)": f"{summary.best_correct / total:.2%}",
        "parameters": f"{summary.parameters:,}",
        "epochs": str(done) if done == planned else f"{done} of {planned}, unfinished",
        "training time": format_duration(summary.seconds),
        "training images/s": f"{summary.images_per_s:,.0f}",
    }
