"""R5, a whole run: planted files are counted and named in the report, too many end it, a test bears none."""

from dataclasses import replace

import pytest
from torch import nn

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import FolderConfig
from lambdanets.errors import DataError
from lambdanets.recipes import get_recipe
from lambdanets.runs import tasks
from lambdanets.runs.train import train
from lambdanets.training.checkpoint import load_checkpoint
from lambdanets.training.config import CkptConfig, ExecConfig, FaultConfig, SchedConfig
from lambdanets.training.run_folder import RunFolder
from support.images import make_folder, plant


def _tiny(name, num_classes, in_channels, **overrides):
    layers = nn.Conv2d(in_channels, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A training part with broken files among whole ones, and a whole test."""
    monkeypatch.setattr(tasks, "create_model", _tiny)
    root = tmp_path / "photos"
    make_folder(root / "train", ["cat", "dog"], each=30)
    make_folder(root / "val", ["cat", "dog"], each=4)
    return root, plant(root / "train" / "cat")


def _config(root, share, workers=0, epochs=2, **augment):
    return replace(
        get_recipe("digits"),
        global_batch_size=16,
        ema_decay=0.9,
        data=FolderConfig(root=str(root), image_size=16),
        augment=AugmentConfig(**augment),
        sched=SchedConfig(epochs=epochs),
        ckpt=CkptConfig(),
        exec=ExecConfig(device="cpu", num_workers=workers),
        faults=FaultConfig(max_unreadable_fraction=share),
    )


def _run(config, folder):
    run = RunFolder(folder)
    with run.locked(config):
        train(config, run, command="lambdanets train")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_planted_files_are_those_of_the_report(photos, tmp_path, workers):
    root, planted = photos
    run = _run(_config(root, 0.5, workers), tmp_path / "run")
    named = load_checkpoint(run.checkpoints).record["events"]["unreadable"]
    assert len(named) == len(planted.unreadable)
    report = run.report.read_text(encoding="utf-8", errors="surrogateescape")
    row = next(line for line in report.splitlines() if line.startswith("| unreadable files |"))
    assert f"{len(planted.unreadable)} of " in row
    assert all(sentence in report for sentence in named)


def test_too_many_end_the_run_with_4_and_the_last_one_is_named(photos, tmp_path):
    root, planted = photos
    with pytest.raises(DataError, match=r"files must be readable but for 1\.0% of them") as raised:
        _run(_config(root, 0.01), tmp_path / "run")
    assert raised.value.exit_code == 4
    assert any(name in str(raised.value) for name in planted.unreadable)


def test_a_test_ends_at_the_first(photos, tmp_path):
    root, _ = photos
    (root / "val" / "cat" / "cut.jpg").write_bytes(b"")
    message = (
        r"val/cat/cut\.jpg: must be an image .*, got another kind of file\. It is one of the validation"
        r" images, all of which must be readable: repair or remove it\. lambdanets data check .*/photos"
        r" --decode names all such files; then type the same command again\.$"
    )
    with pytest.raises(DataError, match=message):
        _run(_config(root, 0.5), tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_everything_that_changes_images(photos, tmp_path):
    """RandAugment, mixup and cutmix in one run, and the same numbers in the next."""
    root, _ = photos
    options = {"randaugment_layers": 2, "randaugment_magnitude": 10.0, "mixup": 0.2, "cutmix": 1.0}
    runs = [_run(_config(root, 0.5, workers, **options), tmp_path / str(workers)) for workers in (0, 2)]
    losses = [[record["train_loss"] for record in run.read_metrics()] for run in runs]
    assert losses[0] == losses[1]
