"""Figure 4: the published points, and ours where there are any."""

from pathlib import Path

import pytest
from PIL import Image

from lambdanets.paper.figure import Point, _speed_panels, _spread, draw_figure_4, plot
from lambdanets.paper.results import _choose_results
from lambdanets.published import RESNET_RS, TABLES
from lambdanets.runs.figure_style import save_figure
from support.figures import assert_readable
from support.tables import measured


@pytest.mark.slow
def test_published_points_are_those_of_the_tables(tmp_path: Path) -> None:
    panels, caption = _speed_panels({})
    figure, same = draw_figure_4({})
    save_figure(figure, tmp_path / "figure.png")
    assert same == caption
    assert_readable(figure)
    assert list(panels) == ["published, on 8 TPUv3 cores"]
    (families,) = panels.values()
    expected = [row for row in TABLES[18] if "top1" in row.values]
    assert [(one.seconds, one.accuracy) for one in families["LambdaResNet"]] == [
        (row.values["step_s"], row.values["top1"]) for row in expected
    ]
    assert len(families["ResNet-RS"]) == len(RESNET_RS)
    assert "none of these networks was trained here" in caption
    with Image.open(tmp_path / "figure.png") as image:
        assert min(image.size) > 500


@pytest.mark.slow
def test_measured_speeds_stand_beside_published_accuracy() -> None:
    ours = measured(45.0, table=18, row="LambdaResNet-50 at 160", column="step_s")
    panels, caption = _speed_panels(_choose_results([ours]))
    assert panels["measured, Chip, 2 cores"] == {"LambdaResNet": [Point("50 at 160", 45.0, 79.2)]}
    assert "Speeds on the right are ours: measured on Chip, 2 cores, batch 8, float32; thin lines" in caption


def test_a_measurement_has_its_fastest_and_slowest_repetition() -> None:
    settings = {"batch": 8, "precision": "float32", "seconds": 2.0, "fastest": 1.0, "slowest": 3.0}
    assert _spread(measured(50.0, settings=settings)) == (25.0, 75.0)
    assert _spread(measured(50.0)) is None
    (axes,) = plot({"one": {"family": [Point("a", 50.0, 80.0, (25.0, 75.0))]}}, "caption").axes
    (line,) = axes.collections[0].get_segments()
    assert line.tolist() == [[25.0, 80.0], [75.0, 80.0]]


def test_labels_of_points_that_are_close_stand_apart() -> None:
    near = [
        Point(f"{depth} at 256", 1 + 0.01 * place, 84 + 0.02 * place)
        for place, depth in enumerate((270, 350, 420))
    ]
    far = [Point("50 at 128", 0.05, 77.0), Point("420 at 320", 2.0, 85.0)]
    panel = {
        "LambdaResNet": [*near, *far],
        "ResNet-RS": [point._replace(accuracy=point.accuracy - 0.1) for point in near],
    }
    figure = plot(
        {"published": panel, "measured, " + "a processor of a long name, " * 5: panel}, "words " * 80
    )
    assert_readable(figure)


def test_a_point_is_drawn_where_it_is() -> None:
    points = [Point("b", 2.0, 81.0), Point("a", 1.0, 80.0)]
    figure = plot({"left": {"one": points}, "right": {"one": points[:1]}}, "caption")
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1.0, 80.0], [2.0, 81.0]]
    assert {text.get_text() for text in left.texts} == {"a", "b"}
    assert (right.get_title(), left.get_xscale()) == ("right", "log")
