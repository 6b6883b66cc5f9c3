"""Tables as text, Markdown, CSV and JSON. Nothing is cut short, and thousands are not separated."""

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final

from lambdanets.paper.schema import NOT_RUN, Cell, Column, Table
from lambdanets.terminal import table as text_table
from lambdanets.text import to_cell

# Width of captions and notes.
_WIDTH: Final = 110
# Width of a heading above three columns.
_HEADING: Final = 14


def to_text(tables: Sequence[Table], width: int | None = None) -> str:
    """Write tables as plain text.

    Args:
        tables: In the order wanted.
        width: Longest line; a wider table is printed quantity by quantity. None: no limit.
    """
    return "\n\n".join(_text(table, width) for table in tables)


def _text(table: Table, width: int | None) -> str:
    grids = [_text_grid(table, table.columns)]
    if width is not None and max(map(len, grids[0].splitlines())) > width:
        grids = [_text_grid(table, (column,)) for column in table.columns]
    wrap = textwrap.TextWrapper(min(width or _WIDTH, _WIDTH), break_long_words=False, break_on_hyphens=False)
    caption = textwrap.fill(table.caption, wrap.width)
    footnotes = []
    for number, note in enumerate(table.footnotes, start=1):
        wrap.initial_indent = f"[{number}] "
        wrap.subsequent_indent = " " * len(wrap.initial_indent)
        footnotes.append(wrap.fill(note))
    parts = [f"{textwrap.fill(_title(table), wrap.width)}\n{caption}", *grids, "\n".join(footnotes)]
    return "\n\n".join(filter(None, parts))


def _text_grid(table: Table, columns: Sequence[Column]) -> str:
    headings = [table.row_heading]
    for column in columns:
        headings += [f"{textwrap.fill(column.title, _HEADING)}\npaper", "ours", "how"]
    lines = max(heading.count("\n") for heading in headings)
    headings = ["\n" * (lines - heading.count("\n")) + heading for heading in headings]
    return text_table(headings, _lines(table, columns))


def _lines(table: Table, columns: Sequence[Column]) -> Iterator[list[str]]:
    """Give the label, and paper, ours and how of each column; a line for each result."""
    for row, cells in table.rows:
        shown = [_cell_lines(table, cell) for cell in cells if cell.column in columns]
        label = f"{row.label}{_marks(table, row.note)}"
        for place, parts in enumerate(zip_longest(*shown, fillvalue=("", "", ""))):
            yield ["" if place else label, *(text for part in parts for text in part)]


def _cell_lines(table: Table, cell: Cell) -> list[tuple[str, str, str]]:
    if cell.is_empty:
        return [("", "", "")]
    if not cell.results:
        return [(cell.paper_text, "-", NOT_RUN + _marks(table, cell.note))]
    lines = []
    paper, note, different = cell.paper_text, cell.note, " ≠" if cell.agrees is False else ""
    for text, result in zip(cell.our_texts, cell.results, strict=True):
        lines.append((paper, text, f"{result.how}{different}{_marks(table, note, result.provenance)}"))
        # Only the first line speaks of the published value.
        paper, note, different = "", "", ""
    return lines


def _marks(table: Table, *notes: str) -> str:
    return "".join(f" [{number}]" for number in table.footnote_numbers(*notes))


def _title(table: Table) -> str:
    return f"Table {table.number}. {table.title}"


def to_markdown(tables: Sequence[Table]) -> str:
    """Write tables for a Markdown page."""
    parts = []
    for table in tables:
        headings = [table.row_heading]
        for column in table.columns:
            headings += [f"{column.title}: paper", "ours", "how"]
        footnotes = [f"- [{number}] {note}" for number, note in enumerate(table.footnotes, start=1)]
        grid = _markdown_table(headings, list(_lines(table, table.columns)))
        parts += [f"### {_title(table)}", table.caption, grid, "\n".join(footnotes)]
    return "\n\n".join(filter(None, parts))


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _to_csv(tables: Sequence[Table]) -> str:
    """Write one line for each number of ours, and for each cell that was not run; numbers in full."""
    records: list[dict[str, object]] = []
    for cell in (cell for table in tables for cell in table.cells):
        for result in cell.results or (None,):
            records.append(
                {
                    "table": cell.row.table,
                    "row": cell.row.label,
                    "quantity": cell.column.key,
                    "unit": cell.column.unit,
                    "paper": cell.paper,
                    "ours": result and result.value,
                    "spread": result and result.spread,
                    "how": result.how if result else NOT_RUN,
                    "agrees": {True: "yes", False: "no", None: ""}[cell.agrees],
                    "note": "; ".join(filter(None, (cell.note, cell.row.note))),
                    "provenance": result.provenance if result else "",
                }
            )
    file = io.StringIO()
    writer = csv.DictWriter(file, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: to_cell(value) for name, value in record.items()} for record in records)
    return file.getvalue().rstrip("\n")


def to_json(tables: Sequence[Table]) -> str:
    """Write a list of tables, each with its columns and rows; numbers in full."""
    return json.dumps([_table_dict(table) for table in tables], indent=2, ensure_ascii=False)


def _table_dict(table: Table) -> dict[str, Any]:
    return {
        "table": table.number,
        "title": table.title,
        "caption": table.caption,
        "columns": [
            {"key": column.key, "heading": column.heading, "unit": column.unit} for column in table.columns
        ],
        "rows": [
            {
                "label": row.label,
                "note": row.note,
                "cells": {cell.column.key: _cell_dict(cell) for cell in cells if not cell.is_empty},
            }
            for row, cells in table.rows
        ],
    }


def _cell_dict(cell: Cell) -> dict[str, Any]:
    ours = [
        {
            "value": result.value,
            "origin": result.kind,
            "how": result.how,
            "spread": result.spread,
            "provenance": result.provenance,
        }
        for result in cell.results
    ]
    how = cell.results[0].how if cell.results else NOT_RUN
    return {"paper": cell.paper, "ours": ours, "how": how, "agrees": cell.agrees, "note": cell.note}


# All but text, which depends on the terminal.
FORMATS: Final[dict[str, Callable[[Sequence[Table]], str]]] = {
    "markdown": to_markdown,
    "csv": _to_csv,
    "json": to_json,
}


def differences(tables: Sequence[Table]) -> str:
    """List the cells that do not agree with the paper, and why, as Markdown."""
    rows = [
        [
            str(table.number),
            cell.row.label,
            cell.column.title,
            cell.paper_text,
            cell.our_texts[0],
            cell.note or cell.row.note or "unexplained",
        ]
        for table in tables
        for cell in table.differences
    ]
    return _markdown_table(("table", "row", "quantity", "paper", "ours", "why"), rows)


def summary(tables: Sequence[Table]) -> str:
    """List the tables with how many of their cells are filled, by kind."""
    rows = []
    for table in tables:
        counts = table.counts
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != NOT_RUN)
        total = counts.total()
        rows.append((table.number, table.title, total - counts[NOT_RUN], total, kinds or NOT_RUN))
    return text_table(("table", "", "filled", "of", "by"), rows)
