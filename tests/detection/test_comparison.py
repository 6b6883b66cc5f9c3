"""`lambdanets detect compare`: two files of results or two run folders, side by side."""

import json

import pytest

from lambdanets.data.detection import CocoConfig
from lambdanets.detection.comparison import compare_runs
from lambdanets.detection.evaluation import evaluate_predictions, write_results
from lambdanets.errors import DataError
from lambdanets.recipes import get_recipe
from lambdanets.training.config import DetectConfig, ModelConfig, OptimConfig, SchedConfig
from support.commands import printed, refused
from support.detections import perfect_results, random_file, random_results


@pytest.fixture
def file():
    return random_file(8, num_images=20)


@pytest.fixture
def data(tmp_path, file):
    """A folder with images and annotations, as COCO's is."""
    root = tmp_path / "data"
    (root / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    content = {
        "images": [
            {"id": one.id, "file_name": one.file_name, "width": one.width, "height": one.height}
            for one in file.images
        ],
        "categories": [{"id": one.id, "name": one.name} for one in file.categories],
        "annotations": [
            {
                "id": one.id,
                "image_id": image.id,
                "category_id": one.category_id,
                "bbox": list(one.box),
                "segmentation": one.segmentation,
                "area": one.area,
                "iscrowd": int(one.is_crowd),
            }
            for image in file.images
            for one in image.annotations
        ],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def results(tmp_path, file):
    """Good results and worse ones, with masks."""
    paths = tmp_path / "good.json", tmp_path / "worse.json"
    for path, found in zip(paths, (perfect_results(file), random_results(file, 1)), strict=True):
        write_results(path, found)
    return paths


def run_folder(path, root, results=None):
    config = DetectConfig(
        recipe="scenes-demo",
        num_threads=1,
        global_batch_size=2,
        model=ModelConfig(name="resnet_rs50"),
        data=CocoConfig(root=str(root), train="train", test="val"),
        optim=OptimConfig(learning_rate=0.1),
        sched=SchedConfig(epochs=1),
    )
    path.mkdir()
    (path / "config.json").write_text(config.to_json())
    if results is not None:
        (path / "results.json").write_bytes(results.read_bytes())
    return path


def test_two_files_are_put_side_by_side(data, results, file, capsys):
    annotations = data / "annotations" / "instances_val.json"
    words = ("detect", "compare", *results, "--annotations", annotations, "--resamples", "50")
    text = printed(capsys, *words)
    found = json.loads(printed(capsys, *words, "--json"))
    for run, predictions in (("a", perfect_results(file)), ("b", random_results(file, 1))):
        named = evaluate_predictions(file, predictions, masks=True).named
        for name, score in found["scores"].items():
            assert score[run]["value"] == pytest.approx(named[name], abs=1e-12)
    difference = found["scores"]["mask_ap_small"]["difference"]
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert (found["images"], found["resamples"]) == (20, 50)
    assert found["errors"]["a"]["counts"]["missed"] == 0 < found["errors"]["b"]["counts"]["missed"]
    assert len(found["sizes"]["a"]) == len(found["sizes"]["b"]) == 8

    (line,) = (line for line in text.splitlines() if line.startswith("mask AP small"))
    low, high = f"{difference['low']:+.4f}", f"{difference['high']:+.4f}"
    value = found["scores"]["mask_ap_small"]["b"]["value"]
    assert line.split()[3:] == [
        "1.0000",
        f"{value:.4f}",
        f"{difference['value']:+.4f}",
        low,
        "to",
        high,
        "100.0%",
    ]
    (line,) = (line for line in text.splitlines() if line.startswith("missed"))
    assert line.split()[1:3] == ["0", str(found["errors"]["b"]["counts"]["missed"])]
    assert "20 images of" in text and "1,786" not in text
    first = found["sizes"]["b"][0]
    assert f"{first['low']:g} to {first['high']:g} px" in text


def test_run_folders_know_their_data(tmp_path, data, results, file):
    a = run_folder(tmp_path / "a", data, results[0])
    b = run_folder(tmp_path / "b", data, results[1])
    found = compare_runs(a, b, num_resamples=5)
    assert found.annotations == data / "annotations" / "instances_val.json"
    assert found.num_images == len(file.images)
    # A run beside a file: the data are those of the run.
    assert compare_runs(a, results[1], num_resamples=5).scores == found.scores


def test_a_class_of_the_training_alone_may_be_found(tmp_path, data, results, file):
    """Its detections count for nothing, as there is nothing to be found."""
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    (data / "annotations" / "instances_train.json").write_text(json.dumps(content))
    content["categories"] = [one for one in content["categories"] if one["id"] != 90]
    path.write_text(json.dumps(content))
    found = random_results(file, 1)
    assert 90 in {one["category_id"] for one in found}
    run = run_folder(tmp_path / "a", data, results[1])
    paired = compare_runs(run, results[0], num_resamples=5)
    assert paired.scores["box_ap"].a.value == pytest.approx(
        evaluate_predictions(file, found, masks=False).box["box_ap"], abs=1e-12
    )
    with pytest.raises(DataError, match=r"^results: category ids must be those of .*, got 90\. Are classes"):
        compare_runs(*results, annotations=path, num_resamples=5)


def test_without_masks_boxes_are_compared(data, results, file, capsys):
    bare = [{name: one[name] for name in one if name != "segmentation"} for one in random_results(file)]
    write_results(results[1], bare)
    annotations = data / "annotations" / "instances_val.json"
    text = printed(capsys, "detect", "compare", *results, "--annotations", annotations, "--resamples", "5")
    assert "box AP" in text and "mask AP" not in text


def test_it_is_known_which_objects_are_meant(tmp_path, data, results, capsys):
    message = refused(capsys, "detect", "compare", *results)
    assert message == (
        "lambdanets detect compare: the file of the objects must be one, got none. Use --annotations FILE."
    )
    a = run_folder(tmp_path / "a", data, results[0])
    message = refused(capsys, "detect", "compare", a, run_folder(tmp_path / "b", data))
    assert message == (
        f"lambdanets detect compare: {tmp_path / 'b'} must hold results.json, got none."
        f" `lambdanets detect eval {tmp_path / 'b'}` writes it."
    )
    other = tmp_path / "c"
    other.mkdir()
    (other / "config.json").write_text(get_recipe("digits").to_json())
    message = refused(capsys, "detect", "compare", a, other)
    assert f"run folder: {other} must be of the run of a detector, got that of a classifier." in message
