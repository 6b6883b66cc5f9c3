"""Tables as text, Markdown, CSV and JSON, compared with what a person would write."""

import csv
import io
import json

import pytest

from lambdanets.paper.tables.record import Cell, Column, Finding, Line, Table, agrees
from lambdanets.paper.tables.rendering import (
    CSV_FIELDS,
    differences,
    summary,
    to_csv,
    to_json,
    to_markdown,
    to_text,
)

SIZE = Column(key="parameters_m", heading="parameters", unit="M", our_decimals=3)
TOP1 = Column(key="top1", heading="top-1", unit="%", our_decimals=1)
COUNTED = Finding(value=15.031144, origin="counted", how="counted")
DIGITS = Finding(value=98.75, origin="trained", how="trained on digits, 5 seeds", spread=0.2, provenance="x")
RELATION = Finding(value=50.0, origin="trained", how="trained on relation, 1 seed", provenance="y")
TABLE = Table(
    number=8,
    title="Depth and heads",
    caption="A caption.",
    row_heading="layer",
    columns=(SIZE, TOP1),
    lines=(
        Line(
            label="k|h",
            note="of the row",
            cells=(Cell(paper=14.8, findings=(COUNTED,), note="why"), Cell(paper=77.2)),
        ),
        Line(label="other", cells=(Cell(), Cell(paper=77.0, findings=(DIGITS, RELATION)))),
    ),
)

TEXT = """\
Table 8. Depth and heads
A caption.

          parameters, M                  top-1, %
layer     paper    ours  how             paper        ours  how
k|h [1]    14.8  15.031  counted ≠ [2]    77.2           -  not run
other                                     77.0  98.8 ± 0.2  trained on digits, 5 seeds [3]
                                                      50.0  trained on relation, 1 seed [4]

[1] of the row
[2] why
[3] x
[4] y"""

NARROW = """\
Table 8. Depth and heads
A caption.

          parameters, M
layer     paper    ours  how
k|h [1]    14.8  15.031  counted ≠ [2]
other

          top-1, %
layer     paper        ours  how
k|h [1]    77.2           -  not run
other      77.0  98.8 ± 0.2  trained on digits, 5 seeds [3]
                       50.0  trained on relation, 1 seed [4]
"""

MARKDOWN = """\
### Table 8. Depth and heads

A caption.

| layer | parameters, M: paper | ours | how | top-1, %: paper | ours | how |
| --- | --- | --- | --- | --- | --- | --- |
| k\\|h [1] | 14.8 | 15.031 | counted ≠ [2] | 77.2 | - | not run |
| other |  |  |  | 77.0 | 98.8 ± 0.2 | trained on digits, 5 seeds [3] |
|  |  |  |  |  | 50.0 | trained on relation, 1 seed [4] |

- [1] of the row
- [2] why
- [3] x
- [4] y"""


def test_text() -> None:
    assert to_text([TABLE]) == TEXT
    assert to_text([TABLE, TABLE]) == f"{TEXT}\n\n{TEXT}"


def test_a_terminal_that_is_too_narrow_gets_one_quantity_after_the_other() -> None:
    assert to_text([TABLE], 200) == TEXT
    assert to_text([TABLE], 70).startswith(NARROW)


def test_markdown() -> None:
    assert to_markdown([TABLE]) == MARKDOWN


def test_csv_has_every_number_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([TABLE]))))
    assert list(rows[0]) == list(CSV_FIELDS)
    assert [(row["row"], row["quantity"], row["paper"], row["ours"], row["how"]) for row in rows] == [
        ("k|h", "parameters_m", "14.8", "15.031144", "counted"),
        ("k|h", "top1", "77.2", "", "not run"),
        ("other", "top1", "77.0", "98.75", "trained on digits, 5 seeds"),
        ("other", "top1", "77.0", "50.0", "trained on relation, 1 seed"),
    ]
    assert [row["agrees"] for row in rows] == ["no", "", "", ""]
    assert rows[0]["note"] == "why; of the row"
    assert (rows[2]["spread"], rows[2]["provenance"]) == ("0.2", "x")


def test_json_has_everything() -> None:
    (table,) = json.loads(to_json([TABLE]))
    assert (table["table"], table["caption"]) == (8, "A caption.")
    assert table["columns"][0] == {"key": "parameters_m", "heading": "parameters", "unit": "M"}
    first, second = table["rows"]
    assert first["cells"]["parameters_m"]["ours"] == [vars(COUNTED)]
    assert (first["cells"]["parameters_m"]["agrees"], first["cells"]["top1"]["how"]) == (False, "not run")
    assert second["cells"].keys() == {"top1"}


def test_summary_counts_cells_by_origin() -> None:
    assert summary([TABLE]).splitlines()[1].split() == [
        "8",
        "Depth",
        "and",
        "heads",
        "2",
        "3",
        "1",
        "counted,",
        "1",
        "trained",
    ]
    assert TABLE.fill == {"counted": 1, "trained": 1, "not run": 1}


def test_differences_say_why() -> None:
    assert differences([TABLE]).splitlines()[2:] == ["| 8 | k\\|h | parameters, M | 14.8 | 15.031 | why |"]


@pytest.mark.parametrize(
    ("decimals", "paper", "ours", "same"),
    [
        (0, 15.0, 15.049, True),
        (0, 15.0, 15.051, False),
        (0, 66, 66.348, True),
        (0, 66, 65.4, False),
        (2, 3.5, 3.505, True),
        (2, 3.5, 3.506, False),
        (0, 0.63, 0.625, True),
        (0, "Θ(n)", "Θ(n)", True),
        (0, "Θ(n)", "Θ(m)", False),
        (0, None, 1.0, None),
    ],
)
def test_a_number_agrees_when_it_rounds_to_the_printed_one(decimals, paper, ours, same) -> None:
    column = Column(key="x", heading="x", decimals=decimals)
    found = Finding(value=ours, origin="computed", how="computed")
    assert agrees(column, Cell(paper=paper, findings=(found,))) is same
    measured = Finding(value=ours, origin="measured", how="measured")
    assert agrees(column, Cell(paper=paper, findings=(measured,))) is None
    assert agrees(column, Cell(paper=paper)) is None


@pytest.mark.parametrize(
    ("decimals", "value", "text"),
    [
        (0, 1234567.0, "1234567"),
        (0, 35.1, "35.1"),
        (0, 0.3918, "0.392"),
        (2, 122.83, "122.83"),
        (1, 0.0, "0.0"),
    ],
)
def test_a_small_number_keeps_three_digits_and_thousands_are_not_separated(decimals, value, text) -> None:
    column = Column(key="x", heading="x", our_decimals=decimals)
    assert column.our_text(Finding(value=value, origin="computed", how="computed")) == text


def test_the_paper_s_digits_are_kept() -> None:
    column = Column(key="x", heading="x", decimals=2)
    assert [column.paper_text(Cell(paper=value)) for value in (3.5, 0.058, 38, None, "out of memory")] == [
        "3.50",
        "0.058",
        "38.00",
        "-",
        "out of memory",
    ]
