"""Tables as text, Markdown, CSV and JSON, compared with what a person would write."""

import csv
import io
import json

import pytest

from lambdanets.paper.formats import _to_csv, differences, summary, to_json, to_markdown, to_text
from lambdanets.paper.results import Result
from lambdanets.paper.schema import Cell, Column, Table
from lambdanets.published import Row
from support.tables import trained

SIZE = Column(key="parameters_m", heading="parameters", unit="M", our_decimals=3)
TOP1 = Column(key="top1", heading="top-1", unit="%", our_decimals=1)
COUNTED = Result(table=8, row="k|h", column="parameters_m", value=15.031144, kind="counted")
DIGITS = trained((98.75, 98.55, 98.95))
RELATION = trained((50.0,), dataset="relation")
FIRST = Row(table=8, label="k|h", values={"parameters_m": 14.8, "top1": 77.2}, notes={"label": "of the row"})
SECOND = Row(table=8, label="other", values={"top1": 77.0})
TABLE = Table(
    number=8,
    title="Depth and heads",
    caption="A caption.",
    row_heading="layer",
    columns=(SIZE, TOP1),
    rows=(
        (FIRST, (Cell(row=FIRST, column=SIZE, results=(COUNTED,), note="why"), Cell(row=FIRST, column=TOP1))),
        (
            SECOND,
            (Cell(row=SECOND, column=SIZE), Cell(row=SECOND, column=TOP1, results=(DIGITS, RELATION))),
        ),
    ),
)
ORIGIN = "Chip, 2 cores; 2026-11-21, commit abc, torch 2.13; `lambdanets tables 12 --measure`"

TEXT = f"""\
Table 8. Depth and heads
A caption.

         parameters, M                         top-1, %
layer            paper    ours  how               paper        ours  how
k|h [1]           14.8  15.031  counted ≠ [2]      77.2           -  not run
other                                              77.0  98.8 ± 0.2  trained on digits, 3 seeds [3]
                                                               50.0  trained on relation, 1 seed [3]

[1] of the row
[2] why
[3] {ORIGIN}"""

NARROW = """\
Table 8. Depth and heads
A caption.

         parameters, M
layer            paper    ours  how
k|h [1]           14.8  15.031  counted ≠ [2]
other

         top-1, %
layer       paper        ours  how
k|h [1]      77.2           -  not run
other        77.0  98.8 ± 0.2  trained on digits, 3 seeds [3]
                         50.0  trained on relation, 1 seed [3]
"""

MARKDOWN = f"""\
### Table 8. Depth and heads

A caption.

| layer | parameters, M: paper | ours | how | top-1, %: paper | ours | how |
| --- | --- | --- | --- | --- | --- | --- |
| k\\|h [1] | 14.8 | 15.031 | counted ≠ [2] | 77.2 | - | not run |
| other |  |  |  | 77.0 | 98.8 ± 0.2 | trained on digits, 3 seeds [3] |
|  |  |  |  |  | 50.0 | trained on relation, 1 seed [3] |

- [1] of the row
- [2] why
- [3] {ORIGIN}"""


def test_text() -> None:
    assert to_text([TABLE]) == TEXT
    assert to_text([TABLE, TABLE]) == f"{TEXT}\n\n{TEXT}"


def test_a_terminal_that_is_too_narrow_gets_one_quantity_after_the_other() -> None:
    assert to_text([TABLE], 200) == TEXT
    assert to_text([TABLE], 70).startswith(NARROW)


def test_markdown() -> None:
    assert to_markdown([TABLE]) == MARKDOWN


def test_csv_has_every_number_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(_to_csv([TABLE]))))
    assert ",".join(rows[0]) == "table,row,quantity,unit,paper,ours,spread,how,agrees,note,provenance"
    assert [(row["row"], row["quantity"], row["paper"], row["ours"], row["how"]) for row in rows] == [
        ("k|h", "parameters_m", "14.8", "15.031144", "counted"),
        ("k|h", "top1", "77.2", "", "not run"),
        ("other", "top1", "77.0", "98.75", "trained on digits, 3 seeds"),
        ("other", "top1", "77.0", "50.0", "trained on relation, 1 seed"),
    ]
    assert [row["agrees"] for row in rows] == ["no", "", "", ""]
    assert rows[0]["note"] == "why; of the row"
    assert (rows[2]["spread"], rows[2]["provenance"]) == (str(DIGITS.spread), ORIGIN)


def test_json_has_everything() -> None:
    (table,) = json.loads(to_json([TABLE]))
    assert (table["table"], table["caption"]) == (8, "A caption.")
    assert table["columns"][0] == {"key": "parameters_m", "heading": "parameters", "unit": "M"}
    first, second = table["rows"]
    assert first["cells"]["parameters_m"]["ours"] == [
        {"value": 15.031144, "origin": "counted", "how": "counted", "spread": None, "provenance": ""}
    ]
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
    assert TABLE.counts == {"counted": 1, "trained": 1, "not run": 1}


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
    def cell(*kinds: str) -> Cell:
        return Cell(
            row=Row(table=1, label="r", values={} if paper is None else {"x": paper}),
            column=Column(key="x", heading="x", decimals=decimals),
            results=tuple(Result(table=1, row="r", column="x", value=ours, kind=kind) for kind in kinds),
        )

    assert cell("computed").agrees is cell("counted").agrees is same
    assert all(cell(*kinds).agrees is None for kinds in (("measured",), ("trained",), ("stated",), ()))


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
    assert column.our_text(Result(table=1, row="", column="x", value=value, kind="computed")) == text


def test_the_paper_s_digits_are_kept() -> None:
    column = Column(key="x", heading="x", decimals=2)
    for value, text in ((3.5, "3.50"), (0.058, "0.058"), (38, "38.00"), ("out of memory", "out of memory")):
        assert Cell(row=Row(table=1, label="", values={"x": value}), column=column).paper_text == text
    assert Cell(row=Row(table=1, label=""), column=column).paper_text == "-"
