"""Figure 4: the published points, and ours where there are any."""

from pathlib import Path

import pytest
from PIL import Image

from lambdanets.paper.speed_plot import Point, speed_accuracy
from lambdanets.paper.tables import figure as module
from lambdanets.paper.tables.figure import draw
from lambdanets.paper.tables.results import Results
from lambdanets.published import RESNET_RS, TABLES
from support.tables import measured


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What is drawn."""
    drawn: dict = {}

    def spy(given, caption):
        drawn.update(given)
        return speed_accuracy(given, caption)

    monkeypatch.setattr(module, "speed_accuracy", spy)
    return drawn


@pytest.mark.slow
def test_published_points_are_those_of_the_tables(panels: dict, tmp_path: Path) -> None:
    caption = draw(Results(), tmp_path / "figure.png")
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
def test_measured_speeds_stand_beside_published_accuracy(panels: dict, tmp_path: Path) -> None:
    ours = measured(45.0, table=18, row="LambdaResNet-50 at 160", column="step_s")
    caption = draw(Results(results=(ours,)), tmp_path / "figure.png")
    assert panels["measured, Chip, 2 cores"] == {
        "LambdaResNet": [Point(label="50 at 160", seconds=45.0, accuracy=79.2)]
    }
    assert "Speeds on the right are ours: measured on Chip, 2 cores, batch 8, float32." in caption


def test_a_point_is_drawn_where_it_is() -> None:
    points = [Point(label="b", seconds=2.0, accuracy=81.0), Point(label="a", seconds=1.0, accuracy=80.0)]
    figure = speed_accuracy({"left": {"one": points}, "right": {"one": points[:1]}}, "caption")
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1.0, 80.0], [2.0, 81.0]]
    assert [text.get_text() for text in left.texts] == ["a", "b"]
    assert (right.get_title(), left.get_xscale()) == ("right", "log")
