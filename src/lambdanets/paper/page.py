"""The web page of `lambdanets report`: all tables, the figure and runs in one file without a network."""

import base64
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from lambdanets.errors import DataError
from lambdanets.files import storing
from lambdanets.paper.figure import draw_figure_4
from lambdanets.paper.results import load_results
from lambdanets.paper.schema import NOT_RUN, Table
from lambdanets.paper.tables import NUMBERS, table
from lambdanets.runs.compare import RunSummary, summarize
from lambdanets.runs.origin import commit, now, versions
from lambdanets.terminal import format_duration

# The images of a run in the order shown; any others follow by name.
_RUN_CAPTIONS: Final = {
    "curves": "Loss, error and learning rate over the epochs.",
    "confusion": "Which class is taken for which.",
    "lambdas": "Learned position tables: what each query channel reads at each relative offset.",
    "positions": "Explained on an image: the position table of one layer, for each key.",
    "field": "Explained on an image: what one position reads, and which pixels move it.",
    "content": "Explained on an image: what the content's summary is made of, for each key.",
}


@dataclass(frozen=True, kw_only=True)
class Image:
    """A PNG file inside the page; its title is the alternative text."""

    title: str
    caption: str
    png: bytes

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
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def write_report(out: Path, *, results: Path, machine: str | None = None, runs: Sequence[Path] = ()) -> None:
    """Write the page of all tables, Figure 4 and some runs.

    Args:
        out: The file; its folder is made where there is none.
        results: Folder of result files.
        machine: Whose measurements are shown, as in `lambdanets tables`.
        runs: Finished runs to show with their images.

    Raises:
        PathError: A run does not exist.
        StorageError: The page cannot be written.
    """
    summaries = [summarize(run) for run in runs]
    known = load_results(results, machine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure_4.png"
        caption = draw_figure_4(known, path)
        figure = Image(title="Figure 4: speed and accuracy", caption=caption, png=path.read_bytes())
    text = _render_page([table(number, known) for number in NUMBERS], [figure], summaries)
    with storing(out, "report", "Use another --out."):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


def _render_page(
    tables: Sequence[Table], images: Sequence[Image] = (), runs: Sequence[RunSummary] = ()
) -> str:
    environment = Environment(
        loader=PackageLoader("lambdanets.paper"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["duration"] = format_duration
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
        runs=[(run, _run_images(run.path)) for run in runs],
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


def _run_images(run: Path) -> list[Image]:
    known = [*_RUN_CAPTIONS]
    paths = sorted(
        run.glob("*.png"),
        key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem),
    )
    return [
        Image(
            title=f"{run.name}: {path.stem}",
            caption=_RUN_CAPTIONS.get(path.stem, path.stem),
            png=path.read_bytes(),
        )
        for path in paths
    ]
