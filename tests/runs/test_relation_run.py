"""A run on the relation data set, whose images are drawn: what other jobs make of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.recipes import get_recipe
from lambdanets.runs.evaluate import evaluate_run
from lambdanets.runs.train import train
from lambdanets.training.config import SchedConfig
from lambdanets.training.run_folder import RunFolder
from support.commands import refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "relation"
    config = replace(get_recipe("relation-conv"), global_batch_size=480, sched=SchedConfig(epochs=1))
    with RunFolder(path).locked(config) as folder:
        train(config, folder, command="lambdanets train relation-conv")
    return path


def test_it_is_evaluated_on_the_test_s_places(finished: Path) -> None:
    found = evaluate_run(finished)
    assert found.labels == ("apart", "related")
    assert found.evaluation.total == 480
    assert found.evaluation.confusion.sum(dim=1).tolist() == [240, 240]


def test_it_takes_no_images_from_outside(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((finished / "best.json").read_text())["preprocessing"] is None
    (tmp_path / "image.png").write_bytes(b"")
    message = refused(capsys, "predict", finished, tmp_path / "image.png")
    assert message.startswith("lambdanets predict: run must be one that files can be given to, got ")
    assert message.endswith("best.safetensors, whose images are drawn or not described.")
