"""The twenty tables, filled with the published rows and all that is known of ours."""

from dataclasses import replace
from itertools import compress
from typing import Final

from lambdanets.errors import ArgumentError, DependencyError
from lambdanets.paper.captions import CAPTIONS
from lambdanets.paper.computed import compute, growth_note
from lambdanets.paper.results import Results
from lambdanets.paper.schema import Cell, Column, Table
from lambdanets.published import RESNET_RS, TABLES, Row

NUMBERS: Final = tuple(CAPTIONS)


def rows_of(number: int) -> tuple[Row, ...]:
    """The rows of a table; Table 18 also has those of ResNet-RS that Figure 4 draws."""
    if number in (2, 7):
        return tuple(replace(row, notes={**row.notes, "label": growth_note(row)}) for row in TABLES[number])
    return (*TABLES[number], *RESNET_RS) if number == 18 else TABLES[number]


def table(number: int, results: Results | None = None) -> Table:
    """Make a table of the paper with ours beside it.

    Args:
        number: 1 to 20, as in the camera-ready paper.
        results: Measured and trained results.

    Raises:
        ArgumentError: There is no table of that number.
    """
    if number not in CAPTIONS:
        raise ArgumentError(f"tables: number must be from 1 to {len(CAPTIONS)}, got {number}.")
    empty = CAPTIONS[number]
    known = results or Results()
    rows = [(row, [_cell(row, column, known) for column in empty.columns]) for row in rows_of(number)]
    # A quantity that the paper does not print and nobody has measured is no column.
    used = [not all(cells[place].is_empty for _, cells in rows) for place, _ in enumerate(empty.columns)]
    return replace(
        empty,
        columns=tuple(compress(empty.columns, used)),
        rows=tuple((row, tuple(compress(cells, used))) for row, cells in rows),
    )


def _cell(row: Row, column: Column, results: Results) -> Cell:
    note = row.notes.get(column.key, "")
    try:
        computed = compute(row, column.key)
    except DependencyError as error:
        computed, note = None, str(error)
    found = (computed,) if computed else results.find(row.table, row.label, column.key)
    return Cell(row=row, column=column, results=found, note=note)
