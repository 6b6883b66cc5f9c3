"""Detectors as runs: trained by the command, killed and continued, evaluated by any number of processes."""

import json
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import lambdanets
from lambdanets.cli import run as command
from lambdanets.errors import ArgumentError, PathError
from lambdanets.recipes import get_recipe, recipes_of
from lambdanets.runs.detect import load_detector
from lambdanets.runs.load import load_run
from lambdanets.training.config import DetectConfig, DetectorConfig, ModelConfig, RunConfig, TrainConfig
from support.coco import coco_content, coco_image, write_coco, write_data_set
from support.commands import printed, refused
from support.runs import assert_same_run, run, start, write_run

# A small detector on small images: a step takes a tenth of a second.
SMALL = (
    *("--num-threads", "1", "--data.image-size", "64", "--detector.channels", "16"),
    *("--detector.box-features", "16", "--detector.proposals", "20", "--detector.box-samples", "16"),
    *("--detector.anchor-sizes", "8", "16", "24", "32", "48", "--model.name", "resnet_scenes"),
    *("--sched.epochs", "2", "--sched.warmup-epochs", "0", "--ckpt.every-epochs", "1"),
)


def words(root, out, *more):
    return ("detect", "train", "scenes-demo", "--data.root", str(root), "--out", str(out), *SMALL, *more)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight images, half of them without objects."""
    return write_data_set(tmp_path_factory.mktemp("objects"), num_train=8, num_test=3, every=2)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert command(words(root, out)) == 0
    return out


def test_a_run_has_its_report_its_losses_and_its_categories(trained):
    record = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    names = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    for part in ("train", "test"):
        parts = [record[f"{part}_{name}"] for name in names]
        assert record[f"{part}_loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert {"box_ap", "mask_ap", "box_ap_small", "mask_ar_100"} <= record.keys()
    report = (trained / "report.md").read_text()
    assert "| disk | 2 |" in report and "| block | 2 |" in report
    assert "norms" in (trained / "train.log").read_text()
    loaded = load_detector(trained)
    assert [(one.id, one.name) for one in loaded.categories] == [(3, "disk"), (90, "block")]
    state = json.loads(next((trained / "checkpoints").iterdir()).joinpath("state.json").read_text())
    assert state["description"]["categories"] == [{"id": 3, "name": "disk"}, {"id": 90, "name": "block"}]
    for weights in ("ema", "raw"):
        assert load_detector(trained, weights).categories == loaded.categories


def test_results_of_an_evaluation_are_read_by_pycocotools(trained, root, tmp_path, capsys):
    found = json.loads(printed(capsys, "detect", "eval", str(trained), "--out", str(tmp_path), "--json"))
    truth = COCO(str(root / "annotations" / "instances_val.json"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results and {one["category_id"] for one in results} <= {3, 90}
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        judge = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert found[f"{name}_ap"] == judge.stats[0]
    text = printed(
        capsys, "detect", "eval", str(trained), "--out", str(tmp_path), "--evaluator", "pycocotools"
    )
    assert "scenes-demo, resnet_scenes" in text and "AP 50" in text
    assert json.loads((tmp_path / "scores.json").read_text())["box_ap"] == found["box_ap"]


@pytest.mark.slow
def test_two_processes_train_and_find_exactly_what_one_finds(trained, root, tmp_path):
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        code, output = run("detect", "eval", trained, "--out", out, "--processes", processes)
        assert code == 0, output
        scores = json.loads((out / "scores.json").read_text())
        results.append(((out / "results.json").read_bytes(), {**scores, "seconds": 0, "loss": 0}))
    assert results[0][0] == results[1][0]
    code, output = run(*words(root, tmp_path / "two", "--processes", "2"))
    assert code == 0, output
    assert "2 processes" in output


@pytest.mark.slow
def test_a_run_that_was_killed_in_an_epoch_ends_as_one_that_was_not(root, tmp_path):
    often = ("--ckpt.every-minutes", "1e-6", "--sched.epochs", "6")
    code, output = run(*words(root, tmp_path / "whole", *often))
    assert code == 0, output
    process, killed = start(*words(root, tmp_path / "killed", *often)), tmp_path / "killed"
    while not any((killed / "checkpoints").glob("step-*[13579]")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, output = run(*words(root, killed, *often))
    assert code == 0 and "continuing from step" in output, output
    assert_same_run(tmp_path / "whole", killed)


def test_a_backbone_starts_with_the_weights_of_a_classifier(root, tmp_path):
    classifier = tmp_path / "classifier"
    config = get_recipe("imagenet-90ep-small", TrainConfig)
    write_run(classifier, replace(config, model=ModelConfig(name="resnet_scenes")))
    out = tmp_path / "run"
    more = ("--detector.weights", str(classifier), "--detector.norm", "frozen", "--sched.epochs", "1")
    assert command(words(root, out, *more)) == 0
    assert "FrozenBatchNorm2d" in (out / "train.log").read_text()
    weights, model = load_run(classifier).model.state_dict(), load_detector(out).model.state_dict()
    name = next(name for name in weights if name.endswith("norm_reduce.running_mean"))
    assert weights[name].equal(model[f"backbone.network.{name}"])


def test_kinds_of_runs_are_told_apart(trained, root, tmp_path, capsys, monkeypatch):
    for argv in (("eval", str(trained)), ("predict", str(trained), str(trained / "curves.png"))):
        assert "of the run of a classifier, got that of a detector" in refused(capsys, *argv)
    assert "lambdanets detect eval, detect predict and detect compare take it." in refused(
        capsys, "compare", str(trained), str(trained)
    )
    with pytest.raises(ArgumentError, match="must be of the run of a classifier, got that of a detector"):
        load_run(trained)
    assert "must be trained by `lambdanets detect train`" in refused(capsys, "train", "scenes-demo")
    assert "must be trained by `lambdanets train`" in refused(capsys, "detect", "train", "digits")


def test_the_judge_and_the_categories_are_those_of_the_training(trained, tmp_path, capsys):
    content = coco_content(2)
    content["categories"][0]["name"] = "ring"
    write_coco(tmp_path, "val", content)
    assert "must have categories of" in refused(
        capsys, "detect", "eval", str(trained), "--root", str(tmp_path), code=4
    )
    assert "annotations" in refused(capsys, "detect", "eval", str(trained), "--root", str(tmp_path / "no"))


def test_another_number_of_categories_does_not_continue_a_run(root, trained, tmp_path, capsys):
    continued = tmp_path / "run"
    shutil.copytree(trained, continued)
    content = coco_content(8)
    content["categories"].append({"id": 91, "name": "third"})
    for part in ("train", "val"):
        write_coco(tmp_path, part, content)
    message = refused(
        capsys,
        *words(tmp_path, continued, "--resume-allow", "data.root", "sched.epochs", "--sched.epochs", "3"),
        code=5,
    )
    assert "Another number of classes is another network" in message


def test_settings_of_detectors_are_checked():
    with pytest.raises(ArgumentError, match="norm must not be frozen from scratch"):
        DetectorConfig(norm="frozen")
    with pytest.raises(ArgumentError, match="anchor_sizes must be at least 2 positive numbers, got"):
        DetectorConfig(anchor_sizes=(8.0,))
    for setting, value in (("channels", 0), ("box_convs", -1), ("least_score", 1.0)):
        with pytest.raises(ArgumentError, match=f"DetectorConfig: {setting} must"):
            DetectorConfig(**{setting: value})


@pytest.mark.parametrize("name", recipes_of(DetectConfig))
def test_a_recipe_is_read_from_its_json(name):
    config = get_recipe(name, DetectConfig)
    assert RunConfig.from_json(config.to_json()) == config
    with pytest.raises(ArgumentError, match="must be trained by"):
        get_recipe(name, TrainConfig)


def test_the_papers_schedule_has_its_steps():
    sched = get_recipe("coco-lambda-resnet101", DetectConfig).sched
    steps = sched.epochs * -(-118_287 // 256)
    assert abs(steps - 130_000) <= 463 / 2 and sched.step_at == (0.9, 0.95, 0.975)


def test_the_largest_batch_comes_first(root, tmp_path, capsys, monkeypatch):
    from lambdanets.detection import objective

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(objective.Detection, "loss", out_of_memory)
    message = refused(capsys, *words(root, tmp_path / "run"))
    assert "4 images of 64×64 at once must fit into the memory" in message
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.slow
def test_a_rehearsal_leaves_no_trace(root, tmp_path, monkeypatch):
    from lambdanets.detection.objective import Detection
    from lambdanets.training.objective import Objective

    once = ("--sched.epochs", "1")
    assert command(words(root, tmp_path / "with", *once)) == 0
    monkeypatch.setattr(Detection, "rehearse", Objective.rehearse)
    assert command(words(root, tmp_path / "without", *once)) == 0
    assert_same_run(tmp_path / "with", tmp_path / "without")


@pytest.mark.slow
def test_boxes_alone_and_a_test_of_crowds_alone(tmp_path, capsys):
    """Faster R-CNN; and nothing that average precision could be counted of."""
    write_data_set(tmp_path, num_train=4, num_test=2)
    content = coco_content(2, first_id=1001)
    for one in content["annotations"]:
        one["iscrowd"] = 1
    write_coco(tmp_path, "val", content)
    out = tmp_path / "run"
    printed(capsys, *words(tmp_path, out, "--detector.no-masks"))
    record = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["box_ap"] is None and "mask_ap" not in record and record["train_loss_mask"] == 0
    assert "no objects" in (out / "train.log").read_text()
    text = printed(capsys, "detect", "eval", str(out))
    assert "mask AP" not in text.partition("class")[0]
    assert "masks" not in load_detector(out).model.eval()([torch.rand(3, 64, 64)])[0]


def test_a_missing_image_is_refused_before_training(tmp_path, capsys):
    write_data_set(tmp_path, num_train=4, num_test=2)
    content = coco_content(2, first_id=1001)
    content["images"].append(coco_image(1009))
    write_coco(tmp_path, "val", content, files=False)
    assert "which are not there" in refused(capsys, *words(tmp_path, tmp_path / "run"), code=4)


def test_a_detector_is_loaded_from_its_own_run_alone(tmp_path):
    with pytest.raises(PathError, match="must be a folder of `lambdanets train`"):
        load_detector(tmp_path)


def test_a_loaded_detector_finds_what_its_evaluation_finds(trained, root, tmp_path, capsys):
    loaded = lambdanets.load_detector(trained)
    printed(capsys, "detect", "eval", str(trained), "--out", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    first = json.loads((root / "annotations" / "instances_val.json").read_text())["images"][0]
    found = loaded.detect(root / "val" / first["file_name"], min_score=0.0)
    expected = [one for one in results if one["image_id"] == first["id"]]
    ours = list(found.results(first["id"], [one.id for one in loaded.categories]))
    assert len(ours) == len(expected) > 0
    for one, other in zip(ours, sorted(expected, key=lambda one: -one["score"]), strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-4)
        assert one["segmentation"] == other["segmentation"] and one["score"] == other["score"]
    with pytest.raises(PathError, match="detect: image must be a file, got none"):
        loaded.detect("none.png")
