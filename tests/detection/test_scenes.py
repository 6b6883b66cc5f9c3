"""Scenes: exact masks, occlusion, sizes, and files that pycocotools reads."""

import contextlib
import hashlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

from lambdanets.data.detection import SceneConfig
from lambdanets.detection import scenes
from lambdanets.detection.backdrops import draw_background, draw_mark
from lambdanets.detection.handwriting import load_handwriting
from lambdanets.detection.scenes import _draw_scene, write_scenes
from lambdanets.errors import ArgumentError, DependencyError
from support.commands import printed, refused

SMALL = SceneConfig(train=6, val=3, size=96, max_side=60)


@pytest.fixture(scope="module")
def digits():
    return load_handwriting()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "set"
    write_scenes(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def drawn(digits):
    return [_draw_scene(SceneConfig(), 0, index, digits) for index in range(150)]


def test_a_mask_is_where_the_color_is_nearer_than_the_paper(digits, monkeypatch):
    """One digit on plain grey: every pixel says by its color how much of it is covered."""
    monkeypatch.setattr(
        scenes, "draw_background", lambda rng, size: np.full((size, size, 3), 100, np.float32)
    )
    monkeypatch.setattr(scenes._Painting, "_color", lambda self, below: np.array([200, 0, 250], np.float32))
    monkeypatch.setattr(
        scenes._Painting, "finish", lambda self: (self._canvas + 0.5).clip(0, 255).astype(np.uint8)
    )
    config = SceneConfig(size=128, max_objects=1, empty=0.0, max_side=90)
    found = [_draw_scene(config, 0, index, digits) for index in range(30)]
    monkeypatch.setattr(scenes, "draw_mark", lambda rng, side, size: np.zeros((1, 1), np.float32))
    plain = [_draw_scene(config, 0, index, digits) for index in range(30)]
    assert any((a.pixels != b.pixels).any() for a, b in zip(found, plain, strict=True))
    for scene in plain:
        (one,) = scene.objects
        red = scene.pixels[..., 0].astype(int)
        # Rounded to a level, half covered is 150.
        assert one.mask[red > 150].all() and not one.mask[red < 150].any()
        assert one.num_pixels == one.mask.sum() > 0


def test_what_comes_later_hides_what_is_below():
    painting = scenes._Painting(np.random.default_rng(0), np.full((40, 40, 3), 90, np.float32))
    first = painting.paste(np.ones((40, 40), np.float32))
    painting.objects.append(scenes._SceneObject(label=0, digit=0, side=40.0, num_pixels=1600, mask=first))
    second = painting.paste(np.ones((20, 24), np.float32))
    assert second.sum() == 480 and np.array_equal(painting.objects[0].mask, ~second)
    assert len(np.unique(painting.finish()[second].reshape(-1, 3).astype(int) // 40, axis=0)) <= 8
    # One pixel more than the fraction that may be hidden: 30 % of 1600 are 480.
    assert painting.paste(np.ones((40, 40), np.float32)) is None
    assert painting.objects[0].mask.sum() == 1120


def test_an_object_stays_visible(drawn):
    hidden = 0
    for scene in drawn:
        masks = np.array([one.mask for one in scene.objects], dtype=int).reshape(-1, 160, 160)
        assert masks.sum(axis=0).max() <= 1
        for one in scene.objects:
            assert one.mask.sum() >= 0.7 * one.num_pixels
            hidden += one.mask.sum() < one.num_pixels
    assert hidden > 20


def test_sizes_and_numbers(drawn):
    sides = np.array([one.side for scene in drawn for one in scene.objects])
    assert 8 <= sides.min() < 10 and 85 < sides.max() <= 96
    # The logarithm is even: as many on both sides of the geometric mean; few large ones find no place.
    assert 0.4 < (sides < np.sqrt(8 * 96)).mean() < 0.65
    counts = np.bincount([len(scene.objects) for scene in drawn])
    assert len(counts) == 7 and counts.min() >= 5 and counts[0] < 30
    labels = np.bincount([one.label for scene in drawn for one in scene.objects])
    assert len(labels) == 10 and labels.min() > 20
    for scene in drawn:
        for one in scene.objects:
            if one.mask.sum() == one.num_pixels:
                assert 0.85 * one.side - 2 <= max(one.box[2:]) <= 1.23 * one.side + 2


def test_a_digit_differs_from_its_ground(drawn):
    contrasts = []
    for scene in drawn:
        grey = np.asarray(Image.fromarray(scene.pixels).convert("L"), dtype=float)
        everything = np.any([one.mask for one in scene.objects], axis=0) if scene.objects else None
        for one in scene.objects:
            left, top, width, height = one.box
            area = np.s_[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2]
            around = ~everything[area]
            if not around.any():
                continue
            contrasts.append(abs(grey[area][one.mask[area]].mean() - grey[area][around].mean()))
    assert np.median(contrasts) > 40 and np.quantile(contrasts, 0.05) > 8


def test_backgrounds_and_marks_vary():
    rng = np.random.default_rng(0)
    grounds = np.array([draw_background(rng, 48) for _ in range(40)])
    assert grounds.min() >= 0 and grounds.max() <= 255
    assert grounds.mean(axis=(1, 2, 3)).std() > 20 and np.median(grounds.std(axis=(1, 2))) > 5
    for side in (8.0, 60.0):
        marks = [draw_mark(rng, side, 160) for _ in range(60)]
        assert all(mark.min() >= 0 and 0.5 <= mark.max() <= 1 and max(mark.shape) <= 160 for mark in marks)
        assert len({mark.shape for mark in marks}) > 30


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_bytes_each_time(folder, tmp_path, digits):
    write_scenes(tmp_path / "again", SMALL)
    assert digest(tmp_path / "again") == digest(folder)
    other = _draw_scene(SceneConfig(size=96, max_side=60, seed=1), 0, 0, digits)
    assert not np.array_equal(other.pixels, _draw_scene(SMALL, 0, 0, digits).pixels)
    assert not np.array_equal(
        _draw_scene(SMALL, 1, 0, digits).pixels, _draw_scene(SMALL, 0, 0, digits).pixels
    )


def test_pycocotools_reads_the_files(folder):
    from pycocotools.coco import COCO

    assert len(digest(folder)) == 2 + 6 + 3
    for part, number, hands in zip(("train", "val"), (0, 1), load_handwriting(), strict=True):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(folder / "annotations" / f"instances_{part}.json")
        assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list("0123456789")
        assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
        for image in coco.loadImgs(coco.getImgIds()):
            pixels = Image.open(folder / part / image["file_name"])
            assert pixels.size == (image["width"], image["height"]) == (96, 96)
            scene = _draw_scene(SMALL, number, image["id"] - 1, hands)
            assert np.array_equal(np.asarray(pixels), scene.pixels)
            found = coco.loadAnns(coco.getAnnIds(image["id"]))
            assert len(found) == len(scene.objects)
            for annotation, one in zip(found, scene.objects, strict=True):
                mask = coco.annToMask(annotation)
                assert np.array_equal(mask, one.mask) and annotation["area"] == mask.sum()
                assert annotation["category_id"] == hands.targets[one.digit] + 1
                left, top, width, height = annotation["bbox"]
                assert 0 <= left < left + width <= 96 and 0 <= top < top + height <= 96
                rows, columns = np.nonzero(mask)
                assert (left, top) == (columns.min(), rows.min())
                assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())


def test_a_folder_that_holds_something_else(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("kept")
    message = refused(capsys, "data", "scenes", "--out", tmp_path)
    assert message == f"lambdanets data scenes: folder must be new or empty, got {tmp_path} with mine.txt."
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_whole_or_not_there(tmp_path, monkeypatch):
    def stop(folder, config, part, digits):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "_write_part", stop)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "set", SMALL)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    options = ("--train", 2, "--val", 1, "--size", 64, "--max-side", 40, "--empty", 0.5)
    lines = printed(capsys, "data", "scenes", "--out", tmp_path / "set", *options).splitlines()
    assert lines[0].startswith("train  2 images, ") and lines[1].startswith("val    1 image, ")
    assert lines[2] == f"train with --data.root {tmp_path / 'set'} --data.train train --data.test val"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 0}, "SceneConfig: train must be at least 1, got 0."),
        ({"val": -1}, "SceneConfig: val must be at least 1, got -1."),
        ({"max_objects": 0}, "SceneConfig: max_objects must be at least 1, got 0."),
        ({"size": 16}, "SceneConfig: size must be at least 32, got 16."),
        ({"min_side": 3}, "SceneConfig: min_side must be at least 4, got 3."),
        ({"size": 64}, "SceneConfig: max_side must be at most 50 in scenes of 64 px, got 96."),
        ({"empty": 1.0}, "SceneConfig: empty must be at least 0 and below 1, got 1.0."),
        ({"seed": -1}, "SceneConfig: seed must be at least 0, got -1."),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ArgumentError) as caught:
        SceneConfig(**settings)
    assert str(caught.value) == message


def test_without_pycocotools(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    message = r"detection: pycocotools must be installed, got none\. pip install pycocotools\."
    with pytest.raises(DependencyError, match=message):
        write_scenes(tmp_path / "set", SMALL)
    assert not (tmp_path / "set").exists()
