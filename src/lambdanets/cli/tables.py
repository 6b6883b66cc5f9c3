"""`lambdanets tables`, `figure`, `report`: the paper's tables and figure with ours, and all as one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from lambdanets.cli._options import DefaultFrom, Format, print_json, value_of
from lambdanets.data.config import DataConfig
from lambdanets.files import make_folder
from lambdanets.ranges import Count, PositiveScale, Processes, Range
from lambdanets.streams import print_error, print_line
from lambdanets.terminal import fill, result_alone, terminal_width


def _data_of(argv: Sequence[str]) -> DataConfig | None:
    """The data set that `--train` names, whose settings are options too."""
    name = value_of("--train", argv)
    if name in (None, "scenes"):
        return None
    from lambdanets.paper.rows import recipe_for
    from lambdanets.recipes import replace_data

    config = recipe_for(name)
    return replace_data(config, value_of("--data.name", argv), value_of("--data.root", argv))[0].data


def tables(
    numbers: tuple[int, ...] = (),
    /,
    *,
    format: Literal["text", "markdown", "csv", "json"] = "text",
    results: Path = Path("results"),
    machine: str | None = None,
    rows: str = "*",
    measure: bool = False,
    batch: Count | None = None,
    time_limit: PositiveScale = 300.0,
    train: str | None = None,
    seeds: Annotated[int, Range(1, 1000)] = 5,
    runs: Path = Path("runs/tables"),
    processes: Processes | None = None,
    data: Annotated[DataConfig | None, DefaultFrom(_data_of)],
) -> None:
    """Print the paper's tables with our numbers beside the published.

    Without numbers all are listed. --measure and --train add results first.

    Args:
        numbers: 1 to 20.
        format: How to print them; --json is short for json.
        results: The folder of what was measured and trained.
        machine: Whose measurements to show: part of a name, or all; this one's or the newest unless given.
        rows: A shell's pattern: which rows to measure or to train.
        measure: Measure speed and memory of Tables 3, 4, 5, 12, 13 and 18, on CUDA where there is one.
        batch: Images at a time; 128 on CUDA and 8 elsewhere unless given.
        time_limit: Longest time of a network's measurement, in seconds.
        train: Train small networks: on the data set of a recipe, such as digits, relation, or photos with
            --data.root DIR, for Tables 3, 4 and 8 to 12; on scenes for 14.
        seeds: Number of runs of each row.
        runs: The folder of these runs.
        processes: Runs at a time; one a core unless given.
        data: The data set to train on.
    """
    from lambdanets.paper.formats import FORMATS, summary, to_text
    from lambdanets.paper.results import append_result, load_results
    from lambdanets.paper.tables import NUMBERS, table

    chosen = numbers or NUMBERS
    if measure:
        from lambdanets.paper.measure import measure_tables

        for result in measure_tables(chosen, batch=batch, time_limit_s=time_limit, rows=rows, log=_log):
            append_result(results, result)
    if train is not None:
        from lambdanets.paper.train import train_tables

        for result in train_tables(
            chosen, train, range(seeds), runs=runs, log=_log, rows=rows, num_processes=processes, data=data
        ):
            append_result(results, result)
    found = load_results(results, machine)
    filled = [table(number, found) for number in chosen]
    if format != "text":
        print_line(FORMATS[format](filled))
    elif numbers:
        print_line(to_text(filled, terminal_width()))
    else:
        print_line(summary(filled))


def figure(
    number: Literal[4],
    /,
    *,
    out: Path = Path("figure_4.png"),
    results: Path = Path("results"),
    machine: str | None = None,
    format: Format = "text",
) -> None:
    """Draw the paper's Figure 4, speed against accuracy, with our points.

    Args:
        number: 4, the only figure of the paper that can be computed.
        out: The image file.
        results: As in `lambdanets tables`.
        machine: As in `lambdanets tables`.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.paper.figure import draw_figure_4
    from lambdanets.paper.results import load_results
    from lambdanets.runs.figure_style import save_figure

    drawn, caption = draw_figure_4(load_results(results, machine))
    make_folder(out.parent, "figure", "Use another --out.")
    save_figure(drawn, out, "figure")
    if format == "json":
        print_json({"figure": number, "path": out, "caption": caption})
    else:
        print_line(f"{fill(caption)}\n{out}")


def report(
    runs: tuple[Path, ...] = (),
    /,
    *,
    out: Path = Path("report.html"),
    results: Path = Path("results"),
    machine: str | None = None,
    run: tuple[Path, ...] = (),
    format: Format = "text",
) -> None:
    """Write one web page with all tables, the figure and runs; or the report of a run again.

    Args:
        runs: Finished runs whose report.md and figures are made again, in place of the page: the last
            checkpoint is evaluated anew.
        out: The page.
        results: As in `lambdanets tables`.
        machine: As in `lambdanets tables`.
        run: Runs to show, finished or not: --run A B or --run A --run B.
        format: text or json; --json is short for the latter.
    """
    if runs:
        from lambdanets.runs.train import remake_report

        with result_alone(format == "json"):
            for path in runs:
                print_line(remake_report(path))
        if format == "json":
            print_json({"path": None, "runs": runs})
        return
    from lambdanets.paper.page import write_report

    for problem in write_report(out, results=results, machine=machine, runs=run):
        _log(f"lambdanets report: {problem}")
    if format == "json":
        print_json({"path": out, "runs": run})
    else:
        print_line(str(out))


def _log(text: str) -> None:
    # Beside the tables, which a program may read.
    print_error(text)
