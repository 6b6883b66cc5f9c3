"""Fine-tuning: weights of a run taken into another one, from the command to the report, and every refusal."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import lambdanets
from lambdanets.errors import ArgumentError, CheckpointError, PathError, StoppedError
from lambdanets.models import create_model
from lambdanets.recipes import get_recipe
from lambdanets.runs import tasks
from lambdanets.runs.evaluate import evaluate_run
from lambdanets.runs.finetune import not_taken_lines, read_init, take_init
from lambdanets.runs.init_source import find_init, model_to_start_with
from lambdanets.runs.load import load_run
from lambdanets.runs.recorder import Recorder
from lambdanets.runs.tasks import load_task, make_job
from lambdanets.runs.train import train
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.config import CkptConfig, ModelConfig, OptimConfig, SchedConfig, TrainConfig
from lambdanets.training.distributed import ALONE, ExecConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.weights import state_digest
from support.commands import printed, refused
from support.processes import run_ranks
from support.runs import assert_same_run, records, train_run, write_run
from support.training import StopBefore

pytestmark = pytest.mark.usefixtures("few_digits")

MODEL = ModelConfig(name="lambda_resnet_digits", overrides={"layers": "CCCL", "widths": [8, 8, 8, 8]})
WORDS = ("--model.overrides", "layers", "CCCL")
DIGITS_OF_TWO = tuple("01")


def config_of(**changes: object) -> TrainConfig:
    """Two epochs of three steps."""
    config = replace(
        get_recipe("digits", TrainConfig),
        num_threads=1,
        model=MODEL,
        sched=SchedConfig(epochs=2, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=1, keep=2),
        exec=ExecConfig(device="cpu"),
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run whose weights no other seed has."""
    path = tmp_path_factory.mktemp("runs") / "source"
    write_run(path, config_of(seed=5))
    return path


def started(config: TrainConfig, labels: tuple[str, ...] | None = None) -> tuple[torch.nn.Module, dict]:
    """The network of a config with its init, and the record of it."""
    labels = labels or tuple(map(str, range(10)))
    torch.manual_seed(config.seed)
    network = create_model(config.model.name, len(labels), 1, **config.model.overrides)
    return network, take_init(network, read_init(str(config.init)), config, labels)


def test_equal_labels_keep_the_head(source):
    network, record = started(config_of(init=str(source)))
    stored = load_file(source / "best.safetensors")
    assert all(torch.equal(one, stored[name]) for name, one in network.state_dict().items())
    assert record["classifier"] == "kept: the same classes" and not record["not_taken"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (tuple("abc"), "new: 3 classes for 10"),
        (tuple("abcdefghij"), "new: other classes"),
        (tuple("1023456789"), "new: other classes"),
    ],
)
def test_other_labels_get_a_new_head(source, labels, reason):
    config = config_of(init=str(source))
    network, record = started(config, labels)
    torch.manual_seed(config.seed)
    fresh = create_model(MODEL.name, len(labels), 1, **MODEL.overrides).state_dict()
    stored = load_file(source / "best.safetensors")
    for name, one in network.state_dict().items():
        expected = fresh if name.startswith("classifier.") else stored
        assert torch.equal(one, expected[name]), name
    assert record["classifier"] == reason
    assert [one["name"] for one in record["not_taken"]] == ["classifier.weight", "classifier.bias"]


def test_a_file_that_does_not_describe_itself_starts_a_network_of_that_shape(source, tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(load_file(source / "best.safetensors"), file)
    assert find_init(str(file)).described is None
    assert model_to_start_with(str(file), tmp_path / "none") is None
    network, record = started(config_of(init=str(file)))
    assert record["classifier"] == "new: the weights do not name their classes"
    assert record["model"] is None and record["taken_numbers"] == record["wanted_numbers"]
    assert torch.equal(network.c2[0].reduce.weight, load_file(file)["c2.0.reduce.weight"])


def test_a_checkpoint_and_its_files_are_weights_too(tmp_path):
    config = config_of(seed=5)
    state = write_run(tmp_path / "run", config, change=lambda ema: ema.c2[0].reduce.weight.data.fill_(1.0))
    job = make_job(config, load_task(config))
    recorder = Recorder(config, RunFolder(tmp_path / "run"), job, ALONE)
    record = {**state.record(config), "description": recorder._description()}
    step = save_checkpoint(tmp_path / "run/checkpoints", 7, state.tensors(), record, keep=1)
    for init, value in ((step, 1.0), (step / "ema.safetensors", 1.0), (step / "model.safetensors", None)):
        network, record = started(config_of(init=str(init)))
        assert bool((network.c2[0].reduce.weight == 1.0).all()) is (value is not None)
        assert record["classifier"] == "kept: the same classes" and record["step"] == 0
        assert model_to_start_with(str(init), tmp_path / "none") == MODEL


def test_the_listing_puts_equal_tensors_and_blocks_into_one_line(source):
    deeper = replace(MODEL, overrides={**MODEL.overrides, "depths": [1, 1, 4, 1], "layers": "CCCC"})
    _, record = started(config_of(init=str(source), model=deeper), tuple("abc"))
    lines = [line.split("  ") for line in not_taken_lines(record)]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[:4] == [
        ["not taken", "shape wanted", "shape there", "reason"],
        ["c4.1-3.reduce.weight", "8×32×1×1", "none", "not in the weights"],
        ["c4.1-3.norm_reduce.{weight, bias, running_mean, running_var}", "8", "none", "not in the weights"],
        ["c4.1-3.mixer.weight", "8×8×3×3", "none", "not in the weights"],
    ]
    assert ["classifier.weight", "3×32", "10×32", "new: 3 classes for 10"] in cells
    assert ["c5.0.mixer.position.table", "none", "1×8×7×7", "not in the network"] in cells
    assert len(record["not_taken"]) > 2 * len(lines)


def test_weights_of_another_network_are_refused_with_what_to_type(source):
    other = ModelConfig(name="lambda_resnet_small", overrides={})
    message = (
        rf"init: {source}/best\.safetensors must hold weights of lambda_resnet_small, got those of"
        r" lambda_resnet_digits layers=CCCL widths=\[8, 8, 8, 8\], which fit [\d.]+% of it\."
        r" Without --model\.name and --model\.overrides it is the network of the weights\."
    )
    with pytest.raises(CheckpointError, match=message):
        started(config_of(init=str(source), model=other))


def test_weights_that_are_not_finite_are_refused(source, tmp_path):
    path = tmp_path / "nan"
    write_run(path, config_of(), change=lambda ema: ema.c3[0].expand.weight.data.fill_(float("nan")))
    with pytest.raises(
        CheckpointError, match=r"nan/best\.safetensors must hold finite numbers, .* first c3\.0\.expand"
    ):
        started(config_of(init=str(path)))


@pytest.mark.parametrize("name", ["timm:resnet18", "hf-hub:someone/something"])
def test_weights_of_other_libraries_are_refused_for_now(name, capsys, tmp_path):
    library = "timm" if name.startswith("timm") else "the Hugging Face Hub"
    assert refused(capsys, "train", "digits", "--init", name, "--out", tmp_path / "run") == (
        "lambdanets train: init: weights must be of a run, one of its checkpoints or a .safetensors file, got"
        f" '{name}'. Weights of {library} come with the integrations; until then, save them with safetensors"
        " under the names of a network of create_model."
    )
    assert not (tmp_path / "run").exists()


def test_what_is_no_weights_is_refused(tmp_path, capsys):
    start = (
        "lambdanets train: init: weights must be of a run, one of its checkpoints or a .safetensors file, got"
    )
    words = ("train", "digits", "--out", tmp_path / "run", "--init")
    assert refused(capsys, *words, tmp_path / "no") == f"{start} {tmp_path}/no, which does not exist."
    (tmp_path / "empty").mkdir()
    assert refused(capsys, *words, tmp_path / "empty") == f"{start} {tmp_path}/empty, which has none."
    (tmp_path / "empty/config.json").write_text(config_of().to_json())
    message = refused(capsys, *words, tmp_path / "empty")
    assert message == f"{start} {tmp_path}/empty, which has none. They come with the first epoch."
    (tmp_path / "bad.safetensors").write_bytes(b"no weights at all")
    message = refused(capsys, *words, tmp_path / "bad.safetensors", code=5)
    assert (
        f"init: {tmp_path}/bad.safetensors must describe its network, got no header of a safetensors file."
        in message
    )
    assert not (tmp_path / "run").exists()


def test_stages_are_checked_before_anything_is_loaded(tmp_path, capsys):
    message = refused(capsys, "train", "digits", "--freeze", "stem", "c7", "--out", tmp_path / "run")
    assert message == "lambdanets train: freeze must be one of 'stem', 'c2', 'c3', 'c4', 'c5', got 'c7'."
    assert not (tmp_path / "run").exists()


def options(source, *words):
    """A command that starts from a run, as short as can be."""
    return (
        *("train", "digits", "--init", str(source), "--sched.epochs", "2", "--sched.warmup-epochs", "1"),
        *("--num-threads", "1", "--ckpt.every-epochs", "1", "--exec.device", "cpu", *map(str, words)),
    )


@pytest.mark.slow
def test_the_network_is_that_of_the_weights_unless_it_is_named(source, tmp_path, capsys):
    def plan(*words):
        return printed(capsys, *options(source, "--out", tmp_path / "run", "--dry-run", *words))

    text = plan()
    assert "taken" in text and "kept: the same classes" in text
    assert "lambda_resnet_digits layers=CCCL widths=[8, 8, 8, 8]" in text
    wider = plan("--model.overrides", "stem", "classic")
    assert "stem=classic" in wider and "widths=[8, 8, 8, 8]" in wider
    assert "stem.0.weight  8×1×7×7       8×1×3×3      other shape" in wider
    named = refused(capsys, *options(source, "--dry-run", "--model.name", "lambda_resnet_digits"), code=5)
    assert "must hold weights of lambda_resnet_digits, got those of lambda_resnet_digits layers=CCCL" in named


def test_a_dry_run_says_what_is_frozen_and_the_rates(source, tmp_path, capsys):
    text = printed(
        capsys,
        *options(source, "--out", tmp_path / "run", "--dry-run"),
        *("--freeze", "stem", "c2", "--optim.layer-decay", "0.5"),
    )
    network = create_model(MODEL.name, 10, 1, **MODEL.overrides)
    total = sum(one.numel() for one in network.parameters())
    still = sum(one.numel() for part in (network.stem, network.c2) for one in part.parameters())
    assert f"frozen       stem c2: {total - still:,} of {total:,} parameters are trained" in text
    assert "layer decay  0.5 a layer: peaks from 0.025 (c3.0) to 0.2 (classifier)" in text
    assert "optim.layer_decay" in text and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory):
    """A run that began with the weights of another, with frozen stages and a layer decay."""
    out = tmp_path_factory.mktemp("tuned")
    moved = shutil.copytree(source, out / "source")
    config = config_of(
        init=str(moved), freeze=("stem", "c3"), optim=OptimConfig(learning_rate=0.1, layer_decay=0.5)
    )
    return train_run(out / "run", config)


def test_frozen_stages_are_those_of_the_weights_to_the_last_bit(source, tuned):
    stored = load_file(source / "best.safetensors")
    for file in ("best.safetensors", "checkpoints/step-00000006/model.safetensors"):
        for name, one in load_file(tuned / file).items():
            still = name.startswith(("stem.", "c3."))
            if still or name.endswith(("running_mean", "running_var", "shortcut.0.weight")):
                assert torch.equal(one, stored[name]) is still, name
    momentum = load_file(tuned / "checkpoints/step-00000006/optimizer.safetensors")
    assert momentum and not [name for name in momentum if "/stem." in name or "/c3." in name]


def test_the_run_says_where_it_began(source, tuned):
    log = (tuned / "train.log").read_text()
    network = load_run(tuned).model
    total = sum(one.numel() for one in network.parameters())
    still = sum(one.numel() for part in (network.stem, network.c3) for one in part.parameters())
    digest = state_digest(load_file(source / "best.safetensors"))
    for words in (
        ": lambda_resnet_digits layers=CCCL widths=[8, 8, 8, 8], epoch 2, accuracy 50.00%, sha",
        f"sha256 {digest[:12]}",
        "100 % of the network before the classifier",
        "kept: the same classes",
        "1×8×8 pixels, normalised as those of the weights",
        f"stem c3: {total - still:,} of {total:,} parameters are trained",
        "0.5 a layer: peaks from 0.00625 (c2.0) to 0.1 (classifier)",
    ):
        assert words in log
    described = json.loads((tuned / "best.json").read_text())["init"]
    assert described["sha256"] == digest and described["model"]["name"] == MODEL.name
    assert described["source"] == f"{tuned.parent}/source/best.safetensors"


def test_a_run_that_goes_on_or_is_judged_needs_its_beginning_no_more(source, tmp_path, monkeypatch, capsys):
    moved = shutil.copytree(source, tmp_path / "source")
    config = config_of(
        init=str(moved), freeze=("c2",), optim=OptimConfig(name="lamb", learning_rate=0.01, layer_decay=0.7)
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_run(whole, config)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr("lambdanets.runs.train.StopRequest.__call__", StopBefore(4).__call__)
        train_run(stopped, config)
    shutil.rmtree(moved)
    train_run(stopped, config)
    assert_same_run(whole, stopped)
    assert records(whole) == records(stopped)
    assert "epoch 2, accuracy 50.00%" in (stopped / "train.log").read_text().partition("continuing from")[2]
    assert evaluate_run(stopped).evaluation.total == 60
    # The command finds the network of the run where the weights are gone.
    assert model_to_start_with(str(moved), stopped) == MODEL
    assert printed(capsys, "train", "digits", "--help", "--init", moved, "--out", stopped)
    with pytest.raises(PathError, match="which does not exist"):
        model_to_start_with(str(moved), tmp_path / "new")


def test_other_weights_do_not_continue_a_run(source, tuned, tmp_path):
    config = replace(RunFolder(tuned).read_config(TrainConfig), init=str(source))
    with pytest.raises(ArgumentError, match=rf"init: {tuned.parent}/source -> {source}"):
        RunFolder(tuned).changes(config)


def test_freezing_random_weights_is_warned_of(source, tmp_path):
    train_run(tmp_path / "random", config_of(freeze=("c2",), sched=SchedConfig(epochs=1)))
    warnings = RunFolder(tmp_path / "random").warnings()
    assert "c2 stay as they are drawn at random: --init gives them weights" in warnings
    classic = replace(MODEL, overrides={**MODEL.overrides, "stem": "classic"})
    config = config_of(init=str(source), model=classic, freeze=("stem", "c2"), sched=SchedConfig(epochs=1))
    train_run(tmp_path / "partly", config)
    warnings = RunFolder(tmp_path / "partly").warnings()
    assert "frozen and not taken from init, so random for good: stem.0.weight" in warnings


def test_a_run_without_init_leaves_no_record_of_an_earlier_try(tmp_path):
    config = config_of(sched=SchedConfig(epochs=1))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(config.to_json())
    (tmp_path / "run/init.json").write_text("{}")
    train_run(tmp_path / "run", config)
    assert not (tmp_path / "run/init.json").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_call_takes_the_network_of_the_weights_too(source, tmp_path):
    settings = {
        "optim": {"layer_decay": 0.5},
        "sched": {"epochs": 1, "warmup_epochs": 0.0},
        "progress": False,
    }
    run = lambdanets.train("digits", tmp_path / "run", init=source, freeze=["stem"], **settings)
    assert run.model.config.widths == (8, 8, 8, 8) and run.model.config.layers == "CCCL"
    stored = load_file(source / "best.safetensors")
    assert torch.equal(run.model.stem[0].weight, stored["stem.0.weight"])
    assert not torch.equal(run.model.classifier.weight, stored["classifier.weight"])
    with pytest.raises(CheckpointError, match="must hold weights of lambda_mobilenet_small"):
        lambdanets.train("digits", tmp_path / "other", init=source, model={"name": "lambda_mobilenet_small"})
    with pytest.raises(ArgumentError, match=r"freeze must be one of 'stem', .*, got 'c1'"):
        lambdanets.train("digits", tmp_path / "other", init=source, freeze=["c1"])


def _frozen_run(ctx, path, init, parallel):
    """A training in several processes, with an init and frozen stages."""
    config = config_of(
        init=str(init),
        freeze=("stem", "c3"),
        exec=ExecConfig(device="cpu", parallel=parallel, timeout_s=30.0),
    )
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdanets.runs.train.init_distributed", lambda execution: contextlib.nullcontext(ctx))
        patch.setattr(tasks, "write_report", lambda *_, **__: "")
        folder = RunFolder(path)
        if ctx.is_main:
            stack.enter_context(folder.locked(config))
        train(config, folder, command="lambdanets train digits")


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "size"), [("ddp", 2), ("ddp", 3), ("fsdp", 2)])
def test_processes_leave_frozen_stages_as_they_are(source, tmp_path, parallel, size):
    run_ranks(_frozen_run, size, tmp_path / "run", source, parallel)
    stored = load_file(source / "best.safetensors")
    trained = load_file(tmp_path / "run/checkpoints/step-00000006/model.safetensors")
    ema = load_file(tmp_path / "run/checkpoints/step-00000006/ema.safetensors")
    for name, one in stored.items():
        if name.startswith(("stem.", "c3.")):
            assert torch.equal(trained[name], one) and torch.equal(ema[name], one), name
        elif name.endswith("running_mean"):
            assert not torch.equal(trained[name], one), name
    assert "100 % of the network before the classifier" in (tmp_path / "run/train.log").read_text()
