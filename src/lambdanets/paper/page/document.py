"""The whole page: contents, how to read it, what differs, tables, figures and runs."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from lambdanets.errors import StorageError
from lambdanets.paper.page.figures import Image, figure
from lambdanets.paper.page.runs import run_section, run_title
from lambdanets.paper.page.scrolling import plain_table, section
from lambdanets.paper.page.table_section import DIFFERENCE, anchor_of, badge, table_section
from lambdanets.paper.tables.record import NOT_RUN, Table, agrees
from lambdanets.runs.compare import RunSummary
from lambdanets.runs.markup import Html, element, joined
from lambdanets.runs.origin import commit, now, versions

_TITLE: Final = "LambdaNetworks: the paper's tables with ours beside them"
_ABOUT: Final = (
    "The published numbers are of I. Bello, “LambdaNetworks: Modeling Long-Range Interactions Without"
    " Attention”, ICLR 2021; captions are restated. Ours are of the library lambdanets."
)
_ORIGINS: Final = {
    "stated": "a name in this library: there is nothing to compute.",
    "computed": "from a closed form.",
    "counted": "from the modules of the network, without running it.",
    "measured": "on the machine that is named, in the setting that is named.",
    "trained": "on the data set that is named; the mean over the seeds, ± the standard deviation.",
    NOT_RUN: "nobody has run it yet, and no guess stands in its place.",
}
_SORTING: Final = (
    "A heading sorts its column: upwards, downwards, and back to the order of the paper. Tables scroll"
    " sideways in their boxes. Numbers in brackets lead to notes below a table: doubts about published"
    " numbers, reasons for differences, and where and when a number of ours was obtained."
)


def page(tables: Sequence[Table], images: Sequence[Image] = (), runs: Sequence[RunSummary] = ()) -> str:
    """Write the page.

    Args:
        tables: In the order wanted.
        images: The figures of the paper, with ours beside the published.
        runs: What finished runs have come to; their images are in their folders.

    Raises:
        DataError: An image is no PNG.
    """
    parts = [_legend(tables), _differences(tables), *map(table_section, tables)]
    if images:
        figures = (joined([element("h3", one.title), figure(one)]) for one in images)
        parts.append(section("figures", "Figures", *figures))
    parts += [run_section(run, place) for place, run in enumerate(runs, start=1)]
    return Template(_asset("page.html")).substitute(
        title=escape(_TITLE),
        style=_asset("page.css"),
        script=_asset("page.js"),
        origin=joined([element("p", _ABOUT), element("p", _made())]),
        contents=_contents(tables, bool(images), runs),
        main=joined(parts),
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _made() -> str:
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"Made on {now()} at commit {commit()}, with {made_with}."


def _contents(tables: Sequence[Table], with_figures: bool, runs: Sequence[RunSummary]) -> Html:
    entries = [
        _entry("reading", "How to read this page"),
        _entry("differences", "What differs from the paper"),
    ]
    entries += [
        _entry(anchor_of(table), f"{table.number}. {table.title}", _filled(table)) for table in tables
    ]
    if with_figures:
        entries.append(_entry("figures", "Figures"))
    entries += [_entry(f"run-{place}", run_title(run)) for place, run in enumerate(runs, start=1)]
    summary = element("summary", "Contents, and how many cells are filled")
    details = element("details", summary, element("ul", *entries), open="")
    return element("nav", details, aria_label="Contents")


def _entry(anchor: str, text: str, fill: str = "") -> Html:
    behind = element("span", fill, class_="fill") if fill else ""
    return element("li", element("a", element("span", text), behind, href=f"#{anchor}"))


def _filled(table: Table) -> str:
    total = table.fill.total()
    return f"{total - table.fill[NOT_RUN]} of {total}"


def _legend(tables: Sequence[Table]) -> Html:
    counts = sum((table.fill for table in tables), Counter[str]())
    entries: list[Html] = []
    for origin, meaning in _ORIGINS.items():
        cells = f" {counts[origin]} cell{'' if counts[origin] == 1 else 's'}."
        entries += [element("dt", badge(origin)), element("dd", meaning[0].upper(), meaning[1:], cells)]
    entries += [
        element("dt", element("span", DIFFERENCE, class_="sample")),
        element("dd", "Ours is computed or counted, and not the published number within its rounding."),
    ]
    legend = element("dl", *entries, class_="legend")
    return section("reading", "How to read this page", element("p", _SORTING), legend)


def _differences(tables: Sequence[Table]) -> Html:
    verdicts = Counter(agrees(column, cell) for table in tables for _, column, cell in table.cells)
    compared = verdicts[True] + verdicts[False]
    caption = (
        f"{compared} of our numbers are computed or counted and have a published one beside them:"
        f" {verdicts[True]} are the published ones within their rounding, {verdicts[False]} are not."
    )
    rows = [
        (
            element("a", f"Table {table.number}", href=f"#{anchor_of(table)}"),
            line.label,
            column.title,
            column.paper_text(cell),
            column.our_text(cell.findings[0]),
            cell.note,
        )
        for table in tables
        for line, column, cell in table.differences
    ]
    headings = ("table", "row", "quantity", "paper", "ours", "what is known of it")
    grid = plain_table("differences", caption, headings, rows)
    return section("differences", "What differs from the paper", grid)


def write_page(path: Path, text: str) -> None:
    """Write the page, and its folder where there is none.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"report: {path} must be writable, got '{error.strerror or error}'. Use another --out."
        ) from error
