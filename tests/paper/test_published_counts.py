"""Every row of the paper that can be counted: parameters and FLOPs, to the printed digit or with a note."""

import pytest
import torch

from lambdanets import create_model
from lambdanets.analysis.counting import count_layers
from lambdanets.paper import TABLES, Row

ROWS = [row for number in (8, 9, 10, 12, 13) for row in TABLES[number]]


def build(row: Row) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(row.model, image_size=row.image_size, **row.overrides)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if "parameters_m" in row.values],
    ids=lambda row: f"table{row.table}-{row.label}".replace(" ", "_"),
)
def test_parameters_equal_the_published_or_the_row_says_why_not(row: Row) -> None:
    counted = sum(parameter.numel() for parameter in build(row).parameters()) / 1e6
    assert (round(counted, 1) == row.values["parameters_m"]) == ("parameters_m" not in row.notes), counted


@pytest.mark.parametrize("row", [row for row in ROWS if "flops_g" in row.values], ids=lambda row: row.label)
def test_flops_equal_the_published(row: Row) -> None:
    layers = count_layers(build(row), (3, row.image_size, row.image_size))
    counted = sum(layer.flops for layer in layers) / 1e9
    assert round(counted, 1) == row.values["flops_g"], counted


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
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in create_model(model).parameters()) == parameters


def test_largest_c4_model_of_table_15_has_42_million_parameters() -> None:
    with torch.device("meta"):
        model = create_model("lambda_resnet200_c4", image_size=320)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 42
