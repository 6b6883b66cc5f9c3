"""Evaluation of images from files: unreadable ones, another size, labels by file name."""

import json
from dataclasses import replace

import pytest

from lambdanets.cli import run
from lambdanets.data.config import FolderConfig
from lambdanets.recipes import get_recipe
from lambdanets.runs.evaluate import EvalSettings, evaluate_run
from lambdanets.training.config import ModelConfig, SchedConfig
from lambdanets.training.run_folder import RunFolder
from support.images import make_folder
from support.runs import train_run
from support.together import run_together

CLASSES = ("ant", "bee", "cat")
EACH = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on class folders of small images, and where they are."""
    root = tmp_path_factory.mktemp("images")
    for part in ("train", "val"):
        make_folder(root / part, CLASSES, each=EACH)
    config = replace(
        get_recipe("digits-conv"),
        num_threads=1,
        global_batch_size=6,
        model=ModelConfig(name="resnet_digits"),
        data=FolderConfig(root=str(root), image_size=16),
        sched=SchedConfig(epochs=2, warmup_epochs=1.0),
    )
    return train_run(root / "run", config)


@pytest.fixture
def damaged(trained):
    """Two test images that cannot be read, for one test."""
    files = [trained.parent / "val" / name for name in ("ant/002.jpg", "cat/000.jpg")]
    contents = [file.read_bytes() for file in files]
    files[0].write_bytes(b"")
    files[1].write_bytes(contents[1][: len(contents[1]) // 2])
    yield files
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)


def test_the_images_are_those_of_training(trained):
    found = evaluate_run(trained, EvalSettings(weights="ema"))
    last = RunFolder(trained).read_metrics()[-1]
    assert found.evaluation.correct == last["test_correct"]
    assert found.evaluation.total == len(CLASSES) * EACH
    assert found.image_size == (16, 16)


@pytest.mark.parametrize("size", [8, 24, 33])
def test_another_size(trained, size):
    found = evaluate_run(trained, EvalSettings(size=size))
    assert found.image_size == (size, size) and found.evaluation.total == 12


def test_the_first_unreadable_image_is_exit_4(trained, damaged, capsys):
    assert run(["eval", str(trained)]) == 4
    error = capsys.readouterr().err
    assert "002.jpg" in error and error.count("\n") == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_are_left_out_and_named(trained, damaged, num_workers, capsys):
    words = ("--skip-bad", "--batch", "5", "--num-workers", str(num_workers))
    assert run(["eval", str(trained), "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["total"], found["left_out"]) == (10, 2)
    assert [row["total"] for row in found["classes"]] == [3, 4, 3]
    assert ["002.jpg" in found["unreadable"][0], "000.jpg" in found["unreadable"][1]] == [True, True]


def test_labels_reach_their_images_past_unreadable_ones(trained, damaged, tmp_path):
    """Sets that hold what the network says, but for one image: the order is that of names with folders."""
    names = [f"{label}/{index:03}.jpg" for label in CLASSES for index in range(EACH)]
    everything = list(range(len(CLASSES)))
    sets = dict.fromkeys(names, everything) | {"bee/001.jpg": [], "cat/000.jpg": []}
    (tmp_path / "real.json").write_text(json.dumps(sets))
    settings = EvalSettings(real=tmp_path / "real.json", skip_bad=True, batch=5)
    alone = evaluate_run(trained, settings).evaluation
    # Of twelve two cannot be read, and of the others one has no label.
    assert (alone.total, alone.real_total, alone.real_correct) == (10, 9, 9)
    parts = [lambda ctx: evaluate_run(trained, settings, ctx=ctx)] * 3
    together = [result.evaluation for result in run_together(parts)]
    for found in together:
        assert (found.total, found.left_out, found.real_total, found.real_correct) == (10, 2, 9, 9)
    assert sorted(why for found in together for why in found.unreadable) == sorted(alone.unreadable)
