"""The commands and their options: a new or a missing one is a change that users see."""

import re
from pathlib import Path

import pytest

from lambdanets import cli
from lambdanets.cli import commands
from lambdanets.cli._examples import _EXAMPLES
from lambdanets.cli._words import all_words
from support.commands import printed, refused

_RESULTS = "results machine"
_PARTS = "kind train test train-labels test-labels holdout"
_LABELLING = "teacher weights out hard min-confidence balance shard-size"
_OPERATOR = "scope batch channels query-depth num-heads intra-depth dtype"
_RUN = "out resume-allow tensorboard"
_RUN_SETTINGS = """
    seed num-threads global-batch-size ema-decay model.name model.overrides
    optim.name optim.learning-rate optim.base-batch-size optim.momentum optim.beta2 optim.epsilon
    optim.weight-decay optim.clip-grad-norm optim.layer-decay
    sched.epochs sched.warmup-epochs sched.shape sched.step-epochs sched.step-at sched.step-factor
    ckpt.every-epochs ckpt.every-minutes ckpt.keep ckpt.tolerate-failures
    exec.device exec.precision exec.accumulation exec.num-workers exec.channels-last exec.compile
    exec.gradient-checkpointing exec.sync-batch-norm exec.parallel exec.deterministic exec.timeout-s
    faults.nonfinite faults.max-nonfinite faults.max-unreadable-fraction faults.max-unreadable-in-a-row
"""
_SETTINGS = f"""{_RUN_SETTINGS} fast label-smoothing init freeze data.name
    augment.min-crop-area augment.flip augment.mixup augment.cutmix
    augment.randaugment-layers augment.randaugment-magnitude pseudo.labels pseudo.ratio
"""
_DETECTOR = f"""{_RUN_SETTINGS}
    eval-every data.root data.train data.test data.image-size data.shortest-side
    augment.min-scale augment.max-scale augment.flip augment.copy-paste
    detector.no-masks detector.norm detector.weights detector.channels detector.anchor-sizes
    detector.box-convs detector.box-features detector.mask-convs detector.proposals detector.box-samples
    detector.no-class-agnostic detector.most-detections detector.least-score
"""
_SIZES = "data.image-size data.test-image-size"
_MOTION = "data.max-shift data.max-rotation data.max-scaling"
_FILES = f"data.root data.train data.test data.holdout data.test-crop {_SIZES}"

# The recipe at the end of a command line.
RECIPE = r" (semi|digits|scenes-demo)$"

# Words of a command line -> its options.
OPTIONS = {
    "bench": f"explain device format {_OPERATOR}",
    "compare": "format",
    "completion": "",
    "data check": f"{_PARTS} decode workers repair format",
    "data index": "format",
    "data scenes": "out train val size max-objects min-side max-side empty seed digits format",
    "data shard": f"{_PARTS} max-bytes max-count shuffle format",
    "detect compare": "annotations resamples seed format",
    "detect eval": "weights evaluator root out num-workers processes device format",
    "detect predict": "out score tile overlap weights device format",
    "detect train scenes-demo": f"dry-run processes gpus max-restarts format {_RUN} {_DETECTOR}",
    "doctor": "out dist backend limit format",
    "eval": "csv weights data.name data.root data.test data.test-labels data.holdout"
    " size real skip-bad batch num-workers processes device format",
    "explain": "layer position out size weights format",
    "figure": f"out {_RESULTS} format",
    "info": "size overrides per-layer format",
    "models": "format",
    "predict": "top batch num-workers weights device out format",
    "pseudo label": f"{_LABELLING} num-workers device seed data.name {_MOTION} format",
    "pseudo iterate semi": f"{_LABELLING} iterations ratio {_SETTINGS} {_MOTION} format",
    "recipes": "format",
    "report": f"out run {_RESULTS} format",
    "slurm semi": f"nodes gpus-per-node time format {_RUN} {_SETTINGS} {_MOTION}",
    "tables": f"format rows measure batch time-limit train seeds runs processes {_RESULTS}",
    "train digits": f"dry-run processes gpus max-restarts format {_RUN} {_SETTINGS} {_MOTION}",
}
DATA_OPTIONS = {
    "semi": _MOTION,
    "relation": "",
    "pathfinder": f"data.path-length data.distractors {_SIZES}",
    "folder": f"data.train-labels data.test-labels {_FILES}",
    "shards": _FILES,
    "huggingface": _FILES,
    "digit-images": _SIZES,
}

NEW_COMMAND = '''
def greet(names: tuple[str, ...], /, *, times: int = 1) -> None:
    """Greet someone.

    Args:
        names: Whom.
        times: How often.
    """
    print(", ".join(f"hello {name}" for name in names * times))
'''


def options(capsys, *words):
    """The options that a help text explains; an option may be named in the explanation of another."""
    text = printed(capsys, *words, "--help")
    return set(re.findall(r"^.? ?--([a-z][\w.-]*)", text, re.MULTILINE))


@pytest.mark.parametrize("line", OPTIONS)
def test_the_options_of_a_command_are_frozen(line, capsys):
    assert options(capsys, *line.split()) == set(OPTIONS[line].split())


@pytest.mark.parametrize("name", DATA_OPTIONS)
def test_a_data_set_brings_its_own_options(name, capsys):
    found = options(capsys, "train", "digits", f"--data.name={name}")
    expected = {*OPTIONS["train digits"].split()} - {*_MOTION.split()} | {*DATA_OPTIONS[name].split()}
    assert found == expected


@pytest.mark.parametrize("name", ["digits", "folder", "semi"])
def test_the_tables_have_the_options_of_what_they_train_on(name, capsys):
    own = {"digits": _MOTION, **DATA_OPTIONS}[name].split()
    assert options(capsys, "tables", "--train", name) == {*OPTIONS["tables"].split(), "data.name", *own}


def test_a_command_that_does_not_exist_gets_the_nearest(capsys):
    message = refused(capsys, "trian")
    assert message == "lambdanets: command must be one of `lambdanets --help`, got 'trian'. Closest: train."
    assert "  data shard  " in printed(capsys, "data", code=2) and "  train  " in printed(capsys, code=2)


def test_a_new_command_is_one_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "greet.py").write_text(NEW_COMMAND)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    assert "  greet  Greet someone.\n" in printed(capsys, "--help")
    assert printed(capsys, "greet", "you", "--times", "2") == "hello you, hello you\n"
    assert "--times INT" in refused(capsys, "greet", "you", "--time", "2")
    assert refused(capsys, "greet") == "lambdanets greet: names must be given, got none."


def test_every_command_is_frozen():
    listed = {re.sub(RECIPE, "", line) for line in OPTIONS}
    # Its words become those of `train`.
    assert commands().keys() == listed | {"pseudo train"}
    assert all(summary.endswith(".") and len(summary) < 90 for _, summary in commands().values())


ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = {*_SETTINGS.split(), *_DETECTOR.split(), *" ".join([_MOTION, *DATA_OPTIONS.values()]).split()}


def test_pages_name_commands_and_options_that_exist():
    known = {re.sub(RECIPE, "", line): {"help", "import", *own.split()} for line, own in OPTIONS.items()}
    for own in known.values():
        own |= {"json"} if "format" in own else set()
        own |= SETTINGS if "seed" in own else set()
    known["tables"] |= SETTINGS
    known["pseudo train"] = {*known["train"], "labels", "ratio"}
    for page in PAGES:
        for line in re.findall(r"(?:^|`)lambdanets ((?!\.|-)[^`#\n]+)", page.read_text(), re.MULTILINE):
            command = next((name for name in known if f"{line} ".startswith(f"{name} ")), None)
            assert command or line.split()[0] in ("data", "pseudo"), f"{page.name}: lambdanets {line}"
            unknown = {*re.findall(r"(?<!\S)--([\w.-]+)", line)} - known.get(command, set())
            assert not unknown, f"{page.name}: lambdanets {line}"


@pytest.fixture(scope="module")
def words():
    return all_words()


def test_examples_are_of_commands_and_options_that_exist(words, capsys):
    assert _EXAMPLES.keys() == commands().keys()
    for command, lines in _EXAMPLES.items():
        for line in lines:
            assert line.startswith(f"{command} ") and len(f"  lambdanets {line}") <= 60
            assert {*re.findall(r"(?<!\S)--[\w.-]+", line)} <= words[command].options.keys(), line
    assert printed(capsys, "models", "--help").endswith(
        "examples:\n  lambdanets models 'lambda*'\n  lambdanets models --json\n"
    )
    assert "  lambdanets train photos --data.root DIR\n" in printed(capsys, "train")


def test_the_words_of_a_shell_are_the_options(words):
    """Completion walks through the fields of the settings itself: it must find what tyro finds."""
    for line, own in OPTIONS.items():
        name = re.sub(RECIPE, "", line)
        found = {*words[name].options} - {"--help", "--import", "--json"}
        brought = {*" ".join(DATA_OPTIONS.values()).split()} if "data.name" in own else set()
        if name in ("pseudo label", "eval"):
            # The teacher's data set is not known before there is a teacher; an evaluation has few settings.
            brought = set()
        assert found == {f"--{option}" for option in {*own.split()} | brought}, name
