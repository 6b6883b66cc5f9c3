"""Images of a lambda layer: what is drawn is what was given, where it was given."""

import numpy as np
import pytest

from lambdanets.errors import ArgumentError
from lambdanets.explain.plots import Panel, PixelPanel, content_figure, field_figure, key_figure
from lambdanets.runs.figure_style import save_figure
from support.figures import assert_readable

RNG = np.random.default_rng(0)


def _panels(count, shape):
    return [Panel(f"panel {i}", RNG.normal(size=shape)) for i in range(count)]


def _maps(figure):
    """Axes with a title and an image, in the order of drawing: colour bars have none."""
    return [axes for axes in figure.axes if axes.images and axes.get_title()]


def test_each_key_has_a_panel_with_the_query_at_zero():
    panels = _panels(11, (5, 7))
    figure = key_figure(panels, "title", "R")
    axes = _maps(figure)
    assert [one.get_title() for one in axes] == [panel.title for panel in panels]
    limit = max(np.abs(panel.values).max() for panel in panels)
    for one, panel in zip(axes, panels, strict=True):
        (image,) = one.images
        assert np.array_equal(image.get_array(), panel.values)
        assert image.get_clim() == (-limit, limit)
        assert image.get_extent() == [-3.5, 3.5, 2.5, -2.5]
        assert one.lines[0].get_xydata().tolist() == [[0, 0]]
    assert figure.get_suptitle() == "title"
    assert [one.get_ylabel() for one in figure.axes if not one.get_title()] == ["R"]


def _content_pixels(values, image, softmax):
    figure = content_figure([Panel("k = 0", values)], image, "title", softmax)
    return _maps(figure)[0].images[0].get_array()


@pytest.mark.parametrize("softmax", [True, False])
def test_a_weight_that_says_nothing_leaves_the_grey_of_the_image(softmax):
    image = RNG.uniform(size=(6, 8))
    pixels = _content_pixels(np.full((3, 4), 1 / 12 if softmax else 0.0), image, softmax)
    assert pixels.shape == (6, 8, 3)
    assert np.ptp(pixels, axis=-1).max() < 0.01
    np.testing.assert_allclose(pixels.mean(-1), 0.97 * (0.5 + 0.5 * image), atol=0.01)


@pytest.mark.parametrize("softmax", [True, False])
def test_more_is_red_and_less_is_blue_where_it_belongs(softmax):
    weights = np.array([[4, 0.25, 1, 1], [1, 1, 1, 1]]) / 9.25 if softmax else np.array([[1.0, -1, 0, 0]] * 2)
    pixels = _content_pixels(weights, np.ones((4, 8)), softmax)
    red, _, blue = np.moveaxis(pixels, -1, 0)
    assert (red - blue)[:2, :2].min() > 0.2 and (blue - red)[:2, 2:4].min() > 0.2
    assert np.abs(red - blue)[2:, 4:].max() < 0.15


def test_a_colour_image_is_drawn_by_its_brightness():
    image = RNG.uniform(size=(4, 4, 3))
    flat = np.full((2, 2), 0.25)
    np.testing.assert_allclose(
        _content_pixels(flat, image, True), _content_pixels(flat, image.mean(-1), True)
    )


def test_the_scale_of_a_softmax_names_multiples_of_the_mean():
    weights = np.full((4, 4), 0.5 / 15)
    weights[0, 0] = 0.5
    figure = content_figure([Panel("k = 0", weights)], np.ones((4, 4)), "title", True)
    (bar,) = (axes for axes in figure.axes if not axes.get_title())
    assert [label.get_text() for label in bar.get_yticklabels()] == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]


def test_the_field_has_a_row_for_each_part_and_frames_the_query():
    heads = {"sum": _panels(3, (5, 7)), "content": [Panel("nothing", np.zeros((5, 7)))] * 3}
    fields = [
        PixelPanel(values=RNG.uniform(size=(10, 14)), title="layer", position=(4, 1), size=(5, 7)),
        PixelPanel(values=RNG.uniform(size=(10, 14)), title="last", position=(1, 0), size=(2, 4)),
    ]
    figure = field_figure(fields, heads, RNG.uniform(size=(10, 14, 3)), (4, 1), "title")
    axes = _maps(figure)
    assert len(axes) == 1 + 2 + 2 * 3
    frames = [{patch.get_bbox().bounds for patch in one.patches} for one in axes]
    # The first of four columns of 7, the lower of two rows of 5: in steps of the layer's map.
    assert frames.pop(2) == {(-0.5, 2.0, 1.75, 2.5)}
    assert all(frame == {(0.5, 3.5, 1, 1)} for frame in frames)
    assert all(one.images[0].get_extent() == [-0.5, 6.5, 4.5, -0.5] for one in axes)
    assert np.array_equal(axes[1].images[0].get_array(), fields[0].values)
    assert axes[1].images[0].get_clim()[1] == fields[0].values.max()
    limit = max(np.abs(panel.values).max() for panel in heads["sum"])
    assert [one.images[0].get_clim() for one in axes[3:]] == [(-limit, limit)] * 3 + [(-1, 1)] * 3
    assert [one.get_ylabel() for one in axes if one.get_ylabel()] == ["sum", "content"]


def test_maps_of_one_position_and_nothing_that_moves_are_drawn(tmp_path):
    one = [Panel("one", np.zeros((1, 1)))]
    pixels = [PixelPanel(values=np.zeros((1, 1)), title="one", position=(0, 0), size=(1, 1))]
    save_figure(field_figure(pixels, {"sum": one}, np.zeros((1, 1)), (0, 0), "title"), tmp_path / "field.png")
    save_figure(key_figure(one, "title", "R"), tmp_path / "key.png")
    save_figure(content_figure(one, np.zeros((1, 1)), "title", True), tmp_path / "content.png")
    assert len(list(tmp_path.iterdir())) == 3


LONG = (
    "Receptive field\nimagenet: lambda_resnet50, image /a/folder/with_a_name/that_has/no_blank/at_all.png "
    * 2
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "size"),
    [
        (1, (1, 1)),
        (4, (14, 14)),
        (2, (3, 40)),
        (2, (40, 3)),
        pytest.param(11, (7, 5), marks=pytest.mark.slow),
    ],
)
def test_figures_of_maps_of_any_shape_can_be_read(heads, size):
    panels = [
        panel._replace(title=f"u = 3, {panel.title} · mean distance 12.3") for panel in _panels(heads, size)
    ]
    fields = [PixelPanel(f"pixels that move {name} here", RNG.uniform(size=(20, 20)), (0, 0), size)
              for name in ("c3.0.mixer", "the last map (14×14)")]  # fmt: skip
    weights = {r"sum: $q_n\cdot(\bar{k}_m + R[m-n])$": panels, r"position: $q_n\cdot R[m-n]$": panels}
    assert_readable(field_figure(fields, weights, RNG.uniform(size=(20, 20)), (0, 0), LONG))
    odd = [panel._replace(values=np.ones([2 * (side // 2) + 1 for side in size])) for panel in panels]
    assert_readable(key_figure(odd, LONG, "R[m−n]"))
    assert_readable(content_figure(panels, np.ones((20, 20)), LONG, softmax=True))


def test_nothing_to_draw_is_refused():
    with pytest.raises(ArgumentError, match=r"^panels must hold at least one, got none\."):
        key_figure([], "title", "R")
    with pytest.raises(ArgumentError, match=r"^panels must hold at least one, got none\."):
        content_figure([], np.zeros((2, 2)), "title", True)
    with pytest.raises(ArgumentError, match=r"^rows must hold at least one, got none\."):
        field_figure([], {}, np.zeros((2, 2)), (0, 0), "title")
