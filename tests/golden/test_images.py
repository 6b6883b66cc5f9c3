"""Odd image files are decoded to the stored pixels, and training and tests show the stored parts of them."""

from pathlib import Path

import numpy as np
import pytest

from golden import inner
from golden.recorded import GOLDEN, VIEWED, views_of

LOSSY = (".jpg", ".webp")
FILES = sorted((GOLDEN / "images").iterdir())

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
each_viewed = pytest.mark.parametrize("name", VIEWED)


def assert_near(actual: np.ndarray, stored: np.ndarray, levels: int) -> None:
    """Equal but for a few of the 256 levels: decoders of lossy formats differ, and so do resizers."""
    assert (actual.shape, actual.dtype) == (stored.shape, stored.dtype)
    assert np.abs(actual.astype(int) - stored.astype(int)).max() <= levels


@pytest.fixture(scope="module")
def decoded() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "decoded.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def views() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "views.npz") as stored:
        return dict(stored)


def test_every_file_has_its_pixels_stored(decoded: dict[str, np.ndarray]) -> None:
    assert [path.name for path in FILES] == sorted(decoded)


@each_file
def test_a_file_is_decoded_to_the_stored_pixels(path: Path, decoded: dict[str, np.ndarray]) -> None:
    assert_near(inner.decode(path), decoded[path.name], levels=2 if path.suffix in LOSSY else 0)


@each_viewed
def test_training_and_tests_show_the_stored_parts(name: str, views: dict[str, np.ndarray]) -> None:
    """The same for the same (seed, epoch, index), whatever was read before."""
    found = views_of(GOLDEN / "images" / name)
    assert found.keys() == {view for view in views if view.startswith(f"{name} ")}
    for view, pixels in found.items():
        # Operations of RandAugment, such as posterize, can make much of one level.
        if "randaugment" in view and name.endswith(LOSSY):
            far = np.abs(pixels.astype(int) - views[view].astype(int)) > 2
            assert pixels.shape == views[view].shape and far.mean() < 0.05
        else:
            assert_near(pixels, views[view], levels=2 if name.endswith(LOSSY) else 1)
