"""The JSON of each command: its keys are frozen, and nothing else stands on the standard output."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lambdanets.cli import commands
from lambdanets.cli._options import print_json, without_format
from lambdanets.paper import figure, page
from lambdanets.runs import train as job
from lambdanets.terminal import result_alone
from support.commands import printed
from support.tiny_run import SETTINGS, tiny_task

_LAYER = "name kind output_shape[] parameters flops"
_PLAN = """
    recipe run num_processes gpus_here paper expected init.*
    settings[].name settings[].value settings[].origin settings[].recipe_value
    departures[].recipe departures[].text
    images.num images.num_classes images.shape[] images.origin
    steps.total steps.epochs steps.per_epoch steps.warmup steps.ema_decay
    steps.global_batch_size steps.images_of_process steps.images_of_part
    learning_rate.peak learning_rate.schedule
    learning_rate.points[].at learning_rate.points[].step learning_rate.points[].value
    network.model network.overrides.* network.image_shape[] network.parameters network.flops
    memory.precision memory.state_bytes.* memory.activation_bytes memory.activation_bytes_per_image
    memory.total_bytes memory.fits[].memory_gb memory.fits[].images
    disk.checkpoint_bytes disk.best_bytes disk.checkpoints_kept disk.total_bytes
"""

# Command line -> the paths of all values; [] is a list, and .* stands for keys that differ from case to case.
SURFACE = {
    "models resnet50": "[].model [].blocks.c2 [].blocks.c3 [].blocks.c4 [].blocks.c5"
    " [].lambda_layers.c2 [].lambda_layers.c3 [].lambda_layers.c4 [].lambda_layers.c5",
    "recipes digits": "[].recipe [].command [].summary [].model [].image_size [].epochs [].global_batch_size"
    " [].paper [].expected [].cost",
    "info lambda_resnet_digits --size 8": "model image_size overrides.* parameters flops"
    " inference_bytes_per_image training_bytes_per_image "
    + " ".join(f"{part}[].{key}" for part in ("layers", "stages") for key in _LAYER.split()),
    "bench ops --explain 7x7": "[].implementation [].direction [].milliseconds [].reason [].chosen",
    "train digits --dry-run --gpus 8": _PLAN,
    "detect train scenes-demo --dry-run": _PLAN,
    "slurm digits --nodes 2 --gpus-per-node 1": "recipe command nodes gpus_per_node num_processes time"
    " script",
    "doctor": "exit_code dist_exit_code findings[].status findings[].name findings[].text findings[].advice"
    " findings[].exit_code",
    "tables 1": "[].table [].title [].caption [].columns[].key [].columns[].heading [].columns[].unit"
    " [].rows[].label [].rows[].note [].rows[].cells.*",
    "figure 4 --out figure.png": "figure path caption",
    "report --out page.html": "path runs[]",
    "data scenes --out scenes --train 2 --val 1": "root parts[].part parts[].images parts[].objects",
    "train digits --out run": "run recipe model seed report weights metrics.*",
}
# Their tests are where the runs and data are that they need.
ELSEWHERE = {
    *("data check", "data shard", "data index", "eval", "predict", "compare", "explain"),
    *("pseudo label", "pseudo train", "pseudo iterate", "detect eval", "detect predict", "detect compare"),
}


def paths(value, name=""):
    """The paths of all values."""
    if isinstance(value, dict) and value:
        return {path for key, one in value.items() for path in paths(one, f"{name}.{key}" if name else key)}
    if isinstance(value, list):
        return {path for one in value for path in paths(one, f"{name}[]")} or {f"{name}[]"}
    return {name}


def beyond(value, frozen):
    """The paths that are not frozen, and the frozen ones that are missing."""
    found, words = paths(value), set(frozen.split())
    opened = tuple(word.removesuffix("*") for word in words if word.endswith(".*"))
    found = {path for path in found if not f"{path}.".startswith(opened)}
    words = {word for word in words if not word.endswith(".*")}
    # A list without entries does not show theirs.
    empty = tuple(path for path in found - words if path.endswith("[]"))
    hidden = {word for word in words if word.startswith(empty)}
    return (found - {*empty} | hidden) ^ words


_TRAINING = "train digits --out run"


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] * (line == _TRAINING)) for line in SURFACE]
)
def test_the_keys_are_frozen(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "load_task", lambda config: tiny_task())
    # Tables of their own tests; here only what is printed counts.
    monkeypatch.setattr(figure, "draw_figure_4", lambda results: (Figure(), "caption"))
    monkeypatch.setattr(page, "write_report", lambda path, **options: [])
    settings = SETTINGS if line == _TRAINING else ()
    # Anything but JSON would not be read.
    found = json.loads(printed(capsys, *line.split(), *settings, "--json"))
    assert beyond(found, SURFACE[line]) == set()
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", part) for path in paths(found) for part in own_keys(path))


def own_keys(path):
    """The keys of a path that we choose: not names of parts, columns, settings or overrides."""
    known = re.sub(r"(state_bytes|cells|overrides)\..*", r"\1", path.replace("[]", ""))
    return [part for part in known.split(".") if part]


def test_a_missing_and_a_new_key_are_found():
    assert beyond({"a": 1, "b": [{"c": 2}]}, "a b[].c") == set()
    assert beyond({"a": 1, "b": []}, "a b[].c") == set()
    assert beyond({"a": 1, "d": 2}, "a b[].c") == {"d", "b[].c"}
    assert beyond({"a": {"x": 1}}, "a.*") == set()


def test_every_command_has_json():
    tested = {name for name in commands() for line in SURFACE if f"{line} ".startswith(f"{name} ")}
    # A script is no fact.
    assert tested | ELSEWHERE | {"completion"} >= commands().keys()


def test_values_are_plain(capsys):
    print_json({"path": Path("a/b"), "numbers": (1.5, float("nan"), float("inf")), "letter": "ö"})
    assert capsys.readouterr().out == (
        '{\n  "path": "a/b",\n  "numbers": [\n    1.5,\n    null,\n    null\n  ],\n  "letter": "ö"\n}\n'
    )


def test_the_format_is_no_part_of_a_command_that_is_repeated():
    words = ["digits", "--format", "json", "--out", "x", "--json", "--format=text", "--seed", "1"]
    assert without_format(words) == ["digits", "--out", "x", "--seed", "1"]


def test_what_children_print_goes_to_the_standard_error_too():
    code = (
        "import subprocess\nfrom lambdanets.terminal import result_alone\n"
        "with result_alone(True):\n    print('mine')\n    subprocess.run(['echo', 'of a child'])\n"
        "print('result')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "result\n"
    assert sorted(done.stderr.splitlines()) == ["mine", "of a child"]


def test_nothing_is_sent_elsewhere_for_text(capfd):
    with result_alone(False):
        print("mine", flush=True)
        os.write(1, b"of a child\n")
    assert capfd.readouterr().out == "mine\nof a child\n"
