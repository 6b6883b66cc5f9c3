"""A table of the paper as plain data: columns, rows, and cells that hold the published value and ours."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from lambdanets.paper.results import EXACT, Result
from lambdanets.published import Number, Row, Value

NOT_RUN: Final = "not run"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One quantity.

    Attributes:
        key: Its name in the published rows, in results, CSV and JSON, with the unit in it: `parameters_m`.
        heading: For people.
        unit: Unit of both numbers; may be empty.
        decimals: Least number of decimals that the paper prints.
        our_decimals: Decimals of ours.
    """

    key: str
    heading: str
    unit: str = ""
    decimals: int = 0
    our_decimals: int = 0

    @property
    def title(self) -> str:
        """Heading and unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    def printed_decimals(self, number: Number) -> int:
        """Count the decimals that the paper prints of a number."""
        decimals = len(repr(number).partition(".")[2]) if isinstance(number, float) else 0
        return max(self.decimals, decimals)

    def our_text(self, result: Result) -> str:
        """Format one of our numbers, with its spread if it has one."""
        if isinstance(result.value, str):
            return result.value
        # A small number keeps three significant digits.
        decimals = self.our_decimals
        while decimals < 6 and 0 < abs(result.value) < 10 ** (2 - decimals):
            decimals += 1
        spread = "" if result.spread is None else f" ± {result.spread:.{decimals}f}"
        return f"{result.value:.{decimals}f}{spread}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One quantity of one row: the published value and ours.

    Attributes:
        row: The published row.
        column: The quantity.
        results: Ours: none (not run), one, or several data sets or machines.
        note: A doubt about the published number, or the reason of the difference.
    """

    row: Row
    column: Column
    results: tuple[Result, ...] = ()
    note: str = ""

    @property
    def paper(self) -> Value | None:
        """The published value; None where the paper prints nothing."""
        return self.row.values.get(self.column.key)

    @property
    def value(self) -> Value | None:
        """The first of ours."""
        return self.results[0].value if self.results else None

    @property
    def kind(self) -> str:
        """The kind of the first of ours, or `"not run"`."""
        return self.results[0].kind if self.results else NOT_RUN

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a published value nor one of ours."""
        return self.paper is None and not self.results

    @property
    def paper_text(self) -> str:
        """The published value as the paper prints it, a dash where it prints none."""
        if self.paper is None:
            return "-"
        if isinstance(self.paper, str):
            return self.paper
        return f"{self.paper:.{self.column.printed_decimals(self.paper)}f}"

    @property
    def our_texts(self) -> list[str]:
        """Our values as text, a dash where there is none."""
        return [self.column.our_text(result) for result in self.results] or ["-"]

    @property
    def agrees(self) -> bool | None:
        """Whether ours is the published value within its rounding.

        None where this cannot be said: one side is missing, or ours is stated, measured or trained.
        """
        if self.paper is None or self.kind not in EXACT:
            return None
        ours = self.results[0].value
        if isinstance(self.paper, str) or isinstance(ours, str):
            return self.paper == ours
        # A little more than half a unit of the last digit, for the rounding of floats.
        return abs(ours - self.paper) <= 0.500001 * 10 ** -self.column.printed_decimals(self.paper)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper, restated.

    Attributes:
        number: In the camera-ready paper.
        title: In a few words.
        caption: Its content and how ours is made, in our words.
        columns: The quantities.
        row_heading: Heading of the labels.
        rows: Each published row with its cells, in the order of the columns.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Column, ...]
    row_heading: str = "network"
    rows: tuple[tuple[Row, tuple[Cell, ...]], ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All cells that are not empty."""
        return [cell for _, cells in self.rows for cell in cells if not cell.is_empty]

    @property
    def counts(self) -> Counter[str]:
        """Number of cells of each kind, `"not run"` among them."""
        return Counter(cell.kind for cell in self.cells)

    @property
    def differences(self) -> list[Cell]:
        """The cells that do not agree with the paper."""
        return [cell for cell in self.cells if cell.agrees is False]

    @property
    def footnotes(self) -> list[str]:
        """All notes in the order of their first use; equal ones share a number, from 1."""
        notes: dict[str, None] = {}
        for row, cells in self.rows:
            notes[row.note] = None
            for cell in cells:
                if not cell.is_empty:
                    notes.update(dict.fromkeys((cell.note, *(result.provenance for result in cell.results))))
        return [note for note in notes if note]

    def footnote_numbers(self, *notes: str) -> list[int]:
        """Give the numbers of footnotes; empty notes have none."""
        footnotes = self.footnotes
        return [footnotes.index(note) + 1 for note in notes if note]
