"""A teacher's labels: against its own outputs, killed between shards, and refused where they cannot be."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lambdanets.data.augment import PseudoConfig
from lambdanets.data.config import DigitsConfig, SemiConfig
from lambdanets.data.digits import load_semi, normalize
from lambdanets.data.pseudo import MANIFEST, PseudoLabels, shard_name
from lambdanets.errors import ArgumentError, ArgumentTypeError, CheckpointError, DependencyError, PathError
from lambdanets.integrations.timm import _import_timm, load_timm
from lambdanets.pseudo import labelling
from lambdanets.pseudo.labelling import Summary, _read_summary, select, write_labels
from lambdanets.pseudo.settings import LabelConfig, LabelRules, run_config
from lambdanets.pseudo.teachers import _Renormalized, load_teacher
from lambdanets.reading import with_sum
from lambdanets.recipes import get_recipe
from lambdanets.runs.load import load_run
from lambdanets.runs.tasks import load_task
from support.runs import write_run

SIZES = (300, 300, 300, 197)
# Of the teacher's probabilities.
SHARPNESS = 1000


@torch.no_grad()
def know_the_means(network) -> None:
    """Classify by the nearest mean of the labelled images' features."""
    labelled = load_semi(SemiConfig(), 3).train.digits
    images, labels = labelled.images, labelled.labels
    features = network.eval().features(normalize(images))["c5"].mean((2, 3))
    means = torch.stack([features[labels == label].mean(0) for label in range(10)])
    network.classifier.weight.copy_(2 * SHARPNESS * means)
    network.classifier.bias.copy_(-SHARPNESS * means.square().sum(1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without training that is confident of some images, and wrong about some."""
    path = tmp_path_factory.mktemp("runs") / "teacher"
    config = replace(get_recipe("semi"), seed=3, model=get_recipe("digits-conv").model)
    write_run(path, config, know_the_means)
    return path


def config_for(teacher: Path | str, **rules) -> LabelConfig:
    rules = {"shard_size": 300, "min_confidence": 0.5, **rules}
    return LabelConfig(teacher=str(teacher), data=SemiConfig(), seed=3, rules=LabelRules(**rules))


def ignore(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def finished(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels")
    write_labels(config_for(teacher), path, log=ignore)
    return path


@pytest.mark.parametrize("hard", [False, True])
def test_labels_are_the_teacher_s_predictions_for_clean_images(
    hard: bool, teacher: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    summary = write_labels(config_for(teacher, hard=hard), tmp_path / "labels", log=lines.append)
    images = load_semi(SemiConfig(), 3).unlabelled.clean
    with torch.no_grad():
        probabilities = load_run(teacher).model(normalize(images.images)).softmax(dim=1)
    pseudo = PseudoLabels.open(tmp_path / "labels")
    confidences, classes = probabilities.max(dim=1)
    targets = pseudo.targets(torch.arange(len(pseudo)))
    expected = classes[pseudo.indices] if hard else probabilities[pseudo.indices]
    torch.testing.assert_close(targets, expected, atol=1e-5, rtol=0)
    assert lines == [f"shard {n} of 4: {size} images" for n, size in enumerate(SIZES, 1)]
    # The summary, counted image by image.
    confident = [i for i in range(1097) if confidences[i] >= 0.5]
    assert 100 < len(confident) < 1000
    assert summary.num_confident == len(confident) and summary.num_images == 1097
    assert summary.confident == {str(c): sum(1 for i in confident if classes[i] == c) for c in range(10)}
    assert summary.wrong is not None
    assert summary.wrong["confident"] == sum(1 for i in confident if classes[i] != images.labels[i])
    assert summary.wrong["all"] == sum(1 for i in range(1097) if classes[i] != images.labels[i])
    chosen = pseudo.indices.tolist()
    assert summary.wrong["selected"] == sum(1 for i in chosen if classes[i] != images.labels[i])
    assert summary.wrong_fraction == pytest.approx(summary.wrong["selected"] / len(chosen))
    assert summary.filtered_fraction == pytest.approx(1 - len(confident) / 1097)
    assert _read_summary(tmp_path / "labels") == summary


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_labelling_that_was_killed_continues_at_the_next_shard(
    after: int, teacher: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(teacher)
    calls: list[int] = []
    predict = labelling._predict

    def counted(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise Killed
        return predict(*arguments)

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(labelling, "_predict", counted)
        if after == 4:
            # All shards are there, but not the manifest.
            patch.setattr(labelling, "select", killed)
        write_labels(config, tmp_path, log=ignore)
    with pytest.raises(PathError, match="must be a finished folder"):
        PseudoLabels.open(tmp_path)
    # A file that was cut short is made again.
    if after > 1:
        (tmp_path / shard_name(1)).write_bytes((tmp_path / shard_name(1)).read_bytes()[:50])
    lines: list[str] = []
    write_labels(config, tmp_path, log=lines.append)
    assert lines.count("shard 1 of 4: there already") == 1
    assert sum("there already" in line for line in lines) == (after if after == 1 else after - 1)
    for path in sorted(finished.iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    # What is finished is not done again.
    lines.clear()
    write_labels(config, tmp_path, log=lines.append)
    assert not lines


def test_a_folder_with_other_labels_is_refused(teacher: Path, finished: Path) -> None:
    message = r"holds labels with other settings, old -> new:\n  hard: False -> True\nUse another --out\."
    with pytest.raises(ArgumentError, match=message):
        write_labels(config_for(teacher, hard=True), finished, log=ignore)


def test_a_summary_of_old_is_read(finished: Path, tmp_path: Path) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    del manifest["record_sha256"]
    for values in (manifest["summary"], manifest["summary"]["wrong"]):
        values["sure"] = values.pop("confident")
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert _read_summary(tmp_path) == _read_summary(finished)


def select_by_loops(classes, confidences, min_confidence, balance):
    confident = [i for i in range(len(classes)) if confidences[i] >= min_confidence]
    labels = {classes[i] for i in confident}
    chosen = []
    for label in labels:
        those = [i for i in confident if classes[i] == label]
        those.sort(key=lambda i: (-confidences[i], i))
        num = {"none": len(those), "auto": math.ceil(len(confident) / len(labels))}.get(balance, balance)
        chosen += [those[place % len(those)] for place in range(num)]
    return sorted(chosen)


@given(
    images=st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])), max_size=30),
    balance=st.sampled_from(["auto", "none"]) | st.integers(1, 12),
)
@settings(max_examples=150, deadline=None)
def test_the_most_confident_of_each_class_are_kept(images, balance) -> None:
    classes = [label for label, _ in images]
    confidences = [confidence for _, confidence in images]
    found = select(
        torch.tensor(classes, dtype=torch.int64),
        torch.tensor(confidences, dtype=torch.float32),
        LabelRules(min_confidence=0.25, balance=balance),
    )
    assert found.tolist() == select_by_loops(classes, confidences, 0.25, balance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_confidence": 1.5}, r"LabelRules: min_confidence must lie between 0 and 1, got 1\.5\."),
        ({"balance": 0}, r"LabelRules: balance must be at least 1, got 0\."),
        ({"shard_size": 0}, r"LabelRules: shard_size must be at least 1, got 0\."),
    ],
)
def test_rules_are_checked(settings, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        LabelRules(**settings)


def test_a_balance_is_a_number_or_a_word(unchecked) -> None:
    message = r"^LabelRules: balance must be int or one of 'auto', 'none', got 'all'\.$"
    with pytest.raises(ArgumentTypeError, match=message):
        LabelRules(balance="all")


def test_settings_are_checked() -> None:
    data = SemiConfig()
    with pytest.raises(ArgumentError, match=r"LabelConfig: seed must be at least 0, got -1\."):
        LabelConfig(teacher="run", data=data, seed=-1)
    with pytest.raises(
        ArgumentError, match=r"weights must be left out for a teacher that is not timm:NAME, got f"
    ):
        LabelConfig(teacher="run", data=data, weights="f")


def test_who_cannot_teach_is_named(teacher: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(PathError, match="must be a folder of `lambdanets train`"):
        write_labels(config_for(nowhere), tmp_path / "labels", log=print)
    with pytest.raises(PathError, match="must be a folder of `lambdanets train`"):
        run_config(str(nowhere))
    assert run_config("timm:resnet18") is None
    digits = replace(config_for(teacher), data=DigitsConfig())
    message = (
        r"data\.name must be a data set with unlabelled images \(semi, or one of files\), got 'digits'\."
    )
    with pytest.raises(ArgumentError, match=message):
        write_labels(digits, tmp_path / "labels", log=print)


def timm_file(path: Path, **options) -> Path:
    model = _import_timm("test").create_model("test_resnet", **options)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def test_a_model_of_timm_teaches_with_weights_from_a_file(tmp_path: Path) -> None:
    weights = timm_file(tmp_path / "teacher.safetensors", num_classes=10, in_chans=1)
    config = replace(config_for("timm:test_resnet", hard=True, min_confidence=0.0), weights=str(weights))
    summary = write_labels(config, tmp_path / "labels", log=ignore)
    # The names of its classes are not known, so nobody can say what is wrong.
    assert summary.wrong is None and summary.wrong_fraction is None
    assert list(summary.confident) == [str(number) for number in range(10)]
    pseudo = PseudoLabels.open(tmp_path / "labels")
    assert pseudo.labels is None and pseudo.num_classes == 10
    student = replace(get_recipe("semi"), seed=3, pseudo=PseudoConfig(labels=str(tmp_path / "labels")))
    assert len(load_task(student).train) == 400


def test_images_that_a_teacher_does_not_take_are_named(tmp_path: Path) -> None:
    weights = timm_file(tmp_path / "teacher.safetensors", num_classes=10)
    config = replace(config_for("timm:test_resnet"), weights=str(weights))
    with pytest.raises(
        ArgumentError, match=r"pseudo label: teacher must take images of shape \(1, 8, 8\), got"
    ):
        write_labels(config, tmp_path / "labels", log=print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    message = "pseudo label: device cuda needs a GPU for each process of a machine, got 0"
    with pytest.raises(DependencyError, match=message):
        write_labels(config_for("nowhere"), tmp_path / "labels", log=print, device="cuda")
    assert not (tmp_path / "labels").exists()


def test_weights_and_names_of_timm_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ArgumentError, match=r"name must be a model of timm, got 'resnet180'\. Closest: resnet18"
    ):
        load_timm("resnet180")
    with pytest.raises(PathError, match=r"weights must be a file, got .*none, which does not exist\."):
        load_timm("resnet18", tmp_path / "none")
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors must hold the weights of resnet18, got"):
        load_timm("resnet18", tmp_path / "other.safetensors")

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(_import_timm("test"), "create_model", offline)
    message = (
        r"the weights of resnet18 must be within reach, got 'no network'\. .* --weights FILE\.safetensors\."
    )
    with pytest.raises(PathError, match=message):
        load_timm("resnet18")


def test_a_repository_of_the_hub_teaches(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for("hub:somebody/digits")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(teacher / name))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repository, allow_patterns: str(teacher))
    loaded = load_teacher(config)
    assert loaded.labels == tuple("0123456789")
    assert loaded.origin.sha256 == load_teacher(config_for(teacher)).origin.sha256

    def offline(*_):
        raise OSError("no network")

    # A repository of timm's, whose library is missing: it is within reach all the same.
    (tmp_path / "config.json").write_text('{"architecture": "test_resnet"}')
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "hf_hub_download", lambda _, name: str(tmp_path / name))
        patch.setitem(sys.modules, "timm", None)
        with pytest.raises(DependencyError, match=r"load_timm: timm must be installed"):
            load_teacher(config)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(PathError, match=r"hub:somebody/digits must be within reach, got 'no network'\."):
        load_teacher(config)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"huggingface_hub must be installed, got none\."):
        load_teacher(config)


def test_images_are_normalised_as_the_teacher_wants_them() -> None:
    pixels = torch.rand(2, 3, 4, 4)
    usual_mean, usual_std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    usual = (pixels - usual_mean[:, None, None]) / usual_std[:, None, None]
    network = _Renormalized(torch.nn.Flatten(), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    wanted = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.5, 0.25, 0.2])[
        :, None, None
    ]
    torch.testing.assert_close(network(usual), wanted.flatten(1), atol=1e-5, rtol=0)
    grey = usual[:, :1]
    assert torch.equal(network(grey), grey.flatten(1))


def test_an_empty_summary_divides_by_nothing() -> None:
    summary = Summary(
        num_images=3, confident={"0": 0}, selected={"0": 0}, wrong={"all": 3, "confident": 0, "selected": 0}
    )
    assert (summary.filtered_fraction, summary.wrong_fraction) == (1, 0)


def test_a_student_s_task_mixes_both_kinds(finished: Path) -> None:
    num = len(PseudoLabels.open(finished))
    student = replace(get_recipe("semi"), seed=3, pseudo=PseudoConfig(labels=str(finished), ratio=2.5))
    task = load_task(student)
    assert len(task.train) == 200 + 500 and num > 0
    _, targets, _ = task.train.batch(0, task.train.order(0)[:70])
    assert targets.shape == (70, 10)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(70))
    assert (targets.amax(dim=1) == 1).sum() == 20


def test_labels_of_other_images_are_refused(finished: Path, tmp_path: Path) -> None:
    labels = shutil.copytree(finished, tmp_path / "labels")
    pseudo = PseudoConfig(labels=str(labels))
    message = (
        r"pseudo\.labels must be of seed 4, got those of seed 3: it decides which images are unlabelled\."
    )
    with pytest.raises(ArgumentError, match=message):
        load_task(replace(get_recipe("semi"), seed=4, pseudo=pseudo))
    with pytest.raises(
        ArgumentError, match=r"pseudo\.labels must be of the classes apart, related, got 0, 1, 2"
    ):
        load_task(replace(get_recipe("relation"), seed=3, pseudo=pseudo))
    content = json.loads((labels / MANIFEST).read_text())
    content["settings"]["data"] |= {"name": "folder", "root": "images"}
    (labels / MANIFEST).write_text(json.dumps(with_sum(content)))
    message = r"can be shown as those of semi, got labels of folder\."
    with pytest.raises(ArgumentError, match=message):
        load_task(replace(get_recipe("semi"), seed=3, pseudo=pseudo))
