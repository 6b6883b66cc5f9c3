"""The web page of `lambdanets report`: all tables, the figure and runs in one file without a network."""

import base64
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from lambdanets.errors import DataError
from lambdanets.files import make_folder, replace_file
from lambdanets.paper.figure import draw_figure_4
from lambdanets.paper.results import load_results
from lambdanets.paper.schema import NOT_RUN, Table
from lambdanets.paper.tables import NUMBERS, table
from lambdanets.runs.compare import RunSummary, differences_of, differing_settings, seeds_of, setting_text
from lambdanets.runs.figure_style import render_variants
from lambdanets.runs.origin import commit, now, versions
from lambdanets.runs.plots import compared_errors
from lambdanets.runs.run_page import ShownRun, show_run
from lambdanets.text import shown_value
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Image:
    """A PNG file inside the page, and its dark variant if there is one; the title is the alternative text."""

    title: str
    caption: str
    png: bytes
    dark: bytes | None = None

    @classmethod
    def drawn(cls, title: str, caption: str, content: Figure | bytes, dark: bytes | None = None) -> "Image":
        """Draw a figure light and dark; a file, with its dark variant, is taken as it is."""
        if isinstance(content, bytes):
            return cls(title=title, caption=caption, png=content, dark=dark)
        light, dark = render_variants(content)
        return cls(title=title, caption=caption, png=light, dark=dark)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the file says."""
        if not self.png.startswith(b"\x89PNG\r\n\x1a\n") or len(self.png) < 24:
            raise DataError(
                f"report: '{self.title}' must be a PNG file, got {self.png[:8]!r} at its beginning."
            )
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])

    @property
    def url(self) -> str:
        """The file as a data URL."""
        return _data_url(self.png)

    @property
    def dark_url(self) -> str | None:
        """The dark variant as a data URL; None where there is none."""
        return None if self.dark is None else _data_url(self.dark)


def write_report(
    out: Path, *, results: Path, machine: str | None = None, runs: Sequence[Path] = ()
) -> list[str]:
    """Write the page of some runs, of all tables and of Figure 4; each figure is there light and dark.

    Args:
        out: The file; its folder is made where there is none.
        results: Folder of result files.
        machine: Whose measurements are shown, as in `lambdanets tables`.
        runs: Run folders to show with their figures. What cannot be shown of one is said on the page.

    Returns:
        A sentence for each run of which something cannot be shown, or that is not finished.

    Raises:
        StorageError: The page cannot be written.
    """
    # A run that is named twice is shown once.
    shown = [show_run(run) for run in dict.fromkeys(runs)]
    known = load_results(results, machine)
    figure, caption = draw_figure_4(known)
    speed = Image.drawn("Figure 4: speed and accuracy", caption, figure)
    text = _render_page([table(number, known) for number in NUMBERS], [speed], shown)
    make_folder(out.parent, "report", "Use another --out.")
    replace_file(out, text.encode(), "report", "Use another --out.")
    return [f"{run.path}: {run.problem}" for run in shown if run.problem]


def _render_page(tables: Sequence[Table], images: Sequence[Image] = (), runs: Sequence[ShownRun] = ()) -> str:
    environment = Environment(
        loader=PackageLoader("lambdanets.paper"),
        autoescape=True,
        finalize=shown_value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    agreements = Counter(cell.agrees for table in tables for cell in table.cells)
    return environment.get_template("paper.html").render(
        made_on=now(),
        commit=commit(),
        versions=versions(),
        counts=sum((table.counts for table in tables), Counter[str]()),
        tables=[(table, _column_styles(table)) for table in tables],
        agreeing=agreements[True],
        differing=agreements[False],
        images=images,
        runs=[(run, _run_images(run)) for run in runs],
        comparison=_compare(runs),
        not_run=NOT_RUN,
    )


def _column_styles(table: Table) -> list[tuple[str, int]]:
    """For each column, whether it has numbers or words, and the width of the widest of ours."""
    styles = []
    for place, column in enumerate(table.columns):
        cells = [cells[place] for _, cells in table.rows]
        results = [result for cell in cells for result in cell.results]
        values = [cell.paper for cell in cells] + [result.value for result in results]
        kind = "number" if any(isinstance(value, int | float) for value in values) else "words"
        styles.append((kind, max((len(column.our_text(result)) for result in results), default=1)))
    return styles


def _run_images(run: ShownRun) -> list[Image]:
    return [
        Image.drawn(f"{run.path.name}: {one.title}", one.caption, one.content, one.dark)
        for one in run.figures
    ]


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Several runs side by side.

    Attributes:
        groups: A row for seeds of the same settings, or a run alone: name, runs, mean, std, lowest, highest.
        differences: A sentence for the first group of seeds and each other one.
        settings: Name, and the value of each run, of what differs.
        names: Of the runs.
        image: Their errors over the epochs.
    """

    groups: list[tuple[str, ...]]
    differences: list[str]
    settings: list[tuple[str, ...]]
    names: list[str]
    image: Image


def _compare(runs: Sequence[ShownRun]) -> _Comparison | None:
    """Compare runs of classifiers; None of fewer than two."""
    summaries = [run.summary for run in runs if run.summary is not None]
    if len(summaries) < 2:
        return None
    seeds = seeds_of(summaries)
    members = [group.runs for group in seeds]
    grouped = {run.path for group in members for run in group}
    members += [(summary,) for summary in summaries if summary.path not in grouped]
    names = _group_names(members)
    curves = {
        name: [RunFolder(run.path).read_metrics() for run in group]
        for name, group in zip(names, members, strict=True)
    }
    caption = (
        "Error of the EMA over the epochs. A line alone is a run; a band, with the mean in it, is of seeds."
    )
    figure = compared_errors(curves, "Runs side by side", summaries[0].test_name)
    return _Comparison(
        groups=[_group_row(name, group) for name, group in zip(names, members, strict=True)],
        differences=[
            f"{names[0]} less {name}: {100 * one.mean:+.2f} points, standard error"
            f" {100 * one.standard_error:.2f}."
            for name, one in zip(names[1:], differences_of(seeds), strict=False)
        ],
        settings=[
            (name, *(setting_text(value) for value in values))
            for name, values in differing_settings(summaries).items()
        ],
        names=[str(summary.path) for summary in summaries],
        image=Image.drawn("Runs side by side: error", caption, figure),
    )


def _group_names(members: Sequence[Sequence[RunSummary]]) -> list[str]:
    """The recipe of each group, and a folder where several have one recipe."""
    recipes = Counter(group[0].recipe for group in members)
    return [
        group[0].recipe if recipes[group[0].recipe] == 1 else f"{group[0].recipe} ({group[0].path.name})"
        for group in members
    ]


def _group_row(name: str, group: Sequence[RunSummary]) -> tuple[str, ...]:
    values = [run.accuracy for run in group]
    raw = [run.raw_accuracy for run in group if run.raw_accuracy is not None]
    return (
        name,
        str(len(values)),
        ", ".join(str(run.config.seed) for run in group),
        _mean_and_std(values),
        f"{min(values):.2%} to {max(values):.2%}" if len(values) > 1 else "",
        _mean_and_std(raw) if raw else "",
    )


def _mean_and_std(values: Sequence[float]) -> str:
    std = f"\u00a0±\u00a0{statistics.stdev(values):.2%}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2%}{std}"


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
