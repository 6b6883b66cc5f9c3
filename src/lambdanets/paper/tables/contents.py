"""One table with all that is known: the published rows, what is certain, and what was run."""

from lambdanets.errors import ArgumentError, DependencyError
from lambdanets.paper.tables.certain import certain_finding, growth_note, rows_of
from lambdanets.paper.tables.outlines import OUTLINES
from lambdanets.paper.tables.record import Cell, Line, Table
from lambdanets.paper.tables.results import Results
from lambdanets.published import Row

NUMBERS = tuple(OUTLINES)


def table(number: int, results: Results | None = None) -> Table:
    """A table of the paper with ours beside it.

    Args:
        number: 1 to 20, as in the camera-ready paper.
        results: What was measured and trained.

    Raises:
        ArgumentError: There is no table of that number.
    """
    if number not in OUTLINES:
        raise ArgumentError(f"tables: number must be from 1 to {len(OUTLINES)}, got {number}.")
    outline = OUTLINES[number]
    known = results or Results()
    rows = rows_of(number)
    columns = {column: tuple(_cell(row, column.key, known) for row in rows) for column in outline.columns}
    # What the paper does not print and nobody has measured is no column.
    shown = {column: cells for column, cells in columns.items() if not all(cell.is_empty for cell in cells)}
    return Table(
        number=number,
        title=outline.title,
        caption=outline.caption,
        row_heading=outline.row_heading,
        columns=tuple(shown),
        lines=tuple(
            Line(label=row.label, cells=cells, note=row.notes.get("label", growth_note(row)))
            for row, cells in zip(rows, zip(*shown.values(), strict=True), strict=True)
        ),
    )


def _cell(row: Row, key: str, results: Results) -> Cell:
    note = row.notes.get(key, "")
    try:
        certain = certain_finding(row, key)
    except DependencyError as error:
        certain, note = None, str(error)
    found = (certain,) if certain else results.findings(row.table, row.label, key)
    return Cell(paper=row.values.get(key), findings=found, note=note)
