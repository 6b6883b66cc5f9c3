"""Tasks of images from files: what a config makes of a folder, and a run's network on foreign files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import read_data_config
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.explain.explain import explain
from lambdanets.recipes import get_recipe
from lambdanets.runs.load import load_run
from lambdanets.runs.recorder import Recorder
from lambdanets.runs.tasks import load_task, make_job, make_model
from lambdanets.runs.train import first_state
from lambdanets.training.config import FaultConfig
from lambdanets.training.distributed import ALONE
from lambdanets.training.run_folder import RunFolder
from support.commands import printed
from support.images import encoded, make_folder, photo

# Of ten images of each class, by the digests of their names.
ASIDE = [2, 3, 2]


def config(**data):
    return replace(get_recipe("digits"), data=read_data_config(data))


@pytest.fixture
def root(tmp_path):
    make_folder(tmp_path / "train", ["ant", "bee", "cat"], each=10)
    make_folder(tmp_path / "val", ["bee", "cat"], each=2)
    return tmp_path


def test_a_folder_of_two_parts(root):
    task = load_task(config(name="folder", root=str(root), image_size=16))
    assert (len(task.train), len(task.test), task.labels) == (30, 4, ("ant", "bee", "cat"))
    assert task.in_channels == 3
    images, targets, _ = task.test.batch(torch.arange(4))
    assert targets.tolist() == [1, 1, 2, 2]
    assert images.dtype == torch.uint8 and images.shape == (4, 3, 16, 16)
    prepared = task.prepare(images)
    assert torch.equal(prepared, Preprocessing(size=16).normalize(images))
    logits = make_model(get_recipe("digits").model, task)(prepared)
    assert logits.shape == (4, 3)


def test_sizes_and_augmentation_are_those_of_the_config(root):
    settings = replace(
        config(name="folder", root=str(root)),
        augment=AugmentConfig(min_crop_area=0.5, flip=0.0, randaugment_layers=2, randaugment_magnitude=7.5),
        faults=FaultConfig(max_unreadable_in_a_row=3),
        seed=5,
    )
    task = load_task(settings)
    transform = task.train.transform
    assert (transform.size, task.preprocessing.size) == (224, 224)
    assert transform.augment == settings.augment and task.test.preprocessing == task.preprocessing
    assert (task.train.seed, task.train.max_in_a_row) == (5, 3)
    larger = config(name="folder", root=str(root), image_size=16, test_image_size=24)
    task = load_task(larger)
    assert (task.train.transform.size, task.test.preprocessing.size, task.preprocessing.size) == (16, 24, 24)


def test_a_part_of_the_training_can_be_the_test(root):
    task = load_task(config(name="folder", root=str(root), test="none at all", holdout=0.2))
    assert task.test_name == "validation"
    assert torch.bincount(task.test.source.targets).tolist() == ASIDE
    assert torch.bincount(task.train.source.targets).tolist() == [10 - num for num in ASIDE]
    names = [{part.source.name(i) for i in range(len(part))} for part in (task.train, task.test)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 30


def test_label_files_lie_below_the_root(tmp_path):
    for part in ("train", "val"):
        make_folder(tmp_path, [part])
        (tmp_path / f"{part}.csv").write_text("path,label\n000.jpg,x\n001.jpg,y\n")
    labels = {"train_labels": "train.csv", "test_labels": "val.csv"}
    task = load_task(config(name="folder", root=str(tmp_path), **labels))
    assert (len(task.train), len(task.test), task.labels) == (2, 2, ("x", "y"))
    message = r"FolderConfig: test_labels must be left out with holdout: .*, got val\.csv\."
    with pytest.raises(ArgumentError, match=message):
        load_task(config(name="folder", root=str(tmp_path), holdout=0.5, **labels))


def test_what_is_missing_is_named(root):
    for data, error, message in [
        (
            {},
            ArgumentError,
            r"FolderConfig: root must be given, got none\. Use --data\.root DIR",
        ),
        ({"root": str(root), "train": "no"}, PathError, r"folder: .*/no must be a folder, got none\."),
        ({"root": str(root), "test": "no"}, PathError, r"folder: .*/no must be a folder, got none\."),
        ({"root": str(root / "train" / "ant")}, PathError, r"ant/train must be a folder"),
        (
            {"root": str(root), "train": "val", "test": "train"},
            DataError,
            r"train must have classes of the training alone, got ant\.",
        ),
    ]:
        with pytest.raises(error, match=message):
            load_task(config(name="folder", **data))


def test_digits_go_the_way_of_files():
    task = load_task(config(name="digit-images"))
    assert (len(task.train), len(task.test), task.labels) == (1297, 500, tuple("0123456789"))
    images, targets, unreadable = task.train.batch(0, torch.arange(6))
    assert images.shape == (6, 3, 32, 32) and targets.shape == (6,) and not unreadable
    # Nothing is cut off in the test: the file is the image.
    pixels = task.test.batch(torch.tensor([3])).images[0]
    assert torch.equal(pixels[0, ::4, ::4] / 255, (task.test.source.digits.images[3, 0] * 255).round() / 255)


@pytest.fixture(params=["digit-images", "folder"])
def run(request, root, tmp_path):
    data = {"root": str(root), "image_size": 32} if request.param == "folder" else {}
    settings = config(name=request.param, **data)
    with RunFolder(tmp_path / "run").locked(settings) as folder:
        task = load_task(settings)
        job = make_job(settings, task)
        state = first_state(settings, job)
        state.best = {"epoch": 1, "step": 1, "test_accuracy": 0.5, "test_correct": 1, "test_total": 2}
        Recorder(settings, folder, job, ALONE)._save_best(state, state.trained_model("ema"))
    return folder.path


def test_a_run_s_network_takes_files(run, tmp_path, capsys):
    stroke = np.full((70, 60, 3), 255, np.uint8)
    stroke[10:60, 25:35] = 0
    (tmp_path / "one.png").write_bytes(encoded(stroke, "PNG"))
    (prediction,) = json.loads(printed(capsys, "predict", run, tmp_path / "one.png", "--json"))
    stored = json.loads((run / "best.json").read_text())["preprocessing"]
    assert (stored["foreground"] is not None) == prediction.get("inverted", False)
    trained = load_run(run)
    image, _ = trained.preprocessing.read(tmp_path / "one.png")
    with torch.inference_mode():
        expected = trained.model(image[None]).softmax(dim=1)[0]
    for guess in prediction["top"]:
        probability = expected[trained.labels.index(guess["label"])].item()
        assert guess["probability"] == pytest.approx(probability, abs=1e-6)


@pytest.mark.slow
def test_explain_draws_a_file_in_colour(run, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(50, 40)))
    found = explain(str(run), tmp_path / "photo.jpg", tmp_path / "out", size=16)
    assert found.error < 1e-4
    assert all(path.is_file() for path in found.figures)
