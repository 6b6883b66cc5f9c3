"""Images: what is drawn is what was given."""

import warnings

import numpy as np
import pytest
from PIL import Image

from lambdanets.errors import ArgumentError
from lambdanets.runs.figure_style import save_figure
from lambdanets.runs.plots import confusion, learning_curves, position_tables
from support.figures import assert_readable

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


LONG = (
    "imagenet-lambda-resnet152-256: lambda_resnet152, of /a/folder/with_a_name/that_has/no_blank_at/all " * 2
)


def _records(num, accuracy=0.9, **more):
    """A run with noise, so that lines are everywhere."""
    noise = np.random.default_rng(0).uniform(0.9, 1.0, size=num)
    return [
        {
            "epoch": epoch,
            "learning_rate": 0.1 * value,
            **{f"{part}_loss": 2 * value for part in ("train", "test", "raw_test")},
            **{f"{part}_accuracy": accuracy * value for part in ("train", "test", "raw_test")},
            **more,
        }
        for epoch, value in enumerate(noise.tolist(), 1)
    ]


@pytest.mark.parametrize("num", [1, 2, 350])
@pytest.mark.parametrize("accuracy", [0.0, 0.9, 1.0])
def test_curves_of_any_length_can_be_read(num, accuracy):
    figure = learning_curves(_records(num, accuracy), LONG if num == 2 else "short", "validation")
    assert_readable(figure)
    losses, errors, _ = figure.axes
    legend = ["train", "validation, EMA", "validation, raw"]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == legend
    low, high = errors.get_ylim()
    assert all(low < value < high for line in errors.lines for value in line.get_ydata())


def test_a_run_that_is_nearly_right_fills_its_panel():
    _, errors, _ = learning_curves([{**RECORDS[0], "train_accuracy": 1.0, "test_accuracy": 0.999}], "t").axes
    assert errors.get_ylim()[1] < 0.3


def test_a_detector_that_is_not_tested_each_epoch_has_points_where_it_is():
    records = [
        {"epoch": 1, "train_loss": 2.0, "learning_rate": 0.1, "box_ap": None, "mask_ap": None},
        {"epoch": 2, "train_loss": 1.0, "learning_rate": 0.1, "box_ap": 0.5, "mask_ap": None},
    ]
    figure = learning_curves(records, "title")
    assert_readable(figure)
    assert [line.get_xydata().tolist() for line in figure.axes[1].lines] == [[[2.0, 50.0]], []]


NAMES = ("Egyptian Mau (short-haired, spotted)", "soft-coated wheaten terrier", "a$b$ costs", "c")


@pytest.mark.parametrize(
    ("num", "most"),
    [(1, 3), (2, 1234567), (3, 10), (10, 99), pytest.param(30, 12345, marks=pytest.mark.slow), (31, 9)],
)
@pytest.mark.parametrize("names", [NAMES, "abcd"], ids=["long", "short"])
def test_confusion_of_any_shape_can_be_read(num, most, names):
    counts = np.random.default_rng(0).integers(0, most, (num, num)) * (np.arange(num) % 3 == 0)
    counts += most * np.eye(num, dtype=np.int64)
    figure = confusion(counts, [f"{names[i % 4]} {i}" for i in range(num)], LONG)
    assert_readable(figure)


def test_letters_that_no_font_has_are_no_reason_to_warn(tmp_path):
    figure = confusion(np.eye(2, dtype=np.int64), ["\u65e5\u672c", "b"], "title")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        save_figure(figure, tmp_path / "confusion.png")
    assert not warned
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (2, 8, 1, 27), (1, 3, 27, 3)])
def test_position_tables_of_any_shape_can_be_read(shape):
    tables = {f"a_long_name_of_a_layer.blocks.{i}.attention.mixer": np.ones(shape) for i in range(2)}
    assert_readable(position_tables(tables, LONG))


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
