"""Tables as text, Markdown, CSV and JSON. Nothing is shortened, and thousands are not separated."""

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Final

from lambdanets.paper.tables.record import NOT_RUN, Cell, Column, Line, Table, agrees

# Of captions and notes.
_WIDTH: Final = 110
_GAP: Final = "   "

CSV_FIELDS: Final = (
    "table",
    "row",
    "quantity",
    "unit",
    "paper",
    "ours",
    "spread",
    "how",
    "agrees",
    "note",
    "provenance",
)


class Notes:
    """Footnotes in the order of their first use; equal ones share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, *texts: str) -> str:
        """The numbers of notes, such as ` [1] [3]`; empty without any."""
        numbers = []
        for text in filter(None, texts):
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return "".join(f" [{number}]" for number in numbers)


def to_text(tables: Sequence[Table], width: int | None = None) -> str:
    """Tables for a reader of plain text.

    Args:
        tables: In the order wanted.
        width: Of a terminal; a wider table is printed quantity by quantity. None leaves it as wide as it is.
    """
    return "\n\n".join(_text(table, width) for table in tables)


def _text(table: Table, width: int | None) -> str:
    notes = Notes()
    blocks = [_Block(table, table.columns, notes)]
    if width is not None and blocks[0].width > width:
        notes = Notes()
        blocks = [_Block(table, (column,), notes) for column in table.columns]
    caption = textwrap.wrap(table.caption, min(width or _WIDTH, _WIDTH))
    lines = [f"Table {table.number}. {table.title}", *caption]
    for block in blocks:
        lines += ["", *block.lines()]
    return "\n".join([*lines, *_footnotes(notes, width)])


def _footnotes(notes: Notes, width: int | None) -> list[str]:
    lines = [""] if notes.texts else []
    for number, text in enumerate(notes.texts, start=1):
        mark = f"[{number}] "
        lines += textwrap.wrap(
            text,
            min(width or _WIDTH, _WIDTH),
            initial_indent=mark,
            subsequent_indent=" " * len(mark),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


class _Block:
    """Labels and some columns, each as paper | ours | how."""

    def __init__(self, table: Table, columns: Sequence[Column], notes: Notes) -> None:
        self.labels = [table.row_heading]
        self.titles = [column.title for column in columns]
        self.grid: list[list[tuple[str, str, str]]] = [[("paper", "ours", "how")] * len(columns)]
        for line in table.lines:
            cells = dict(zip(table.columns, line.cells, strict=True))
            label = f"{line.label}{notes.mark(line.note)}"
            triples = [triple_texts(column, cells[column], notes) for column in columns]
            for index in range(max(map(len, triples))):
                self.labels.append(label if index == 0 else "")
                self.grid.append([one[index] if index < len(one) else ("", "", "") for one in triples])
        self.label_width = max(map(len, self.labels))
        self.widths = [
            [max(len(row[place][part]) for row in self.grid) for part in range(3)]
            for place in range(len(columns))
        ]
        for title, widths in zip(self.titles, self.widths, strict=True):
            widths[2] += max(0, len(title) - sum(widths) - 4)

    @property
    def width(self) -> int:
        """Of the longest line."""
        return self.label_width + sum(len(_GAP) + sum(widths) + 4 for widths in self.widths)

    def lines(self) -> list[str]:
        """A line of quantities, a line of headings, and the rows."""
        groups = (
            f"{title:<{sum(widths) + 4}}" for title, widths in zip(self.titles, self.widths, strict=True)
        )
        lines = [_GAP.join([" " * self.label_width, *groups])]
        for label, row in zip(self.labels, self.grid, strict=True):
            cells = (
                f"{paper:>{widths[0]}}  {ours:>{widths[1]}}  {how:<{widths[2]}}"
                for (paper, ours, how), widths in zip(row, self.widths, strict=True)
            )
            lines.append(_GAP.join([f"{label:<{self.label_width}}", *cells]))
        return [line.rstrip() for line in lines]


def triple_texts(column: Column, cell: Cell, notes: Notes) -> list[tuple[str, str, str]]:
    """A cell as lines of paper, ours and how: one for each finding, the first with the paper's number."""
    if cell.is_empty:
        return [("", "", "")]
    paper = column.paper_text(cell)
    if not cell.findings:
        return [(paper, "-", NOT_RUN + notes.mark(cell.note))]
    lines: list[tuple[str, str, str]] = []
    for finding in cell.findings:
        mark = notes.mark(cell.note if not lines else "", finding.provenance)
        differs = " ≠" if not lines and agrees(column, cell) is False else ""
        lines.append((paper if not lines else "", column.our_text(finding), f"{finding.how}{differs}{mark}"))
    return lines


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables for a Markdown page."""
    return "\n\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    notes = Notes()
    head = [table.row_heading]
    for column in table.columns:
        head += [f"{column.title}: paper", "ours", "how"]
    lines = [_markdown_row(head), _markdown_row(["---"] * len(head))]
    for line in table.lines:
        label = f"{line.label}{notes.mark(line.note)}"
        cells = [
            triple_texts(column, cell, notes) for column, cell in zip(table.columns, line.cells, strict=True)
        ]
        for index in range(max(map(len, cells))):
            row = [label if index == 0 else ""]
            for triple in cells:
                row += triple[index] if index < len(triple) else ("", "", "")
            lines.append(_markdown_row(row))
    footnotes = [f"- [{number}] {text}" for number, text in enumerate(notes.texts, start=1)]
    parts = [
        f"### Table {table.number}. {table.title}",
        table.caption,
        "\n".join(lines),
        "\n".join(footnotes),
    ]
    return "\n\n".join(filter(None, parts))


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_csv(tables: Sequence[Table]) -> str:
    """One line for each number of ours, or for a cell that was not run; numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for table in tables:
        for line, column, cell in table.cells:
            writer.writerows(_csv_rows(table, line, column, cell))
    return file.getvalue().rstrip("\n")


def _csv_rows(table: Table, line: Line, column: Column, cell: Cell) -> list[list[object]]:
    place = [table.number, line.label, column.key, column.unit, cell.paper]
    note = "; ".join(filter(None, (cell.note, line.note)))
    same = agrees(column, cell)
    verdict = "" if same is None else "yes" if same else "no"
    if not cell.findings:
        return [[*place, None, None, NOT_RUN, verdict, note, ""]]
    return [
        [*place, finding.value, finding.spread, finding.how, verdict, note, finding.provenance]
        for finding in cell.findings
    ]


def to_json(tables: Sequence[Table]) -> str:
    """A list of tables, each with its columns and rows; numbers in full."""
    return json.dumps([to_dict(table) for table in tables], indent=2, ensure_ascii=False)


def to_dict(table: Table) -> dict[str, Any]:
    """A table as plain data."""
    return {
        "table": table.number,
        "title": table.title,
        "caption": table.caption,
        "columns": [
            {"key": column.key, "heading": column.heading, "unit": column.unit} for column in table.columns
        ],
        "rows": [
            {
                "label": line.label,
                "note": line.note,
                "cells": {
                    column.key: _cell_dict(column, cell)
                    for column, cell in zip(table.columns, line.cells, strict=True)
                    if not cell.is_empty
                },
            }
            for line in table.lines
        ],
    }


def _cell_dict(column: Column, cell: Cell) -> dict[str, Any]:
    return {
        "paper": cell.paper,
        "ours": [vars(finding) for finding in cell.findings],
        "how": cell.how,
        "agrees": agrees(column, cell),
        "note": cell.note,
    }


FORMATS: Final[dict[str, Callable[[Sequence[Table]], str]]] = {
    "text": to_text,
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
}


def differences(tables: Sequence[Table]) -> str:
    """The cells that are not the published ones within their rounding, and why, as Markdown."""
    lines = [_markdown_row(["table", "row", "quantity", "paper", "ours", "why"]), _markdown_row(["---"] * 6)]
    for table in tables:
        for line, column, cell in table.differences:
            why = cell.note or line.note or "unexplained"
            ours = column.our_text(cell.findings[0])
            cells = [str(table.number), line.label, column.title, column.paper_text(cell), ours, why]
            lines.append(_markdown_row(cells))
    return "\n".join(lines)


def summary(tables: Sequence[Table]) -> str:
    """One line a table: its title, and how many of its cells are filled, by origin."""
    rows = [("table", "", "filled", "of", "by")]
    for table in tables:
        fill = table.fill
        origins = ", ".join(f"{count} {origin}" for origin, count in fill.items() if origin != NOT_RUN)
        filled = sum(fill.values()) - fill[NOT_RUN]
        rows.append(
            (str(table.number), table.title, str(filled), str(sum(fill.values())), origins or NOT_RUN)
        )
    title = max(len(row[1]) for row in rows)
    return "\n".join(
        f"{number:>5}  {name:<{title}}  {filled:>6} {of:>4}  {by}" for number, name, filled, of, by in rows
    )
