"""A teacher's labels: against its own outputs, killed between shards, and refused where they cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lambdanets.data.config import DigitsConfig, PseudoConfig, SemiConfig
from lambdanets.data.digits import normalize
from lambdanets.data.pseudo import PseudoLabels, shard_name
from lambdanets.data.semi import load_semi
from lambdanets.errors import ArgumentError, CheckpointError, DependencyError, PathError
from lambdanets.integrations.timm import import_timm, load_timm
from lambdanets.pseudo import labelling
from lambdanets.pseudo.labelling import Summary, num_of_each, read_summary, write_labels
from lambdanets.pseudo.settings import LabelConfig, LabelRules, run_config
from lambdanets.pseudo.teachers import Renormalized, load_teacher
from lambdanets.recipes import get_recipe
from lambdanets.runs.load import load_run
from lambdanets.runs.tasks import load_task
from lambdanets.runs.train import train
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.settings import SchedConfig

timm = import_timm("tests")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "teacher"
    config = replace(get_recipe("semi"), seed=3, sched=SchedConfig(epochs=6, warmup_epochs=1.0))
    with RunFolder(path).locked(config) as folder:
        train(config, folder, command="lambdanets train semi")
    return path


def config_for(teacher: Path | str, **rules) -> LabelConfig:
    rules = {"shard_size": 300, "min_confidence": 0.2, **rules}
    return LabelConfig(teacher=str(teacher), data=SemiConfig(), seed=3, rules=LabelRules(**rules))


@pytest.mark.parametrize("hard", [False, True])
def test_labels_are_what_the_teacher_makes_of_clean_images(hard: bool, teacher: Path, tmp_path: Path) -> None:
    said: list[str] = []
    summary = write_labels(config_for(teacher, hard=hard), tmp_path / "labels", tell=said.append)
    images = load_semi(3).unlabelled
    with torch.no_grad():
        shares = load_run(teacher).model(normalize(images.images)).softmax(dim=1)
    pseudo = PseudoLabels.open(tmp_path / "labels")
    confidences, classes = shares.max(dim=1)
    targets = pseudo.targets(torch.arange(len(pseudo)))
    expected = classes[pseudo.indices] if hard else shares[pseudo.indices]
    torch.testing.assert_close(targets, expected, atol=1e-5, rtol=0)
    assert said == [
        f"shard {n} of 4: {size} images" for n, size in zip((1, 2, 3, 4), (300, 300, 300, 197), strict=True)
    ]
    # The summary, counted image by image.
    sure = [i for i in range(1097) if confidences[i] >= 0.2]
    assert summary.num_sure == len(sure) and summary.num_images == 1097
    assert summary.sure == {str(c): sum(1 for i in sure if classes[i] == c) for c in range(10)}
    assert summary.wrong is not None
    assert summary.wrong["sure"] == sum(1 for i in sure if classes[i] != images.labels[i])
    assert summary.wrong["all"] == sum(1 for i in range(1097) if classes[i] != images.labels[i])
    chosen = pseudo.indices.tolist()
    assert summary.wrong["selected"] == sum(1 for i in chosen if classes[i] != images.labels[i])
    assert summary.wrong_share == pytest.approx(summary.wrong["selected"] / len(chosen))
    assert summary.filtered_share == pytest.approx(1 - len(sure) / 1097)
    assert read_summary(tmp_path / "labels") == summary


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_labelling_that_was_killed_goes_on_at_the_next_shard(
    after: int, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(teacher)
    write_labels(config, tmp_path / "straight", tell=lambda text: None)
    made: list[int] = []
    predict = labelling._predictions

    def counted(*arguments):
        if len(made) == after:
            raise Killed
        made.append(1)
        return predict(*arguments)

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "_predictions", counted)
        if after < 4:
            with pytest.raises(Killed):
                write_labels(config, broken, tell=lambda text: None)
        else:
            # Killed when all shards are there, but before the manifest.
            patch.setattr(labelling, "select", lambda *_, **__: (_ for _ in ()).throw(Killed()))
            with pytest.raises(Killed):
                write_labels(config, broken, tell=lambda text: None)
    with pytest.raises(PathError, match="must be a finished folder"):
        PseudoLabels.open(broken)
    # A file that was cut short is made again.
    if after > 1:
        (broken / shard_name(1)).write_bytes((broken / shard_name(1)).read_bytes()[:50])
    said: list[str] = []
    write_labels(config, broken, tell=said.append)
    assert said.count("shard 1 of 4: there already") == 1
    assert sum("there already" in line for line in said) == (after if after == 1 else after - 1)
    for path in sorted((tmp_path / "straight").iterdir()):
        assert path.read_bytes() == (broken / path.name).read_bytes(), path.name
    # What is finished is not done again.
    said.clear()
    write_labels(config, broken, tell=said.append)
    assert not said


def test_a_folder_with_other_labels_is_refused(teacher: Path, tmp_path: Path) -> None:
    write_labels(config_for(teacher), tmp_path, tell=lambda text: None)
    message = r"holds labels with other settings, old -> new:\n  hard: False -> True\nUse another --out\."
    with pytest.raises(ArgumentError, match=message):
        write_labels(config_for(teacher, hard=True), tmp_path, tell=lambda text: None)


def test_how_many_of_each_class() -> None:
    sure = torch.tensor([0, 0, 0, 4, 4, 7, 7])
    assert num_of_each("auto", sure) == 3
    assert num_of_each("none", sure) is None
    assert num_of_each(5, sure) == 5
    assert num_of_each(5, sure[:0]) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_confidence": 1.5}, r"LabelRules: min_confidence must lie between 0 and 1, got 1\.5\."),
        ({"balance": 0}, r"LabelRules: balance must be at least 1, auto or none, got 0\."),
        ({"balance": "all"}, r"LabelRules: balance must be at least 1, auto or none, got all\."),
        ({"shard_size": 0}, r"LabelRules: shard_size must be at least 1, got 0\."),
    ],
)
def test_rules_are_checked(settings, message, unchecked) -> None:
    with pytest.raises(ArgumentError, match=message):
        LabelRules(**settings)


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
        write_labels(config_for(nowhere), tmp_path / "labels", tell=print)
    with pytest.raises(PathError, match="must be a folder of `lambdanets train`"):
        run_config(str(nowhere))
    assert run_config("timm:resnet18") is None
    digits = replace(config_for(teacher), data=DigitsConfig())
    message = (
        r"data\.name must be a data set with unlabelled images \(semi, or one of files\), got 'digits'\."
    )
    with pytest.raises(ArgumentError, match=message):
        write_labels(digits, tmp_path / "labels", tell=print)


def timm_file(path: Path, **options) -> Path:
    model = timm.create_model("resnet18", **options)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def test_a_model_of_timm_teaches_with_weights_from_a_file(tmp_path: Path) -> None:
    weights = timm_file(tmp_path / "teacher.safetensors", num_classes=10, in_chans=1)
    config = replace(config_for("timm:resnet18", hard=True), weights=str(weights))
    summary = write_labels(config, tmp_path / "labels", tell=lambda text: None)
    # The names of its classes are not known, so nobody can say what is wrong.
    assert summary.wrong is None and summary.wrong_share is None
    assert list(summary.sure) == [str(number) for number in range(10)]
    pseudo = PseudoLabels.open(tmp_path / "labels")
    assert pseudo.labels is None and pseudo.num_classes == 10
    student = replace(get_recipe("semi"), seed=3, pseudo=PseudoConfig(labels=str(tmp_path / "labels")))
    if len(pseudo):
        assert len(load_task(student).train) == 400


def test_images_that_a_teacher_does_not_take_are_named(tmp_path: Path) -> None:
    weights = timm_file(tmp_path / "teacher.safetensors", num_classes=10)
    config = replace(config_for("timm:resnet18"), weights=str(weights))
    with pytest.raises(
        ArgumentError, match=r"pseudo label: teacher must take images of shape \(1, 8, 8\), got"
    ):
        write_labels(config, tmp_path / "labels", tell=print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    message = "pseudo label: device cuda needs a GPU for each process of a machine, got 0"
    with pytest.raises(DependencyError, match=message):
        write_labels(config_for("nowhere"), tmp_path / "labels", tell=print, device="cuda")
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

    monkeypatch.setattr(timm, "create_model", offline)
    message = (
        r"the weights of resnet18 must be within reach, got 'no network'\. .* --weights FILE\.safetensors\."
    )
    with pytest.raises(PathError, match=message):
        load_timm("resnet18")


def test_a_repository_of_the_hub_teaches(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(teacher / name))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repository, allow_patterns: str(teacher))
    ours = load_teacher(config_for("hub:somebody/digits"))
    assert ours.labels == tuple("0123456789")
    assert ours.origin.sha256 == load_teacher(config_for(teacher)).origin.sha256

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(PathError, match=r"hub:somebody/digits must be within reach, got 'no network'\."):
        load_teacher(config_for("hub:somebody/digits"))
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"huggingface_hub must be installed, got none\."):
        load_teacher(config_for("hub:somebody/digits"))


def test_images_are_normalised_as_the_teacher_wants_them() -> None:
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    usual_mean, usual_std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    usual = (pixels - usual_mean[:, None, None]) / usual_std[:, None, None]
    network = Renormalized(torch.nn.Flatten(), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    wanted = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.5, 0.25, 0.2])[
        :, None, None
    ]
    torch.testing.assert_close(network(usual), wanted.flatten(1), atol=1e-5, rtol=0)


def test_an_empty_summary_divides_by_nothing() -> None:
    summary = Summary(
        num_images=3, sure={"0": 0}, selected={"0": 0}, wrong={"all": 3, "sure": 0, "selected": 0}
    )
    assert (summary.filtered_share, summary.wrong_share) == (1, 0)


def test_a_student_s_task_mixes_both_kinds(teacher: Path, tmp_path: Path) -> None:
    write_labels(config_for(teacher, balance=50), tmp_path / "labels", tell=lambda text: None)
    student = replace(
        get_recipe("semi"), seed=3, pseudo=PseudoConfig(labels=str(tmp_path / "labels"), ratio=2.5)
    )
    task = load_task(student)
    assert len(task.train) == 200 + 500
    _, targets, _ = task.train.batch(0, task.train.order(0)[:70])
    assert targets.shape == (70, 10)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(70))
    assert (targets.amax(dim=1) == 1).sum() == 20


def test_labels_of_other_images_are_refused(teacher: Path, tmp_path: Path) -> None:
    write_labels(config_for(teacher), tmp_path / "labels", tell=lambda text: None)
    pseudo = PseudoConfig(labels=str(tmp_path / "labels"))
    message = (
        r"pseudo\.labels must be of seed 4, got those of seed 3: it decides which images are unlabelled\."
    )
    with pytest.raises(ArgumentError, match=message):
        load_task(replace(get_recipe("semi"), seed=4, pseudo=pseudo))
    with pytest.raises(
        ArgumentError, match=r"pseudo\.labels must be of the classes apart, related, got 0, 1, 2"
    ):
        load_task(replace(get_recipe("relation"), seed=3, pseudo=pseudo))
    manifest = tmp_path / "labels" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["settings"]["data"] |= {"name": "folder", "root": "images"}
    manifest.write_text(json.dumps(content))
    message = r"can be shown as those of semi, got labels of folder\."
    with pytest.raises(ArgumentError, match=message):
        load_task(replace(get_recipe("semi"), seed=3, pseudo=pseudo))
    assert load_file(tmp_path / "labels" / shard_name(0))["classes"].shape == (300,)
