"""The recipe for one's own images: what it chooses by the images, and that its choice holds."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lambdanets.cli import _options
from lambdanets.cli.train import train
from lambdanets.data.config import FolderConfig, ShardsConfig
from lambdanets.errors import PathError
from lambdanets.models import create_model, model_config
from lambdanets.recipes import fit_recipe, get_recipe, is_fitted, replace_data
from lambdanets.recipes.origins import settings_with_origins
from support.commands import printed, refused
from support.images import make_folder

PHOTOS = get_recipe("photos")


def folder(root, num, size=(200, 150), classes=2):
    """Class folders with links to one image: as many as wanted, at once."""
    root.mkdir()
    image = root.parent / f"{size[0]}.png"
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(image)
    for number in range(classes):
        (root / f"class{number}").mkdir()
    for number in range(num):
        (root / f"class{number % classes}" / f"{number}.png").symlink_to(image)
    return root


def fitted(root, *given, **settings):
    data = replace(FolderConfig(root=str(root)).located(), **settings)
    return fit_recipe(replace(PHOTOS, data=data), given)


@pytest.mark.parametrize(
    ("num", "size", "image_size", "model", "batch"),
    [
        (100, (200, 150), 96, "lambda_resnet_photos", 16),
        (100, (90, 70), 64, "lambda_resnet_photos", 16),
        (100, (28, 28), 32, "lambda_resnet_photos", 16),
        (2000, (200, 150), 96, "lambda_resnet_photos", 32),
        (5200, (200, 150), 128, "lambda_resnet_photos_deep", 64),
        (100, (100, 120), 96, "lambda_resnet_photos", 16),
    ],
)
def test_the_images_decide(tmp_path, num, size, image_size, model, batch):
    config, said = fitted(folder(tmp_path / "photos", num, size))
    assert (config.data.image_size, config.model.name, config.global_batch_size) == (image_size, model, batch)
    assert said["images"].startswith(
        f"{image_size}×{image_size} pixels: shorter sides of about {min(size)}, "
    )
    assert said["network"].startswith(f"{model}: the ")
    assert f"--model.name {model.removeprefix('lambda_')}" in said["network"]
    assert said["training"].startswith(f"{config.sched.epochs} epochs of ")
    assert (config.model.overrides == {"stem": "small"}) == (image_size == 32)


def test_the_same_images_lead_to_the_same_choice_and_more_images_seldom_to_another(tmp_path):
    root = folder(tmp_path / "photos", 200)
    first = fitted(root)
    assert fitted(root) == first
    (root / "class0" / "more.png").symlink_to(tmp_path / "200.png")
    again, _ = fitted(root)
    assert replace(again, data=first[0].data) == first[0]


def test_what_is_given_stays_and_takes_part(tmp_path):
    root = folder(tmp_path / "photos", 100)
    config, said = fitted(root, "data.image_size", image_size=48)
    assert config.data.image_size == 48 and config.model.overrides == {"stem": "small"}
    assert said["images"].startswith("48×48 pixels as given; shorter sides of about 150, ")
    given = replace(
        PHOTOS,
        data=FolderConfig(root=str(root)).located(),
        model=replace(PHOTOS.model, name="resnet_digits"),
        sched=replace(PHOTOS.sched, epochs=7),
    )
    config, said = fit_recipe(given, ["model.name", "sched.epochs"])
    assert (config.model.name, config.sched.epochs, config.sched.warmup_epochs) == ("resnet_digits", 7, 0.7)
    assert said["network"] == "resnet_digits as given" and said["training"].startswith("7 epochs of ")


def test_a_file_that_is_no_image_does_not_decide(tmp_path):
    root = folder(tmp_path / "photos", 20)
    for number in range(200):
        (root / "class0" / f"text{number}.jpg").write_text("no image")
    assert fitted(root)[0].data.image_size == 96


def test_without_a_place_there_is_no_choice():
    assert is_fitted("photos") and not is_fitted("digits")
    assert fit_recipe(PHOTOS) == (PHOTOS, {})
    digits = get_recipe("digits")
    assert fit_recipe(digits) == (digits, {})


def test_the_twins_differ_in_the_lambda_layers_alone():
    for name in ("photos", "photos_deep"):
        ours, twin = model_config(f"lambda_resnet_{name}"), model_config(f"resnet_{name}")
        assert replace(ours, layers="CCCC") == twin and ours.layers == "CCLL"
        assert sum(p.numel() for p in create_model(f"resnet_{name}", num_classes=3).parameters()) < 1_000_000


@pytest.fixture
def photos(tmp_path, monkeypatch):
    make_folder(tmp_path / "photos", ["ant", "bee"], each=12, size=(80, 60))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def parsed(monkeypatch, *words):
    """The config that a command line gives."""
    found = []
    monkeypatch.setattr(
        "lambdanets.cli.train._RunOptions.start", lambda self, config, *_: found.append(config) or 0
    )
    _options.call(train, [*map(str, words)], "train")
    return found[0]


def test_the_choice_is_the_default_of_the_options(photos, monkeypatch):
    config = parsed(monkeypatch, "photos", "--data.root", "photos")
    assert (config.data.image_size, config.global_batch_size) == (48, 16)
    assert (config.data.root, config.data.root_given) == (str(photos), "photos")
    assert (config.data.train, config.data.holdout, config.sched.epochs) == (".", 0.2, 40)
    other = parsed(monkeypatch, "photos", "--data.root=photos", "--data.image-size=64", "--sched.epochs", "2")
    assert (other.data.image_size, other.sched.epochs, other.sched.warmup_epochs) == (64, 2, 0.2)
    assert other.model.overrides == {}
    assert parsed(monkeypatch, "photos", "--data.root", "photos") == config


def test_a_choice_is_no_change_of_the_recipe(photos, monkeypatch):
    words = ("photos", "--data.root", "photos", "--model.name", "resnet_photos")
    config = parsed(monkeypatch, *words)
    given = _options.given_settings(config, words)
    origins = {one.name: one.origin for one in settings_with_origins(config, given)}
    assert origins["data.image_size"] == origins["sched.epochs"] == origins["data.holdout"] == "the images"
    assert origins["model.overrides.stem"] == "the images"
    assert origins["model.name"] == origins["data.root"] == "command line"
    assert origins["optim.learning_rate"] == "recipe photos"


def test_the_choice_is_told_before_anything_runs(photos, capsys):
    text = printed(capsys, "train", "photos", "--data.root", "photos", "--dry-run")
    assert "  class  train  validation\n" in text and "  all" in text
    assert "images        48×48 pixels: shorter sides of about 60, " in text
    assert (
        "\nnetwork       lambda_resnet_photos: the smaller of two, for so many images; its twin with" in text
    )
    assert (
        "\ntraining      40 epochs of 2 steps of at most 16 images; the more images, the fewer epochs" in text
    )


def test_help_shows_the_choice_and_does_without_a_place(photos, capsys):
    defaults = []
    for place in ("photos", "nowhere"):
        text = " ".join(
            printed(capsys, "train", "photos", "--data.root", place, "--help").replace("│", "").split()
        )
        help_of = text.partition("--data.image-size")[2], text.partition("--sched.epochs")[2]
        defaults.append([re.search(r"\(default: (\d+)\)", one)[1] for one in help_of])
    assert defaults == [["48", "40"], ["96", "30"]]
    message = refused(capsys, "train", "photos")
    assert "root must be given, got none. Use --data.root DIR" in message


def test_a_bad_folder_is_refused_without_torch_or_a_run(photos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lambdanets.runs.train", None)
    for recipe in ("photos", "digits"):
        message = refused(capsys, "train", recipe, "--data.root", photos / "ant", code=4)
        assert "got 12 images and no folder. If these are the images of one class" in message
    assert not (photos.parent / "runs").exists()


def test_a_root_gives_any_recipe_the_images_of_a_folder(photos, monkeypatch):
    place = ("--data.root", "photos")
    config = parsed(monkeypatch, "digits", *place)
    assert isinstance(config.data, FolderConfig) and config.data.train == "."
    # The network of the digits has 8×8 pixels and keeps their size.
    assert config.data.image_size == 32
    assert parsed(monkeypatch, "digits", *place, "--data.image-size", "40").data.image_size == 40
    assert parsed(monkeypatch, "pathfinder", *place).data.image_size == 32
    assert parsed(monkeypatch, "imagenet-lambda-resnet50-90ep", *place).data.image_size == 224
    (photos / "train").mkdir()
    (photos / "train" / "a.tar").touch()
    assert isinstance(parsed(monkeypatch, "digits", *place).data, ShardsConfig)


def test_what_was_chosen_for_other_images_is_told():
    _, said = replace_data(get_recipe("digits"), root="nowhere")
    assert said == {"images": "32×32 pixels, for the network of digits; others by --data.image-size"}
    assert replace_data(get_recipe("digits")) == (get_recipe("digits"), {})


def test_a_place_that_is_gone_takes_no_origins_away(tmp_path):
    config, _ = fitted(folder(tmp_path / "photos", 100))
    gone = replace(config, data=replace(config.data, root=str(tmp_path / "gone")))
    with pytest.raises(PathError, match=r"which is not there"):
        fit_recipe(gone)
    assert {one.name: one.value for one in settings_with_origins(gone)}["data.image_size"] == 96


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["photos", "digits"])
def test_a_network_is_trained_on_a_folder_and_found_again(recipe, photos, capsys, monkeypatch):
    words = ("train", recipe, "--num-threads", "1", "--exec.num-workers", "0", "--out", photos.parent / "run")
    short = ("--sched.epochs", "2", "--sched.warmup-epochs", "0")
    first = printed(capsys, *words, *short, "--data.root", "photos")
    assert "  class  train  validation" in first and "epoch   2 of 2" in first
    (photos.parent / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert "is already finished" in printed(capsys, *words, *short, "--data.root", "../photos")
