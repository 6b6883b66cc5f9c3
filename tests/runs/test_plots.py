"""Images: what is drawn is what was given."""

import numpy as np
import pytest
from PIL import Image

from lambdanets.errors import ArgumentError
from lambdanets.runs.plots import confusion, learning_curves, position_tables, save_figure

RECORD = {
    "train_loss": 2.0,
    "test_loss": 1.5,
    "train_accuracy": 0.5,
    "test_accuracy": 0.75,
    "learning_rate": 0.1,
}
RECORDS = [{"epoch": epoch, **{key: value / epoch for key, value in RECORD.items()}} for epoch in (1, 2, 3)]


def test_curves_show_the_records():
    losses, errors, rates = learning_curves(RECORDS, "title").axes
    assert [line.get_ydata().tolist() for line in losses.lines] == [[2, 1, 2 / 3], [1.5, 0.75, 0.5]]
    assert errors.lines[1].get_ydata()[0] == pytest.approx(25.0)
    assert rates.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_confusion_writes_each_count_and_colours_mistakes_alone():
    counts = np.array([[9, 2, 0], [0, 8, 0], [1, 0, 7]])
    (axes,) = confusion(counts, ["a", "b", "c"], "title").axes
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "9", (1, 0): "2", (1, 1): "8", (0, 2): "1", (2, 2): "7"}
    colours = axes.images[0].get_array()
    assert colours.filled(0).tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_confusion_needs_a_label_for_each_row():
    with pytest.raises(
        ArgumentError, match=r"counts must have shape \(2, 2\), one row for each label, got \(3, 3\)"
    ):
        confusion(np.zeros((3, 3), dtype=np.int64), ["a", "b"], "title")


def test_each_layer_and_channel_has_a_panel_with_colours_about_zero():
    tables = {
        "first": np.random.default_rng(0).normal(size=(2, 3, 5, 7)),
        "second": np.full((1, 2, 3, 3), -4.0),
    }
    figure = position_tables(tables, "title")
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * 3 + 2
    for panel in panels:
        low, high = panel.images[0].get_clim()
        assert low == -high
    assert panels[-1].images[0].get_clim() == (-4.0, 4.0)
    assert np.array_equal(panels[4].images[0].get_array(), tables["first"][1, 1])
    assert panels[3].get_ylabel() == "first\nu=1\n5×7"


def test_a_long_title_stays_within_a_narrow_figure(tmp_path):
    figure = position_tables({"one": np.ones((1, 2, 3, 3))}, "a title of many words " * 8)
    save_figure(figure, tmp_path / "lambdas.png")
    title = figure.texts[0].get_window_extent()
    assert 0 <= title.x0 < title.x1 <= figure.bbox.width
    assert max(axes.get_window_extent().y1 for axes in figure.axes) <= title.y0


def test_no_layer_is_refused():
    with pytest.raises(
        ArgumentError, match=r"position_tables: tables must hold at least one layer, got none\."
    ):
        position_tables({}, "title")


def test_a_figure_is_written_as_png(tmp_path):
    save_figure(learning_curves(RECORDS[:1], "one epoch"), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG" and image.width > 800
        assert len(image.convert("L").getcolors()) > 50


def test_confusion_of_many_classes_is_colours_alone():
    counts = np.eye(200, dtype=np.int64) * 50
    counts[3, 7] = 2
    (axes,) = confusion(counts, [f"n{index}" for index in range(200)], "title").axes
    assert not axes.texts and len(axes.get_xticks()) < 20
    image = axes.images[0]
    assert image.get_array().filled(0).sum() == 2 and image.get_array()[3, 7] == 2
    # One mistake among many is still seen: more than a tenth of the way to the darkest.
    assert image.norm(1.0) > 0.1
