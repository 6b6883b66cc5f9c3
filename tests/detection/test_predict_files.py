"""Detection in files: folders, patterns, unreadable files, results that pycocotools reads."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from lambdanets.data.detection import CocoConfig
from lambdanets.data.listing import find_images
from lambdanets.detection.predict_files import predict_files
from lambdanets.errors import PathError, StorageError
from support.colored_detector import CATEGORIES, ColoredDetector, painted
from support.images import encoded


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    painted(64, 48, (1, 8, 8, 40, 40), (2, 44, 8, 60, 24)).save(folder / "b.png")
    painted(64, 48, (2, 8, 8, 40, 40)).save(folder / "more" / "A b.BMP")
    painted(64, 48).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(encoded(painted(64, 48))[:300])
    (folder / ".hidden.png").write_bytes(encoded(painted(9, 9), "PNG"))
    (folder / "notes.txt").write_text("no image")
    return folder


def predicted(paths, out, **options):
    config = CocoConfig(root="images", image_size=64)
    return predict_files(ColoredDetector(), paths, out, categories=CATEGORIES, config=config, **options)


def test_images_are_found(photos, tmp_path, monkeypatch):
    out = photos / "found"
    out.mkdir()
    painted(9, 9).save(out / "drawing.png")
    below = [photos / name for name in ("b.png", "broken.jpg", "empty.png", "more/A b.BMP")]
    assert find_images([str(photos)], "detect predict", out=out) == below
    assert find_images([str(photos / "*.png")], "detect predict", out=out) == [below[0], below[2]]
    assert find_images([str(photos / "**" / "*.BMP")], "detect predict", out=out) == [below[3]]
    # A file that is named is taken, whatever its name; each once, in the order given.
    assert find_images(
        [str(photos / "notes.txt"), str(below[2]), str(photos / "e*")], "detect predict", out=out
    ) == [
        photos / "notes.txt",
        below[2],
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere.jpg", ", which does not exist"), ("*.gif", ": no image"), ("none", ": no image")],
)
def test_paths_without_an_image(name, reason, photos, tmp_path):
    (photos / "none").mkdir()
    message = rf"^detect predict: images must be files, folders or patterns, got .*{reason}\.$"
    with pytest.raises(PathError, match=message):
        find_images([str(photos / "b.png"), str(photos / name)], "detect predict", out=tmp_path / "out")


def test_results_and_drawings(photos, tmp_path):
    out = tmp_path / "deep" / "out"
    report = predicted(find_images([str(photos)], "detect predict", out=out), out)
    assert [(one.id, one.counts) for one in report.images] == [
        (1, {"red": 1, "blue & <b>": 1}),
        (3, {}),
        (4, {"blue & <b>": 1}),
    ]
    assert len(report.unreadable) == 1 and f"{photos}/broken.jpg: cannot be read" in report.unreadable[0]
    results = json.loads((out / "results.json").read_text())
    assert report.results == out / "results.json"
    assert [(one["image_id"], one["category_id"], one["file_name"]) for one in results] == [
        (1, 3, f"{photos}/b.png"),
        (1, 7, f"{photos}/b.png"),
        (4, 7, f"{photos}/more/A b.BMP"),
    ]
    listed = json.loads((out / "images.json").read_text())
    assert listed["categories"] == [{"id": 3, "name": "red"}, {"id": 7, "name": "blue & <b>"}]
    assert listed["unreadable"] == list(report.unreadable)
    drawings = {one["id"]: out / one["drawing"] for one in listed["images"]}
    assert {path.name for path in (out / "drawings").iterdir()} == {
        "000001-b.jpg",
        "000003-empty.jpg",
        "000004-A-b.jpg",
    }
    # Ten times as large; the middle of the red object is paler than red, and empty paper stays white.
    pixels = np.asarray(Image.open(drawings[1])).astype(int)
    assert pixels.shape == (480, 640, 3) and pixels[460, 320].min() > 245
    assert np.asarray(Image.open(drawings[3])).min() > 245


def test_pycocotools_loads_the_results(photos, tmp_path):
    from pycocotools.coco import COCO

    predicted(find_images([str(photos)], "detect predict", out=tmp_path / "out"), tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads((tmp_path / "out" / "images.json").read_text()) | {"annotations": []}
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "out" / "results.json"))
    assert len(loaded.anns) == 3
    for one in loaded.anns.values():
        mask = loaded.annToMask(one)
        assert mask.shape == (48, 64)
        # Masks of a network are blurred over half a cell of 28.
        assert mask.sum() == pytest.approx(np.prod(one["bbox"][2:]), rel=0.2)


def test_a_photo_on_its_side_is_turned(tmp_path):
    upright = painted(64, 32, (1, 4, 6, 24, 26))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    report = predicted([tmp_path / "turned.png"], tmp_path / "out")
    assert [(one.width, one.height) for one in report.images] == [(64, 32)]
    (result,) = json.loads(report.results.read_text())
    assert result["bbox"] == [4, 6, 20, 20] and result["segmentation"]["size"] == [32, 64]


def test_a_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "out").write_text("a file")
    message = r"^detect predict: .*out must be writable, got 'a file where a folder is needed'\. Free some"
    with pytest.raises(StorageError, match=message):
        predicted([photos / "b.png"], tmp_path / "out")
