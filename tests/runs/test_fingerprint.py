"""What a number means travels with it: runs continued and used on other data, each change of each kind."""

import hashlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import lambdanets
from lambdanets.data.detection import CocoConfig
from lambdanets.errors import ArgumentError, CheckpointError, DataError
from lambdanets.recipes import get_recipe
from lambdanets.runs import detect as detect_runs
from lambdanets.runs import fingerprint, origin, tasks
from lambdanets.runs import train as train_module
from lambdanets.training.config import DetectConfig, ModelConfig, SchedConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder
from support.changed_data import COCO_CHANGES, FOLDER, KINDS, cases, edit_coco
from support.coco import write_data_set
from support.commands import refused
from support.runs import photo_run, train_run

ONE_MORE = ["sched.epochs"]


def _config(data, epochs=1, **settings):
    return get_recipe("digits-conv").replace(
        model=ModelConfig(name="resnet_digits"),
        num_threads=1,
        global_batch_size=4,
        ema_decay=0.5,
        data=data,
        sched=SchedConfig(epochs=epochs),
        **settings,
    )


def _continue(out, data, allow=()):
    """One epoch more, on the data as they are now."""
    config = _config(data, epochs=2)
    with pytest.MonkeyPatch.context() as patch, RunFolder(out).locked(config, [*ONE_MORE, *allow]) as folder:
        patch.setattr(tasks, "write_report", lambda *_, **__: "")
        train_module.train(config, folder, command="lambdanets train", allow=[*ONE_MORE, *allow])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set of each kind, and a run of one epoch on it."""
    places = {}
    for name, kind in KINDS.items():
        place = places[name] = tmp_path_factory.mktemp("runs")
        kind.write(place / "set")
        train_run(place / "run", _config(kind.config(place / "set")))
    return places


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the data and of the run of a kind; the data have moved with it, and the run knows."""

    def copy(kind):
        shutil.copytree(trained[kind], tmp_path / "copy")
        path = tmp_path / "copy" / "run" / "config.json"
        path.write_text(path.read_text().replace(str(trained[kind]), str(tmp_path / "copy")))
        return tmp_path / "copy" / "set", tmp_path / "copy" / "run"

    return copy


# The others are tried too, by the slow tests.
QUICK = (
    ("folder", "a class is renamed, and the numbers swap"),
    ("shards", "a shard of the same size and time has other labels"),
)
EACH = [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in cases()]
WEIGHTS = itertools.cycle(("raw", "best", "ema"))


@pytest.mark.parametrize(("kind", "change"), EACH)
def test_a_run_is_continued_on_its_own_data_alone(kind, change, copied):
    root, out = copied(kind)
    apply, names, words = KINDS[kind].changes[change]
    apply(root)
    data = KINDS[kind].config(root)
    allow = ["data.root"]
    if names == ():
        _continue(out, data, allow)
        return
    settings = (out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"resume: .*step-00000002 must be of a training on") as raised:
        _continue(out, data, allow)
    assert words in str(raised.value)
    # A command that is refused changes no setting.
    assert (out / "config.json").read_bytes() == settings
    if names is None:
        assert "train it with another --out" in str(raised.value)
        return
    assert str(raised.value).endswith(f"--resume-allow {' '.join(names)}")
    for left_out in names if len(names) > 1 else ():
        with pytest.raises(CheckpointError, match=rf"--resume-allow {left_out}$"):
            _continue(out, data, [*allow, *(name for name in names if name != left_out)])
    _continue(out, data, [*allow, *names])
    log = RunFolder(out).warnings()
    assert any(line.startswith(f"from step 2 on {names[-1]}: ") for line in log)
    assert RunFolder(out).read_config(TrainConfig).sched.epochs == 2
    state = json.loads(max((out / "checkpoints").iterdir()).joinpath("state.json").read_text())
    made = state["description"]["fingerprint"]["data"]
    assert made["classes"] == list(lambdanets.load_run(out, weights="raw").labels)


@pytest.mark.parametrize(
    ("kind", "change", "weights"),
    [
        pytest.param(*case, weights, marks=[pytest.mark.slow] * (case != QUICK[0]))
        for case, weights in zip(cases(), WEIGHTS, strict=False)
    ],
)
def test_an_evaluation_refuses_other_classes_and_names_other_images(kind, change, weights, copied, capsys):
    root, out = copied(kind)
    apply, names, words = KINDS[kind].changes[change]
    apply(root)
    if names is None or "data.classes" in names:
        assert "the test images must have the 2 classes" in refused(
            capsys, "eval", out, "--weights", weights, code=4
        )
        return
    printed_lines = _errors_of(capsys, "eval", out, "--weights", weights)
    test_changes = [text for text in words.split("; ") if text.startswith("test: ")]
    expected = [f"others than in training: {text.removeprefix('test: ')}" for text in test_changes]
    assert len(printed_lines) == len(expected)
    assert all(text in line for text, line in zip(expected, printed_lines, strict=True))


def _errors_of(capsys, *words):
    from lambdanets.cli import run

    assert run([str(word) for word in words]) == 0
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


@pytest.fixture
def elsewhere(monkeypatch):
    """Another version of a library, and a processor that can do less."""
    monkeypatch.setattr(fingerprint, "libraries", lambda: {**origin.libraries(), "torch": "9.9.9"})
    monkeypatch.setattr(fingerprint, "processor", lambda device="cpu": "cpu DEFAULT")


def test_another_machine_is_named_where_a_run_goes_on(copied, elsewhere):
    root, out = copied("folder")
    _continue(out, FOLDER.config(root), ["data.root"])
    warnings = [line for line in RunFolder(out).warnings() if line.startswith("from step 2 on ")]
    assert any(line.endswith(" -> 9.9.9") and "on libraries: torch " in line for line in warnings)
    assert any(line.endswith(" -> cpu DEFAULT") and "on processor: cpu " in line for line in warnings)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("eval", "{run}"), marks=pytest.mark.slow),
        ("predict", "{run}", "{image}"),
        pytest.param(("predict", "{run}/best.safetensors", "{image}"), marks=pytest.mark.slow),
        pytest.param(("predict", "{checkpoint}", "{image}"), marks=pytest.mark.slow),
        pytest.param(("predict", "{run}", "{image}", "--weights", "raw"), marks=pytest.mark.slow),
    ],
)
def test_another_machine_is_named_in_one_line_where_weights_are_used(words, copied, elsewhere, capsys):
    root, out = copied("folder")
    (checkpoint,) = (out / "checkpoints").iterdir()
    image = root / "val/ant/000.jpg"
    words = [word.format(run=out, image=image, checkpoint=checkpoint) for word in words]
    (line,) = _errors_of(capsys, *words)
    assert line.endswith("-> cpu DEFAULT: the last digits may differ") and "trained with torch " in line


@pytest.mark.slow
def test_the_weights_that_a_run_starts_with_tell_of_their_data(copied, elsewhere):
    root, out = copied("folder")
    train_run(out.with_name("tuned"), _config(FOLDER.config(root), init=str(out)))
    record = json.loads((out.with_name("tuned") / "init.json").read_text())
    assert record["fingerprint"]["data"]["classes"] == ["ant", "bee"]
    assert record["warnings"] and "the last digits may differ" in record["warnings"][0]


@pytest.mark.slow
def test_old_weights_without_a_fingerprint_are_compared_with_nothing(copied, elsewhere, capsys):
    root, out = copied("folder")
    _forget(out)
    (root / "val/ant/000.jpg").unlink()
    (root / "train/ant/000.jpg").unlink()
    assert _errors_of(capsys, "eval", out, "--weights", "raw") == []
    _continue(out, FOLDER.config(root), ["data.root"])


def _forget(out):
    """Make a checkpoint one of an earlier version."""
    (checkpoint,) = (out / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    del state["description"]["fingerprint"]
    content = json.dumps(state).encode()
    (checkpoint / "state.json").write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"]["state.json"] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: [],
        lambda made: made | {"data": None},
        lambda made: made | {"libraries": {"torch": 2}},
        lambda made: made | {"data": made["data"] | {"classes": [1]}},
        lambda made: made | {"data": made["data"] | {"test": {"images": "4"}}},
        lambda made: {name: value for name, value in made.items() if name != "processor"},
    ],
)
def test_an_odd_fingerprint_is_refused_in_one_sentence(change):
    part = {"images": 1, "by_class": [1], "digest": "a"}
    made = fingerprint.fingerprint({"classes": ["a"], "train": part, "test": part}, threads=1)
    assert fingerprint.stored_fingerprint({"fingerprint": made}, "x") == made
    with pytest.raises(CheckpointError, match=r"^fingerprint: x must say on which data .* got .*\.$"):
        fingerprint.stored_fingerprint({"fingerprint": change(made)}, "x")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("data.clases", "data.classes"),
        pytest.param("epochs", "sched.epochs", marks=pytest.mark.slow),
        pytest.param("world-size", "world_size", marks=pytest.mark.slow),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest, tmp_path, capsys):
    for more in ((), ("--dry-run",)):
        message = refused(capsys, "train", "digits", "--out", tmp_path / "run", "--resume-allow", name, *more)
        assert f"got '{name}'. Closest: {nearest}" in message
    with pytest.raises(ArgumentError, match=f"resume_allow must name settings of the run.*{nearest}"):
        lambdanets.train("digits", tmp_path / "run", resume_allow=[name])
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_report_is_not_made_again_on_other_images(copied, capsys):
    root, out = copied("folder")
    (root / "val/ant/000.jpg").rename(root / "val/bee/zzz.jpg")
    message = refused(capsys, "report", out, code=4)
    assert "report: the images must be those that" in message and "test: ant -1, bee +1" in message


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    place = tmp_path_factory.mktemp("detector")
    write_data_set(place / "set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect_runs, "_write_report", lambda *_, **__: "")
        _detect(place / "run", place / "set", 1)
    return place


def _detect(out, root, epochs, allow=()):
    recipe = get_recipe("scenes-demo", DetectConfig)
    config = replace(
        recipe,
        num_threads=1,
        data=CocoConfig(root=str(root), train="train", test="val", image_size=64),
        model=ModelConfig(name="resnet_scenes"),
        detector=replace(
            recipe.detector,
            **{"channels": 16, "box_features": 16, "proposals": 20, "box_samples": 16, "masks": False},
            anchor_sizes=(8.0, 16.0, 24.0, 32.0, 48.0),
        ),
        sched=SchedConfig(epochs=epochs),
    )
    with RunFolder(out).locked(config, allow) as folder:
        train_module.train(config, folder, command="lambdanets detect train", allow=allow)


@pytest.mark.slow
@pytest.mark.parametrize("change", COCO_CHANGES)
def test_a_detector_goes_on_with_its_own_data_alone(change, detector, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detect_runs, "_write_report", lambda *_, **__: "")
    copy = shutil.copytree(detector, tmp_path / "copy")
    apply, names, words = COCO_CHANGES[change]
    apply(copy / "set")
    allow = [*ONE_MORE, "data.root"]
    if names == ():
        _detect(copy / "run", copy / "set", 2, allow)
        return
    with pytest.raises(CheckpointError, match="must be of a training on the same data") as raised:
        _detect(copy / "run", copy / "set", 2, allow)
    assert words in str(raised.value) and str(raised.value).endswith(f"--resume-allow {' '.join(names)}")
    _detect(copy / "run", copy / "set", 2, [*allow, *names])


@pytest.mark.slow
def test_a_detector_is_evaluated_on_other_images_with_a_word(detector, tmp_path, capsys):
    copy = shutil.copytree(detector, tmp_path / "copy")
    path = copy / "run" / "config.json"
    path.write_text(path.read_text().replace(str(detector), str(copy)))
    assert _errors_of(capsys, "detect", "eval", copy / "run") == []
    edit_coco(copy / "set", "val", lambda content: content["annotations"].pop())
    (line,) = _errors_of(capsys, "detect", "eval", copy / "run")
    assert line.endswith("the test images are others than in training: block (id 90) -1 objects")
    edit_coco(copy / "set", "val", lambda content: content["categories"][0].update(name="square"))
    assert "must have categories of" in refused(capsys, "detect", "eval", copy / "run", code=4)


def test_a_record_is_in_every_file_of_weights(trained):
    out = trained["folder"] / "run"
    best = json.loads((out / "best.json").read_text())["fingerprint"]
    (checkpoint,) = (out / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())["description"]["fingerprint"]
    assert best == state
    assert best["threads"] == 1 and best["processes"] == 1 and best["processor"].startswith("cpu ")
    assert {"lambdanets", "torch", "torchvision", "numpy", "pillow"} <= best["libraries"].keys()
    assert lambdanets.load_run(out).origin.fingerprint == best


@pytest.mark.slow
def test_pseudo_labels_are_of_their_images(tmp_path):
    from lambdanets.data.augment import PseudoConfig
    from lambdanets.pseudo.labelling import write_labels
    from lambdanets.pseudo.settings import LabelConfig, LabelRules
    from lambdanets.runs.tasks import load_task

    out, config, _ = photo_run(tmp_path / "set", ["ant", "bee"])
    labelling = LabelConfig(
        teacher=str(out), data=config.data, rules=LabelRules(min_confidence=0.0, shard_size=2)
    )
    labels = tmp_path / "labels"
    write_labels(labelling, labels, log=lambda line: None)
    student = replace(config, pseudo=PseudoConfig(labels=str(labels)))
    assert len(load_task(student).train) == 8
    manifest = json.loads((labels / "manifest.json").read_text())
    assert manifest["fingerprint"]["data"]["train"]["by_class"] == [2, 2]
    assert manifest["labels"] == ["ant", "bee"]
    folder = tmp_path / "set" / "train"
    (folder / "ant" / "000.jpg").rename(folder / "ant" / "zzz.jpg")
    message = r"pseudo\.labels must be of the images that are there now, got .*equal counts, other names"
    with pytest.raises(DataError, match=message):
        load_task(student)
    # An unfinished labelling does not go on with other images.
    (labels / "manifest.json").unlink()
    with pytest.raises(
        DataError, match=r"pseudo label: .* must hold labels of the images that are there now"
    ):
        write_labels(labelling, labels, log=lambda line: None)
    assert Path(labels, "settings.json").is_file()
