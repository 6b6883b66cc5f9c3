"""Words that fit, and dark variants of figures: nothing dark is left on the dark ground."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lambdanets.explain.plots import Panel, key_figure
from lambdanets.runs.figure_style import (
    darken,
    fold,
    render_variants,
    save_figure,
    set_title,
    shorten,
    text_width,
)
from lambdanets.runs.plots import confusion, learning_curves
from support.figures import assert_readable, shown_words

RECORD = {"epoch": 1, "train_loss": 2.0, "test_loss": 1.5, "learning_rate": 0.1}
RECORD |= {"train_accuracy": 0.5, "test_accuracy": 0.75}


@pytest.mark.parametrize(
    "text", ["several words of a line", "/a/path/of_parts/and-more", "x" * 70, "", "a\n\nb"]
)
def test_folded_lines_fit_and_lose_nothing(text):
    folded = fold(text, 1.0, 10)
    assert all(text_width(line, 10) <= 1.0 for line in folded.split("\n"))
    assert folded.replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert fold(text, 100.0, 10) == text


def test_lines_break_at_blanks_and_long_words_behind_a_sign():
    assert fold("one two three", text_width("one two", 10), 10) == "one two\nthree"
    assert fold("aaaa/bbbbb", text_width("aaaa/bbbb", 10), 10) == "aaaa/\nbbbbb"


def test_a_name_is_shortened_in_its_middle():
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abc", 3) == "abc"
    assert len(shorten("x" * 50 + "y", 28)) == 28


def test_a_figure_grows_with_its_title():
    figure = learning_curves([RECORD], "short")
    before = figure.get_size_inches()[1]
    set_title(figure, "a title of many words " * 20)
    assert figure.get_size_inches()[1] > before + 0.3
    assert figure.get_suptitle().count("\n") >= 2


def _figures():
    yield learning_curves([RECORD], "title")
    yield confusion(np.array([[9, 2], [0, 8]]), ["a", "b"], "title")
    yield key_figure([Panel("k = 0", np.eye(3))], "title", "R")


def test_a_dark_figure_has_light_words_and_a_dark_ground(tmp_path):
    for number, figure in enumerate(_figures()):
        figure = darken(figure)
        save_figure(figure, tmp_path / f"{number}.png")
        assert_readable(figure)
        assert all(np.mean(to_rgb(artist.get_color())) > 0.7 for artist, _ in shown_words(figure))
        with Image.open(tmp_path / f"{number}.png") as image:
            assert image.convert("L").getpixel((0, 0)) < 40
            # No white area, and hardly a black line, is left.
            histogram = np.array(image.convert("L").histogram())
            assert histogram[250:].sum() < 0.001 * histogram.sum()
            assert histogram[:20].sum() < 0.005 * histogram.sum()


def test_the_middle_of_a_signed_map_is_the_ground():
    figure = key_figure([Panel("k = 0", np.eye(3))], "title", "R")
    (image,) = darken(figure).axes[0].images
    assert max(image.cmap(0.5)[:3]) < 0.2 < min(image.cmap(1.0)[:1])


def test_a_figure_stays_light_when_its_dark_variant_is_rendered():
    figure = key_figure([Panel("k = 0", np.eye(3))], "title", "R")
    light, dark = render_variants(figure)
    assert light != dark
    assert render_variants(figure) == (light, dark)
