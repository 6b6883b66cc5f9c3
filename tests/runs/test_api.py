"""`lambdanets.train`: what a program or a notebook calls."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

import lambdanets
from lambdanets.data.config import DATA_SETS
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.runs import api
from lambdanets.training.changes import flatten
from lambdanets.training.config import DetectConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder
from support import bars
from support.images import make_folder

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(DATA_SETS, "bars", bars.BarsConfig)
    yield
    bars.ON_BATCH.clear()


def on_batch(number: int, call: Callable[[], None]) -> None:
    """Call something when the training asks for its batch of a number, the first being 1."""
    count = iter(range(1, 1000))
    bars.ON_BATCH.append(lambda: call() if next(count) == number else None)


def test_a_call_trains_and_returns_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = lambdanets.train(bars.bars_config(), out=str(tmp_path / "run"), seed=1)
    assert (run.labels, run.origin.recipe) == (("lying", "standing"), "bars")
    assert RunFolder(tmp_path / "run").read_config(TrainConfig) == bars.bars_config().replace(seed=1)
    out = capsys.readouterr().out
    assert "epoch   2 of 2" in out
    # What is finished is loaded, and says so in the words of Python.
    again = lambdanets.train(bars.bars_config(), tmp_path / "run", seed=1)
    assert again.origin == run.origin
    assert "already finished" in (out := capsys.readouterr().out)
    assert "Use another out=… to train again." in out


def test_the_same_numbers_as_the_command_line(tmp_path: Path) -> None:
    from lambdanets.cli import run

    settings = ["--sched.epochs", "1", "--sched.warmup-epochs", "0", "--global-batch-size", "8"]
    words = ["digits", "--data.name", "bars", *settings, "--label-smoothing", "0"]
    assert run(["train", *words, "--out", str(tmp_path / "shell")]) == 0
    config = lambdanets.get_recipe("digits")
    lambdanets.train(
        config,
        tmp_path / "python",
        data={"name": "bars"},
        sched={"epochs": 1, "warmup_epochs": 0},
        global_batch_size=8,
        label_smoothing=0,
    )
    first, second = (tmp_path / name for name in ("shell", "python"))
    assert (first / "config.json").read_text() == (second / "config.json").read_text()
    losses = [RunFolder(path).read_metrics()[-1]["train_loss"] for path in (first, second)]
    assert losses[0] == losses[1]


def test_without_progress_nothing_is_printed_and_the_log_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lambdanets.train(bars.bars_config(1), tmp_path / "run", progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert "epoch   1 of 1" in (tmp_path / "run/train.log").read_text()


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        lambdanets.train(bars.bars_config(1), tmp_path / "run", progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_an_interrupt_saves_and_the_same_call_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = lambdanets.train(bars.bars_config(), tmp_path / "whole", progress=False)
    on_batch(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 2 of 4; the same call continues there\."):
        lambdanets.train(bars.bars_config(), tmp_path / "run", progress=False)
    assert (tmp_path / "run/checkpoints/step-00000002").is_dir()
    run = lambdanets.train(bars.bars_config(), tmp_path / "run", progress=False)
    assert run.origin.sha256 == whole.origin.sha256


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_end_saves_and_leaves_with_its_code(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_batch(3, lambda: signal.raise_signal(number))
    with pytest.raises(SystemExit) as stop:
        lambdanets.train(bars.bars_config(), tmp_path / "run")
    assert stop.value.code == 75
    assert "stopped at step 3 of 4; the same call continues there." in capsys.readouterr().out


def test_a_thread_that_is_not_the_main_one_may_train(tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(lambdanets.train(bars.bars_config(1), tmp_path / "run", progress=False))
    )
    thread.start()
    thread.join()
    assert found[0].labels == ("lying", "standing")


def test_fast_stands_for_a_short_run() -> None:
    config, _ = api._fitted(lambdanets.get_recipe("digits"), None, {"fast": True, "seed": 3}, "digits")
    assert (config.fast, config.seed, config.sched.epochs) == (True, 3, 5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_folder(tmp_path / "photos", ["cat", "dog"], each=10, size=(80, 60))
    return tmp_path / "photos"


def planned_by_the_shell(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    from lambdanets.cli import run

    assert run(["train", *words, "--dry-run", "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    return {one["name"]: one["value"] for one in plan["settings"]}


# Words, settings, and the size of images and the epochs that are chosen for them.
FITTED = {
    "photos": (["--sched.epochs", "6"], {"sched": {"epochs": 6}}, 48, 6),
    "photos by its batch": (["--global-batch-size", "4"], {"global_batch_size": 4}, 48, 40),
    "photos by their size": (["--data.image-size", "64"], {"data": {"image_size": 64}}, 64, 40),
    "digits": ([], {}, 32, 25),
    "digits in short": (["--fast"], {"fast": True}, 32, 5),
}


@pytest.mark.parametrize("case", FITTED)
def test_a_recipe_is_fitted_to_its_data_as_by_the_command_line(
    case: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    recipe, (words, settings, size, epochs) = case.split()[0], FITTED[case]
    settings = {**settings, "data": {**settings.get("data", {}), "root": Path("photos")}}
    config, choices = api._fitted(lambdanets.get_recipe(recipe), None, settings, recipe)
    assert "images" in choices
    found = json.loads(json.dumps(flatten(config)))
    chosen = [found[name] for name in ("data.root", "data.image_size", "sched.epochs")]
    assert chosen == [str(photos), size, epochs]
    shell = planned_by_the_shell([recipe, "--data.root", "photos", *words], capsys)
    both = found.keys() & shell.keys()
    assert {name: found[name] for name in both} == {name: shell[name] for name in both}


def test_a_config_is_trained_as_it_is(photos: Path) -> None:
    config = lambdanets.get_recipe("photos").replace(data={"root": photos, "holdout": 0.5})
    config, choices = api._fitted(config, None, {}, config)
    assert (config.sched.epochs, config.data.image_size, choices) == (30, 96, {})  # type: ignore[attr-defined]


def test_what_was_chosen_is_printed_with_the_reasons(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enough(*_: object, **__: object) -> None:
        raise RuntimeError("enough")

    monkeypatch.setattr("lambdanets.runs.train.train", enough)
    with pytest.raises(RuntimeError, match="enough"):
        lambdanets.train("photos", tmp_path / "run", data={"root": photos})
    out = capsys.readouterr().out
    assert 'its twin with convolutions: model={"name": "resnet_photos"};' in out
    assert "validation: 0.2 of each class" in out


def test_the_report_has_the_call_that_repeats_the_run(tmp_path: Path) -> None:
    config = lambdanets.get_recipe("digits").replace(
        seed=2, sched={"epochs": 3}, model={"overrides": {"dropout": 0.1}}
    )
    call = api._as_call("train", config, "runs/x", None)
    assert call == (
        "lambdanets.train('digits', out='runs/x', seed=2, sched={'epochs': 3},"
        " model={'overrides': {'dropout': 0.1}})"
    )
    # What the images chose is no part of the call.
    assert api._as_call("train", config, "runs/x", {"seed"}) == (
        "lambdanets.train('digits', out='runs/x', seed=2)"
    )
    lambdanets.train(bars.bars_config(1), tmp_path / "run", progress=False)
    assert "lambdanets.train(config, out=" in (tmp_path / "run/report.md").read_text()


@pytest.mark.parametrize(
    ("settings", "kind"), [(api.TrainSettings, TrainConfig), (api.DetectSettings, DetectConfig)]
)
def test_the_typed_names_are_those_of_the_config(settings: type, kind: type) -> None:
    assert get_type_hints(settings).keys() == get_type_hints(kind).keys() - {"recipe"}


REFUSED: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    'train: epochs must be a setting of TrainConfig, got an unknown one. Write sched={"epochs": …}.': (
        ArgumentError,
        {"recipe": "digits", "epochs": 3},
    ),
    "get_recipe: unknown recipe 'digit'. Closest: digits,": (ArgumentError, {"recipe": "digit"}),
    "get_recipe: scenes-demo must be trained by `lambdanets.train_detector`, got another command.": (
        ArgumentError,
        {"recipe": "scenes-demo"},
    ),
    'root must be given, got none. Use data={"root": DIR}, with the parts train and val, or': (
        ArgumentError,
        {"recipe": "imagenet-lambda-resnet50-90ep"},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_trained_is_refused_in_the_words_of_python(message: str, tmp_path: Path) -> None:
    kind, arguments = REFUSED[message]
    with pytest.raises(kind, match=re.escape(message)):
        lambdanets.train(out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unchecked")
def test_a_config_of_another_kind_is_refused() -> None:
    config: Any = lambdanets.get_recipe("scenes-demo", DetectConfig)
    message = (
        "train: recipe must be the name of one or a TrainConfig, got a DetectConfig."
        " `lambdanets.train_detector` takes it."
    )
    with pytest.raises(ArgumentTypeError, match=re.escape(message)):
        lambdanets.train(config)
    other: Any = 3
    with pytest.raises(ArgumentTypeError, match=r"or a DetectConfig, got a int\.$"):
        lambdanets.train_detector(other)


def test_a_folder_of_another_run_is_refused_and_may_be_allowed(tmp_path: Path) -> None:
    lambdanets.train(bars.bars_config(1), tmp_path / "run", progress=False)
    with pytest.raises(ArgumentError) as refused:
        lambdanets.train(bars.bars_config(2), tmp_path / "run", progress=False)
    assert "  sched.epochs: 1 -> 2\nUse another out=…, or the old settings" in str(refused.value)
    assert "resume_allow=['sched.epochs']" in str(refused.value)
    longer = lambdanets.train(
        bars.bars_config(2), tmp_path / "run", progress=False, resume_allow=["sched.epochs"]
    )
    assert longer.labels == ("lying", "standing")
    assert RunFolder(tmp_path / "run").read_metrics()[-1]["epoch"] == 2


WORDS = {
    "Use --faults.nonfinite skip.": 'Use faults={"nonfinite": "skip"}.',
    "give --detector.weights, or": 'give detector={"weights": …}, or',
    "Use --detector.norm group or batch.": 'Use detector={"norm": "group" or "batch"}.',
    "with --exec.num-workers.": 'with exec={"num_workers": …}.',
    "all the same: --resume-allow seed sched.epochs": "all the same: resume_allow=['seed', 'sched.epochs']",
    "Use another --out.": "Use another out=….",
    "its twin: --model.name resnet_photos; small": 'its twin: model={"name": "resnet_photos"}; small',
}


@pytest.mark.parametrize("text", WORDS)
def test_options_are_spoken_of_as_arguments(text: str) -> None:
    assert api._in_python(text) == WORDS[text]


@pytest.mark.slow
def test_a_program_is_interrupted_from_outside(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import lambdanets\n"
        "try:\n"
        "    lambdanets.train('digits', out='run')\n"
        "except KeyboardInterrupt as stop:\n"
        "    print('interrupted:', stop)\n"
    )
    source = str(Path(lambdanets.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        printed = []
        for line in child.stdout:
            printed.append(line)
            if "first step" in line:
                child.send_signal(signal.SIGINT)
    assert child.returncode == 0
    assert re.fullmatch(r"interrupted: stopped at step \d+ of 525; the same call .*\n", printed[-1])
    assert next((tmp_path / "run/checkpoints").glob("step-*")).is_dir()
