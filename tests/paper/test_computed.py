"""Every row of the paper that can be counted: to the printed digit, or with a note that says why not."""

import pytest

from lambdanets.paper.computed import _COMPUTED, compute
from lambdanets.paper.results import EXACT
from lambdanets.paper.schema import NOT_RUN
from lambdanets.paper.tables import NUMBERS, rows_of, table
from lambdanets.published import TABLES, Row
from support.baselines import baseline_or_skip

# What `docs/reproduction.md` says of each: a cell that joins or leaves this list is news.
DIFFERENT = {
    (3, "convolution + linear attention, Chen 2018", "parameters_m"),
    (3, "local relative attention, Hu 2019", "parameters_m"),
    (4, "global self-attention", "memory_gib"),
    (4, "lambda layer, k=8", "memory_gib"),
    (5, "ViT-L/16 at 384, pre-trained on JFT", "parameters_m"),
    (6, "multi-head lambda layer", "space"),
    (6, "multi-query lambda layer", "space"),
    *((8, f"k={k} h={h} u=1", "parameters_m") for k, h in ((8, 2), (8, 16), (2, 4), (2, 8), (4, 8), (32, 8))),
    (9, "content and position", "parameters_m"),
    (12, "C-C-L-L", "parameters_m"),
    (16, "LambdaResNet-270-C4 at 256, 7×7", "flops_g"),
    (17, "MobileNetV2", "flops_m"),
    (17, "MobileNetV2 with 2 lambda blocks", "parameters_m"),
    (17, "MobileNetV2 with 2 lambda blocks", "flops_m"),
}


# Tables of many, of deep or of timm's networks.
LONG = (3, 5, 8, 9, 10, 15, 16, 18, 20)


@pytest.mark.parametrize(
    "number", [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in NUMBERS]
)
def test_every_exact_cell_is_the_published_one_or_says_why_not(number: int) -> None:
    if number in (5, 15, 16):
        baseline_or_skip("efficientnet_b0")
    differing = set()
    for cell in table(number).differences:
        differing.add((number, cell.row.label, cell.column.key))
        assert cell.note, (cell.row.label, cell.column.key)
    assert differing == {place for place in DIFFERENT if place[0] == number}


@pytest.mark.parametrize("number", [2, 6, 7, 19, pytest.param(20, marks=pytest.mark.slow)])
def test_tables_without_accuracy_or_speed_are_full(number: int) -> None:
    assert table(number).counts[NOT_RUN] == 0


@pytest.mark.slow
def test_all_that_can_be_counted_is() -> None:
    """Every published number of parameters, FLOPs, memory or form has ours beside it."""
    countable = _COMPUTED.keys() - {"definition"}
    for number in set(NUMBERS) - {5, 15, 16}:
        for cell in table(number).cells:
            if cell.column.key in countable and cell.paper is not None:
                assert cell.kind in EXACT, (number, cell.row.label, cell.column.key)


def test_rows_have_a_label_each_and_belong_to_their_table() -> None:
    for number in NUMBERS:
        rows = rows_of(number)
        assert len({row.label for row in rows}) == len(rows)
        assert all(row.table == number for row in rows)
        noted = [(row, key) for row in rows for key, note in row.notes.items() if note]
        assert all(key == "label" or key in row.values for row, key in noted)


@pytest.mark.slow
def test_columns_have_every_published_number() -> None:
    for number, rows in TABLES.items():
        keys = {column.key for column in table(number).columns}
        assert {name for row in rows for name in row.values} <= keys, number


@pytest.mark.slow
def test_a_doubtful_row_is_never_met_by_tuning() -> None:
    """One network of Table 8 stands in Tables 9 and 12 too, with two printed counts: ours is one."""
    counts = {
        (number, cell.row.label): cell.value
        for number in (8, 9, 12)
        for cell in table(number).cells
        if cell.column.key == "parameters_m"
    }
    assert (
        counts[8, "k=16 h=4 u=1"] == counts[9, "content and position"] == counts[12, "L-L-L-L"] == 14.995592
    )


# Not printed in the paper to this precision: counted by hand from its description.
@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("resnet50", 25_557_032),
        ("resnet50_llll", 14_995_592),
        ("lambda_resnet50", 18_963_272),
        ("lambda_resnet101", 36_866_920),
        ("lambda_resnet152", 51_404_696),
        ("lambda_resnet101_c4", 25_982_120),
        ("lambda_resnet152_c4", 35_077_496),
        ("resnet_rs50", 35_691_912),
        ("resnet_rs101", 63_618_696),
        ("resnet_rs152", 86_621_576),
    ],
)
def test_exact_parameters(model: str, parameters: int) -> None:
    counted = compute(Row(table=0, label="", model=model), "parameters_m")
    assert counted is not None and counted.value == parameters / 1e6


def test_a_row_without_a_model_is_not_counted() -> None:
    assert compute(Row(table=3, label="nobody's"), "parameters_m") is None
