"""A table of the paper as a part of the page: paper and ours side by side, and footnotes."""

from typing import Final

from lambdanets.paper.page.scrolling import scrolling_table, section, sorting_heading
from lambdanets.paper.tables.record import NOT_RUN, Cell, Column, Finding, Line, Table, agrees
from lambdanets.paper.tables.rendering import Notes
from lambdanets.published import Value
from lambdanets.runs.markup import Html, element

DIFFERENCE: Final = element("abbr", "≠", class_="unequal", title="not the paper's within its rounding")


def anchor_of(table: Table) -> str:
    """The `id` of its section."""
    return f"table-{table.number}"


def title_of(table: Table) -> str:
    """Number and title."""
    return f"Table {table.number}. {table.title}"


def table_section(table: Table) -> Html:
    """The table with its title, caption and notes."""
    anchor = anchor_of(table)
    marks = _Marks(anchor)
    rows = [_row(table, line, marks) for line in table.lines]
    grid = scrolling_table(anchor, table.caption, _head(table), rows)
    return section(anchor, title_of(table), grid, marks.footnotes())


def badge(origin: str) -> Html:
    """How a number was obtained, in a word."""
    return element("b", origin, class_=f"badge {origin.replace(' ', '-')}")


class _Marks:
    """Numbers of footnotes that lead to them."""

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._notes = Notes()

    def links(self, *texts: str) -> list[Html]:
        """A link for each note; equal notes share a number."""
        self._notes.mark(*texts)
        numbers = [self._notes.texts.index(text) + 1 for text in texts if text]
        return [
            element("a", f"[{number}]", href=f"#{self._anchor}-note-{number}", class_="mark")
            for number in numbers
        ]

    def footnotes(self) -> Html:
        """The notes in the order of their numbers."""
        notes = (
            element("li", text, id=f"{self._anchor}-note-{number}")
            for number, text in enumerate(self._notes.texts, start=1)
        )
        return element("ol", *notes, class_="notes") if self._notes.texts else Html()


def _head(table: Table) -> list[Html]:
    groups = (element("th", column.title, scope="colgroup", colspan=2) for column in table.columns)
    under = [
        sorting_heading(1 + 2 * place + side, text, column.title, class_=text)
        for place, column in enumerate(table.columns)
        for side, text in enumerate(("paper", "ours"))
    ]
    first = sorting_heading(0, table.row_heading, rowspan=2)
    return [element("tr", first, *groups), element("tr", *under)]


def _row(table: Table, line: Line, marks: _Marks) -> Html:
    label = element("th", line.label, *marks.links(line.note), scope="row", data_sort=line.label)
    cells: list[Html] = []
    for column, cell, kind, width in zip(table.columns, line.cells, *_looks(table), strict=True):
        cells += [_paper(column, cell, kind), _ours(column, cell, kind, width, marks)]
    return element("tr", label, *cells)


def _looks(table: Table) -> tuple[list[str], list[int]]:
    """For each column whether it holds numbers or words, and how wide the widest of ours is."""
    kinds, widths = [], []
    for place, column in enumerate(table.columns):
        cells = [line.cells[place] for line in table.lines]
        findings = [finding for cell in cells for finding in cell.findings]
        values = [cell.paper for cell in cells] + [finding.value for finding in findings]
        kinds.append("number" if any(isinstance(value, int | float) for value in values) else "words")
        widths.append(max((len(column.our_text(finding)) for finding in findings), default=1))
    return kinds, widths


def _paper(column: Column, cell: Cell, kind: str) -> Html:
    text = "" if cell.is_empty else column.paper_text(cell)
    return element("td", text, class_=f"paper {kind}", data_sort=_sorted_by(cell.paper))


def _ours(column: Column, cell: Cell, kind: str, width: int, marks: _Marks) -> Html:
    differs = agrees(column, cell) is False
    if cell.is_empty:
        lines = []
    elif not cell.findings:
        lines = [_finding("-", badge(NOT_RUN), width, marks.links(cell.note))]
    else:
        lines = [
            _finding(
                column.our_text(finding),
                _how(finding),
                width,
                [DIFFERENCE] if differs and place == 0 else [],
                marks.links(cell.note if place == 0 else "", finding.provenance),
            )
            for place, finding in enumerate(cell.findings)
        ]
    classes = f"ours {kind} differs" if differs else f"ours {kind}"
    return element("td", *lines, class_=classes, data_sort=_sorted_by(cell.value))


def _finding(text: str, how: Html, width: int, *behind: list[Html]) -> Html:
    """One number of ours, as wide as the column's widest so that the digits of all rows stand in line."""
    number = element("span", text, class_="value", style=f"min-width: {width}ch")
    return element("div", number, how, *(mark for marks in behind for mark in marks), class_="finding")


def _how(finding: Finding) -> Html:
    word, rest = badge(finding.origin), finding.how.removeprefix(finding.origin)
    # Words of another kind than the origin's would be shown in full.
    if rest == finding.how:
        return element("span", rest, class_="how")
    return element("span", word, rest, class_="how")


def _sorted_by(value: Value | None) -> str:
    return "" if value is None else str(value)
