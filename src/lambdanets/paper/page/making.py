"""The job `report`: all tables, the figure and runs, gathered into one page."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from lambdanets.paper.page.document import page, write_page
from lambdanets.paper.page.figures import Image
from lambdanets.paper.tables.contents import NUMBERS, table
from lambdanets.paper.tables.figure import draw
from lambdanets.paper.tables.results import Results, read_results
from lambdanets.runs.compare import compare
from lambdanets.runs.origin import machine_name


def make_report(out: Path, *, results: Path, machine: str | None = None, runs: Sequence[Path] = ()) -> None:
    """Write the page.

    Args:
        out: The file.
        results: Folder of what was measured and trained.
        machine: Whose measurements are shown, as in `lambdanets tables`.
        runs: Finished runs to show with their images.

    Raises:
        PathError: A run does not exist.
        StorageError: The page cannot be written.
    """
    summaries = compare(runs)
    found = Results(results=read_results(results), machine=machine, here=machine_name())
    tables = [table(number, found) for number in NUMBERS]
    write_page(out, page(tables, [_figure_4(found)], summaries))


def _figure_4(results: Results) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure_4.png"
        caption = draw(results, path)
        return Image(title="Figure 4: speed and accuracy", caption=caption, png=path.read_bytes())
