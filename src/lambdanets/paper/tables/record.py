"""What a table is: plain data, that every format is written from."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from lambdanets.published import Number, Value

# No machine and no data set decides these: they can be held against the paper.
CERTAIN: Final = ("computed", "counted")
NOT_RUN: Final = "not run"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number of ours, and how it was obtained.

    Attributes:
        value: A number in the column's unit, or words where the paper has words.
        origin: `"stated"` (a name), `"computed"` (a closed form or a recipe), `"counted"` (from the modules),
            `"measured"` or `"trained"`.
        how: The origin in words: `"counted"`, `"measured on AMD EPYC, 2 cores, batch 8, float32"`, `"trained
            on digits, 5 seeds"`.
        spread: Standard deviation over the seeds; None without several.
        provenance: Date, commit, versions and command of what was run; empty otherwise.
    """

    value: Value
    origin: str
    how: str
    spread: Number | None = None
    provenance: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One quantity.

    Attributes:
        key: Its name in `paper`, in results, CSV and JSON, with the unit in it: `parameters_m`.
        heading: What people read.
        unit: Of the paper's number and ours; empty where there is none.
        decimals: Digits after the point that the paper prints at least.
        our_decimals: Digits after the point of ours.
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

    def paper_text(self, cell: "Cell") -> str:
        """The published number with the digits the paper prints; a dash where it prints none."""
        if cell.paper is None:
            return "-"
        return cell.paper if isinstance(cell.paper, str) else f"{cell.paper:.{self.digits(cell.paper)}f}"

    def our_text(self, finding: Finding) -> str:
        """Our number, with the spread where there is one."""
        if isinstance(finding.value, str):
            return finding.value
        # A small number keeps three digits that say something.
        digits = self.our_decimals
        while digits < 6 and 0 < abs(finding.value) < 10 ** (2 - digits):
            digits += 1
        spread = "" if finding.spread is None else f" ± {finding.spread:.{digits}f}"
        return f"{finding.value:.{digits}f}{spread}"

    def digits(self, paper: Number) -> int:
        """Digits after the point that the paper prints of one number."""
        _, _, shown = repr(paper).partition(".")
        return max(self.decimals, len(shown) if isinstance(paper, float) else 0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One quantity of one row.

    Attributes:
        paper: As published; None where the paper prints nothing.
        findings: Ours: none (not run), one, or several data sets or machines.
        note: What to know of the difference or of the published number.
    """

    paper: Value | None = None
    findings: tuple[Finding, ...] = ()
    note: str = ""

    @property
    def value(self) -> Value | None:
        """The first of ours."""
        return self.findings[0].value if self.findings else None

    @property
    def how(self) -> str:
        """How the first of ours was obtained."""
        return self.findings[0].how if self.findings else NOT_RUN

    @property
    def is_empty(self) -> bool:
        """Whether neither the paper nor we have anything."""
        return self.paper is None and not self.findings


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table: a cell for each column.

    Attributes:
        label: What it shows.
        cells: In the order of the columns.
        note: On the row as a whole.
    """

    label: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper, restated.

    Attributes:
        number: In the camera-ready paper.
        title: In a few words.
        caption: What it says and how ours is made, in our words.
        row_heading: What the labels of the rows are.
        columns: The quantities.
        lines: The rows.
    """

    number: int
    title: str
    caption: str
    row_heading: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def cells(self) -> tuple[tuple[Line, Column, Cell], ...]:
        """Every cell with its place, less those where neither side has anything."""
        return tuple(
            (line, column, cell)
            for line in self.lines
            for column, cell in zip(self.columns, line.cells, strict=True)
            if not cell.is_empty
        )

    @property
    def fill(self) -> Counter[str]:
        """How many cells there are of each origin; those without one are `"not run"`."""
        return Counter(cell.findings[0].origin if cell.findings else NOT_RUN for _, _, cell in self.cells)

    @property
    def differences(self) -> tuple[tuple[Line, Column, Cell], ...]:
        """The cells whose certain value is not the published one within its rounding."""
        return tuple(place for place in self.cells if agrees(place[1], place[2]) is False)


def agrees(column: Column, cell: Cell) -> bool | None:
    """Whether ours is the published value within its rounding.

    None where there is nothing to compare: one side is empty, or ours is measured or trained, which
    machines and data sets decide.
    """
    if cell.paper is None or not cell.findings or cell.findings[0].origin not in CERTAIN:
        return None
    ours = cell.findings[0].value
    if isinstance(cell.paper, str) or isinstance(ours, str):
        return cell.paper == ours
    # A little more than half a digit, for the rounding of floats.
    return abs(ours - cell.paper) <= 0.500001 * 10 ** -column.digits(cell.paper)
