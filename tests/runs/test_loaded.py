"""A loaded run in use: images of every kind, lists of them, its settings, history and curves."""

import io
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lambdanets
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import ArgumentError, ArgumentTypeError, CheckpointError, DataError, PathError
from lambdanets.runs.load import load_named, load_run
from lambdanets.runs.loaded import Origin
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.weights import load_weights, save_weights
from support.runs import METRIC, photo_run

CLASSES = ("ant", "bee", "cat")
CHECKPOINT = "checkpoints/step-00000007"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path, config, state = photo_run(tmp_path_factory.mktemp("photos"), CLASSES)
    state.step = 7
    save_checkpoint(path / "checkpoints", 7, state.tensors(), state.record(config), keep=2)
    return path


@pytest.fixture
def run(stored):
    return load_run(stored)


@pytest.fixture
def copied(stored, tmp_path):
    """A copy to damage."""
    return shutil.copytree(stored, tmp_path / "run")


@pytest.fixture
def photo(tmp_path):
    """An image whose pixels survive in its file."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


# Every kind of image that holds the same pixels as a file.
KINDS = {
    "text": str,
    "path": Path,
    "bytes": Path.read_bytes,
    "Pillow": Image.open,
    "array of bytes": lambda path: np.asarray(Image.open(path)),
    "array that is not contiguous": lambda path: np.asarray(Image.open(path)).copy(order="F"),
    "array of float32": lambda path: np.asarray(Image.open(path), dtype=np.float32) / 255,
    "array of float64": lambda path: np.asarray(Image.open(path)) / 255,
    "tensor of bytes": lambda path: torch.tensor(np.asarray(Image.open(path))).movedim(-1, 0),
    "tensor of floats": lambda path: torch.tensor(np.asarray(Image.open(path)) / 255).movedim(-1, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_gives_what_its_file_gives(run, photo, kind):
    assert run.predict(KINDS[kind](photo)) == run.predict(photo)
    assert torch.equal(run.preprocess(KINDS[kind](photo)), run.preprocessing.read(photo)[0])


def test_grey_comes_with_and_without_an_axis_of_channels(run):
    plane = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    colour = run.preprocess(np.stack([plane] * 3, axis=-1))
    for grey in (plane, plane[..., None], torch.tensor(plane), torch.tensor(plane)[None]):
        assert torch.equal(run.preprocess(grey), colour)


def test_a_fourth_channel_is_opacity(run):
    pixels = np.zeros((20, 30, 4), dtype=np.uint8)
    # What cannot be seen is white.
    assert torch.equal(run.preprocess(pixels), run.preprocess(np.full((20, 30), 255, dtype=np.uint8)))


def test_an_image_of_pillow_is_turned_upright_as_its_file_is(run, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).save(tmp_path / "turned.png", exif=exif)
    turned = run.preprocess(tmp_path / "turned.png")
    assert torch.equal(run.preprocess(Image.open(tmp_path / "turned.png")), turned)
    assert not torch.equal(run.preprocess(photo), turned)


def test_a_list_gives_a_list_in_its_order(run, stored, monkeypatch):
    photos = sorted((stored.parent / "val").rglob("*.jpg"))
    sizes = []
    forward = type(run.model).forward
    monkeypatch.setattr(
        type(run.model), "forward", lambda self, images: sizes.append(len(images)) or forward(self, images)
    )
    together = run.predict(photos * 20, 2)
    assert sizes == [64, 56]
    assert len(together) == 120 and all(len(ranking) == 2 for ranking in together)
    for photo, ranking in zip(photos, together, strict=False):
        alone = run.predict(photo, 2)
        assert [label for label, _ in ranking] == [label for label, _ in alone]
        assert [chance for _, chance in ranking] == pytest.approx([chance for _, chance in alone], rel=1e-4)
    assert run.predict(tuple(photos[:1])) == run.predict(photos[:1])
    assert run.predict([]) == []


def test_images_of_many_shapes_are_classified_where_none_is_cropped():
    loaded = load_named("lambda_resnet_digits")
    images = [np.zeros((20 + 8 * place, 20, 3), dtype=np.uint8) for place in range(2)]
    assert [len(ranking) for ranking in loaded.predict(images, 3)] == [3, 3]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            np.zeros((3, 20, 30), np.uint8),
            ArgumentError,
            r"got \(3, 20, 30\)\. image\.transpose\(1, 2, 0\) h",
        ),
        (torch.zeros(20, 30, 3), ArgumentError, r"got \(20, 30, 3\)\. image\.permute\(2, 0, 1\) has it\."),
        (
            torch.zeros(2, 3, 20, 30),
            ArgumentError,
            r"^predict: image must have shape \(channels, height, width\) with 1, 3 or 4 channels, or"
            r" \(height, width\), if it is a tensor, got \(2, 3, 20, 30\)\. Several images come as a list:"
            r" list\(images\)\.",
        ),
        (
            np.zeros((20, 30, 2)),
            ArgumentError,
            r"\(height, width, channels\) with .* an array, got \(20, 30, 2\)",
        ),
        (np.zeros((0, 30, 3)), ArgumentError, r"got \(0, 30, 3\)\."),
        (
            torch.full((3, 8, 8), 2.5),
            ArgumentError,
            r"^predict: image must hold numbers from 0 to 1 if they are floating-point, got 2\.5 to 2\.5\. G",
        ),
        (torch.full((3, 8, 8), float("nan")), ArgumentError, "got nan to nan"),
        (
            np.zeros((8, 8, 3), np.int64),
            ArgumentTypeError,
            r"must hold bytes \(uint8\) or floating-point numbers if it is an array, got int64\.",
        ),
        (
            torch.zeros(3, 8, 8, dtype=torch.int32),
            ArgumentTypeError,
            r"if it is a tensor, got torch\.int32\.",
        ),
        (
            7,
            ArgumentTypeError,
            r"^predict: image must be a path, bytes, an image of Pillow, an array or a tensor, got a int\.",
        ),
        (b"text", DataError, r"^predict: image: must be an image \("),
        ("none.png", PathError, r"^predict: image must be a file, got none\.png, which does not exist\."),
    ],
)
def test_what_is_no_image_is_told(run, image, error, message, unchecked):
    with pytest.raises(error, match=message):
        run.predict(image)
    with pytest.raises(error, match=message.replace("^predict", r"^predict: images\[1\]")):
        run.predict([np.zeros((8, 8), np.uint8), image])
    with pytest.raises(error, match=message.replace("^predict", "^preprocess")):
        run.preprocess(image)


def test_a_damaged_image_of_pillow_is_told(run, photo):
    damaged = Image.open(io.BytesIO(photo.read_bytes()[:300]))
    with pytest.raises(DataError, match=r"^predict: image: cannot be read as an image: "):
        run.predict(damaged)


def test_at_least_one_class_is_asked_for(run, photo):
    with pytest.raises(ArgumentError, match=r"^predict: top must be at least 1, got 0\."):
        run.predict(photo, 0)


def test_what_is_not_known_of_images_is_told(run):
    drawn = replace(run, preprocessing=None)
    with pytest.raises(ArgumentError, match=r"^run must be one that files can be given to, got .*, whose"):
        _ = drawn.preprocess


def test_a_network_in_training_is_judged_as_one_in_evaluation(run, photo):
    expected = run.predict(photo)
    run.model.train()
    assert run.predict(photo) == expected and run.model.training


def test_the_mode_of_each_part_comes_back_after_an_error_too(run):
    run.model.train()
    run.model.stem.eval()
    run.classify(torch.zeros(3, 32, 32))
    assert run.model.training and not run.model.stem.training
    with pytest.raises(RuntimeError):
        run.classify(torch.zeros(7, 32, 32))
    assert run.model.training and not run.model.stem.training


def test_preprocess_is_a_transform_for_worker_processes(run, stored):
    """As `ImageFolder(root, transform=run.preprocess)` of torchvision calls it."""
    folder = pytest.importorskip("torchvision.datasets").ImageFolder
    data = folder(str(stored.parent / "val"), transform=pickle.loads(pickle.dumps(run.preprocess)))
    images, targets = next(iter(torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)))
    assert images.shape == (4, 3, 16, 16) and targets.tolist() == [0, 0, 1, 1]
    assert torch.equal(images[1], run.preprocess(data.samples[1][0]))


def test_the_network_moves_and_images_follow(run, photo):
    expected = run.predict(photo)
    assert run.to("cpu") is run and run.device == torch.device("cpu") and run.predict(photo) == expected
    assert run.to("meta").device == torch.device("meta")


def test_it_says_what_it_is(stored, tmp_path):
    run = load_run(stored)
    num = sum(parameter.numel() for parameter in run.model.parameters())
    assert repr(run) == (
        f"resnet_digits: {num:,} parameters, 3 classes, on cpu\n"
        f"  {stored}/best.safetensors: EMA after epoch 2, 50.00% in training"
    )
    assert repr(load_run(stored, "raw")).endswith(
        f"{CHECKPOINT}/model.safetensors: raw weights after epoch 2"
    )
    assert repr(load_named("resnet_digits")).endswith(
        "classes not known, on cpu\n  random weights (seed 0): weights"
    )
    origin = Origin(source="a", model="b", sha256="", is_ema=False, step=3)
    assert origin.describe() == "raw weights after step 3"


def test_the_kind_of_the_best_weights_is_what_their_file_says(copied):
    assert load_run(copied).origin.is_ema is True
    tensors, description = load_weights(copied / "best.safetensors")
    save_weights(copied / "best.safetensors", tensors, {**description, "weights": "raw"})
    assert load_run(copied).origin.is_ema is False


def test_settings_and_history_are_those_of_the_run(stored, copied):
    run = load_run(stored)
    assert run.config == RunFolder(stored).read_config(TrainConfig) and run.config.recipe == "digits-conv"
    assert run.history == [METRIC]
    checkpoint = load_run(stored / CHECKPOINT)
    assert checkpoint.config == run.config and checkpoint.history == run.history
    for other in (load_run(stored / "best.safetensors"), load_named("resnet_digits")):
        assert other.config is None and other.history == []


def test_history_grows_with_the_run_and_has_equal_keys(copied):
    run = load_run(copied)
    with (copied / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps({"epoch": 3, "step": 6, "raw_test_accuracy": 0.75}) + '\n{"epoch": 4, "test_acc'
        )
    rows = run.history
    assert [row["epoch"] for row in rows] == [2, 3]
    assert rows[0].keys() == rows[1].keys() == {*METRIC, "raw_test_accuracy"}
    assert (rows[0]["raw_test_accuracy"], rows[1]["test_accuracy"]) == (None, None)


def test_curves_are_a_figure_that_a_notebook_shows(copied):
    lines = (Path(__file__).parents[1] / "golden/run/metrics.jsonl").read_text()
    (copied / "metrics.jsonl").write_text(lines)
    figure = load_run(copied).plot()
    assert figure._suptitle.get_text() == "run: resnet_digits"
    # The images lie in a part named val.
    assert "validation" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    drawn = figure.axes[0].get_lines()[0].get_ydata()
    assert list(drawn) == [json.loads(line)["train_loss"] for line in lines.splitlines()]
    assert Image.open(io.BytesIO(figure._repr_png_())).format == "PNG"


def test_what_has_no_curves_says_so(copied):
    with pytest.raises(
        ArgumentError, match=r"^plot: run must be loaded from a run folder, got .*best\.safet"
    ):
        load_run(copied / "best.safetensors").plot()
    (copied / "metrics.jsonl").unlink()
    with pytest.raises(ArgumentError, match=r"^plot: .*run must have finished an epoch, got none\."):
        load_run(copied).plot()


def test_a_folder_that_was_moved_is_loaded(stored, copied, photo, monkeypatch):
    monkeypatch.chdir(copied.parent)
    moved = lambdanets.load_run("run")
    assert moved.predict(photo) == load_run(stored).predict(photo)
    assert moved.history == [METRIC] and moved.config is not None
    assert load_run(Path(CHECKPOINT.join(["run/", ""]))).folder == copied


def test_weights_that_are_not_finite_are_told(copied):
    tensors = load_file(copied / "best.safetensors")
    tensors["classifier.bias"][1] = float("nan")
    tensors["classifier.weight"][0] = float("inf")
    save_file(tensors, copied / "mine.safetensors")
    message = (
        r"mine\.safetensors must hold finite numbers, got NaN or infinity in 2 of its"
        rf" {len(tensors)} tensors,"
        r" the first classifier\.bias\. Other weights of the run may do: --weights best, ema or raw"
    )
    with pytest.raises(CheckpointError, match=message):
        load_run(copied / "mine.safetensors")


def test_weights_that_are_not_there_yet_name_those_that_are(copied):
    (copied / "best.safetensors").unlink()
    message = (
        r"got none\. It comes with the first epoch\. --weights ema \(weights='ema' in Python\) takes those"
    )
    with pytest.raises(PathError, match=message):
        load_run(copied)
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(PathError, match=r"got none\. It comes with the first epoch\.$"):
        load_run(copied)


def test_without_checkpoints_the_best_weights_are_named(copied):
    shutil.rmtree(copied / "checkpoints")
    message = (
        r"for weights 'ema', got none\. --weights best \(weights='best' in Python\) takes those of its best"
    )
    with pytest.raises(PathError, match=message):
        load_run(copied, "ema")


def test_a_folder_that_is_no_run_names_runs_nearby(stored, copied):
    place = copied.parent
    message = (
        r"runs must be a folder of `lambdanets train` with config\.json, got none\. Runs there: .*/run\.$"
    )
    with pytest.raises(PathError, match=message):
        load_run(place / "runs")
    with pytest.raises(PathError, match=rf"got none\. Runs there: {copied}\.$"):
        load_run(place)
    with pytest.raises(PathError, match=r"got none\.$"):
        load_run(place / "nowhere/at/all")


def test_preprocessing_is_called_like_a_function(photo):
    preprocessing = Preprocessing(size=16)
    assert torch.equal(preprocessing(photo), preprocessing.read(photo)[0])
