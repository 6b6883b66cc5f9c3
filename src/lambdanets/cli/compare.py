"""`lambdanets compare`: put finished runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lambdanets.cli._options import Format, print_json
from lambdanets.runs.compare import RunSummary, seeds_of, summarize
from lambdanets.terminal import table, terminal_width


def compare(runs: tuple[Path, ...], /, *, format: Format = "text") -> None:
    """Put finished runs side by side, and add up what differs in its seed alone.

    Args:
        runs: Run folders.
        format: text or json; --json is short for the latter.
    """
    summaries = [summarize(run) for run in runs]
    groups = seeds_of(summaries)
    if format == "json":
        found = {
            "runs": [summary.to_dict() for summary in summaries],
            "seeds": [group.to_dict() for group in groups],
        }
        print_json(found)
        return
    print("\n\n".join(_blocks([_column(summary) for summary in summaries], terminal_width())))
    for group in groups:
        seeds = ", ".join(str(run.config.seed) for run in group.runs)
        lowest, highest = min(group.accuracies), max(group.accuracies)
        print(
            f"\n{group.runs[0].recipe} with seeds {seeds}:\n"
            f"  mean {group.mean:.2%}, standard deviation {group.std:.2%},"
            f" from {lowest:.2%} to {highest:.2%}"
        )


def _blocks(columns: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    """Put as many columns beside each other as there is room for, the others below."""
    names = [name for name in columns[0] if any(column[name] for column in columns)]

    def block(part: Sequence[Mapping[str, str]]) -> str:
        return table(None, [(name, *(column[name] for column in part)) for name in names])

    num = len(columns)
    while num > 1 and width is not None and max(map(len, block(columns[:num]).splitlines())) > width:
        num -= 1
    return [block(columns[:num]), *(_blocks(columns[num:], width) if columns[num:] else ())]


def _column(summary: RunSummary) -> dict[str, str]:
    done, planned = summary.epochs
    top5 = summary.top5_correct
    return {
        "run": str(summary.path),
        "recipe": summary.recipe,
        "model": summary.model,
        "seed": str(summary.config.seed),
        "accuracy, last epoch": f"{summary.accuracy:.2%}",
        "correct": f"{summary.correct} of {summary.total}",
        "top-5": "" if top5 is None else f"{top5 / summary.total:.2%}",
        "best epoch (same images)": f"{summary.best_correct / summary.total:.2%}",
        "parameters": f"{summary.parameters:,}",
        "epochs": str(done) if done == planned else f"{done} of {planned}, unfinished",
        "training time": f"{summary.seconds:.1f} s",
        "training images/s": f"{summary.images_per_s:,.0f}",
    }
