"""A run takes no folder of others, changes nothing of theirs, and notices when its own is gone."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from lambdanets.cli import run as command
from lambdanets.errors import ArgumentError, StorageError
from lambdanets.files import make_folder
from lambdanets.runs import recorder
from lambdanets.runs import train as job
from lambdanets.training.config import SchedConfig
from lambdanets.training.run_folder import RunFolder
from support.disk import snapshot
from support.runs import assert_same_run
from support.training import tiny_config

from .test_every_write import CONFIG, quick, train, undisturbed  # noqa: F401


def _write(path, text="of others"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _link(path):
    _write(path.parent.parent / "other" / path.name)
    path.symlink_to(path.parent.parent / "other" / path.name)


# What may be in a folder that is no run's, and what the message names.
FOREIGN = {
    **{name: (lambda run, name=name: _write(run / name), f"got one that holds '{name}'") for name in (
        *("report.md", "metrics.jsonl", "best.safetensors", "train.log", "init.json", "notes.txt", ".hidden"),
        *("checkpoints/step-00000001/model.safetensors", ".tmp-mine", ".tmp-config.json-12a"),
    )},
    "four files": (
        lambda run: [_write(run / name) for name in "abcd"],
        "got one that holds 'a', 'b', 'c' and 1 more. Use another --out.",
    ),
    "another config": (
        lambda run: [_write(run / "config.json", '{"architectures": []}'), _write(run / "model.safetensors")],
        "got one that holds 'model.safetensors'",
    ),
    "a list": (lambda run: [_write(run / "config.json", "[]"), _write(run / "a")], "got one that holds 'a'"),
    "a broken link": (lambda run: (run / "a").symlink_to("nowhere"), "got one that holds 'a'"),
    "a lock that is a link": (lambda run: _link(run / ".lock"), "run/.lock must be of the run itself, got a"),
    "a lock that leads nowhere": (lambda run: (run / ".lock").symlink_to("new"), "got a link"),
    "a lock that is a folder": (lambda run: (run / ".lock").mkdir(), "got a folder"),
    "a lock that is a pipe": (lambda run: os.mkfifo(run / ".lock"), "got a pipe"),
}  # fmt: skip
# In a run's own folder, links to somewhere else.
LINKED = (
    "config.json",
    "metrics.jsonl",
    "train.log",
    "best.safetensors",
    "report.md",
    "checkpoints",
    "diagnostics",
)


@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_folder_of_others_is_refused_as_it_is(tmp_path, make, message):
    (tmp_path / "run").mkdir()
    make(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(ArgumentError) as raised, RunFolder(tmp_path / "run").locked(tiny_config()):
        pass
    # A part of a path is named by its first folder.
    assert message.partition("/step")[0] in str(raised.value) and "\n" not in str(raised.value)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (_write, "a file"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
        (lambda path: path.symlink_to("/dev/null"), "a link"),
    ],
    ids=["pipe", "file", "dead link", "link to a device"],
)
def test_what_is_no_folder_is_named(tmp_path, make, kind):
    make(tmp_path / "run")
    before = snapshot(tmp_path)
    with (
        pytest.raises(ArgumentError, match=rf"run must be a folder, got {kind}\. Use another --out"),
        RunFolder(tmp_path / "run").locked(tiny_config()),
    ):
        pass
    with pytest.raises(StorageError, match=rf"run must be writable, got '{kind}\b"):
        make_folder(tmp_path / "run")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", LINKED)
def test_a_run_with_links_to_others_is_refused_as_it_is(tmp_path, name):
    with RunFolder(tmp_path / "run").locked(tiny_config()):
        pass
    (tmp_path / "run" / name).unlink(missing_ok=True)
    _write(tmp_path / "other" / name, tiny_config().to_json())
    (tmp_path / "run" / name).symlink_to(tmp_path / "other" / name)
    before = snapshot(tmp_path)
    with (
        pytest.raises(ArgumentError, match=rf"run/{name} must be of the run itself, got a link. Use another"),
        RunFolder(tmp_path / "run").locked(tiny_config()),
    ):
        pass
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "two processes"])
def test_the_command_says_so(tmp_path, capsys, words):
    _write(tmp_path / "report.md")
    before = snapshot(tmp_path)
    assert command(["train", "digits", "--out", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda run: None,
        lambda run: run.mkdir(),
        lambda run: _write(run / ".lock", ""),
        lambda run: _write(run / ".lock", "1"),
        lambda run: [_write(run / ".lock", "{}"), _write(run / ".tmp-config.json-17")],
        lambda run: _write(run / "config.json", tiny_config().to_json()),
        lambda run: [_write(run / "config.json", tiny_config().to_json()), _write(run / "notes.txt")],
    ],
    ids=["none", "empty", "a lock", "a damaged lock", "a killed beginning", "a config", "a run with notes"],
)
def test_a_folder_of_its_own_is_taken(tmp_path, make):
    make(tmp_path / "run")
    with RunFolder(tmp_path / "run").locked(tiny_config()):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()
    assert not list((tmp_path / "run").glob(".tmp-*"))


# Beside the checkpoints, what looks like one.
COPIES = ("step-00000002-mybest", "step-2", "step-00000001.bak", "my-step-00000001", ".tmp-mine",
          ".tmp-step-00000001-mine", ".tmp-old-step-00000001-12.bak", "STEP-00000001")  # fmt: skip


def test_what_is_no_checkpoint_by_its_name_is_kept(tmp_path):
    root = tmp_path / "run" / "checkpoints"
    assert train(tmp_path / "run") == 0
    for name in COPIES:
        _write(root / name / "manifest.json")
    _write(root / "step-00000003")
    _write(tmp_path / "elsewhere" / "manifest.json")
    (root / "step-00000001").symlink_to(tmp_path / "elsewhere")
    (root / ".tmp-step-00000001-12").symlink_to(tmp_path / "elsewhere")
    # Of a killed save.
    _write(root / ".tmp-step-00000001-13" / "model.safetensors")
    before = snapshot(tmp_path)
    longer = replace(CONFIG, sched=SchedConfig(epochs=3, warmup_epochs=0.5))
    assert train(tmp_path / "run", longer) == 0
    after = snapshot(tmp_path)
    kept = {name: found for name, found in before.items() if "checkpoints/" in name or "elsewhere" in name}
    gone = {name for name in kept if name not in after}
    assert {name.split("/")[2] for name in gone} == {".tmp-step-00000001-13", "step-00000004"}
    assert all(after[name] == found for name, found in kept.items() if name not in gone)


def _replace(path):
    path.rename(path.parent / "moved")
    path.mkdir()


def _replace_by_others(path):
    _replace(path)
    for name in ("report.md", "train.log", "metrics.jsonl", "checkpoints/step-00000001/model.safetensors"):
        _write(path / name)


def _replace_lock(path):
    (path / ".lock").unlink()
    (path / ".lock").write_text("{}")


LOST = {
    "moved": (lambda path: path.rename(path.parent / "moved"), "folder"),
    "deleted": (lambda path: shutil.rmtree(path), "folder"),
    "replaced": (_replace, "folder"),
    "replaced by a folder of others": (_replace_by_others, "folder"),
    "without its lock": (lambda path: (path / ".lock").unlink(), "lock"),
    "with another lock": (_replace_lock, "lock"),
    "with a link for a lock": (lambda path: [
        (path / ".lock").rename(path.parent / "lock"), (path / ".lock").symlink_to(path.parent / "lock")
    ], "lock"),
}  # fmt: skip


@pytest.mark.parametrize("every_s", [0.0, 1e9], ids=["at the next step", "at the next save"])
@pytest.mark.parametrize(("lose", "what"), LOST.values(), ids=LOST)
def test_a_lost_folder_ends_the_run(tmp_path, undisturbed, monkeypatch, lose, what, every_s):  # noqa: F811
    path, seen = tmp_path / "run", []

    class LoseAtTheThird(job.StopRequest):
        def __call__(self):
            seen.append(None)
            if len(seen) == 3:
                lose(path)
                seen.append(snapshot(tmp_path))
            return False

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_CHECK_S", every_s)
        patch.setattr(job, "StopRequest", LoseAtTheThird)
        with (
            pytest.raises(
                StorageError, match=rf"must stay in its place .*, got a {what} that was moved, deleted"
            ) as raised,
            RunFolder(path).locked(CONFIG) as folder,
        ):
            job.train(CONFIG, folder, command="lambdanets train digits")
    assert raised.value.exit_code == 7 and "\n" not in str(raised.value)
    # Nothing is written any more, neither at the old place nor where the folder is now.
    assert snapshot(tmp_path) == seen[3]
    moved = tmp_path / "moved"
    if moved.exists():
        assert train(moved) == 0
        assert_same_run(moved, undisturbed[0])


def test_two_processes_never_write_though_the_lock_is_deleted(tmp_path):
    with RunFolder(tmp_path).locked(tiny_config()):
        (tmp_path / ".lock").unlink()
        with (
            pytest.raises(ArgumentError, match="must not be in use"),
            RunFolder(tmp_path).locked(tiny_config()),
        ):
            pass


@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits", "--out"),
        ("train", "digits", "--dry-run", "--seed", "1", "--out"),
        ("detect", "train", "scenes-demo", "--out"),
        ("tables", "--train", "digits", "--runs"),
        ("tables", "--results"),
        ("figure", "4", "--out"),
        ("report", "--out"),
        ("pseudo", "label", "--teacher", "timm:resnet18", "--data.name", "digits", "--out"),
        ("pseudo", "iterate", "digits", "--teacher", "runs/a", "--out"),
        ("predict", "runs/a", "b.png", "--out"),
        ("explain", "runs/a", "b.png", "--out"),
        ("eval", "runs/a", "--csv"),
        ("detect", "predict", "runs/a", "b.png", "--out"),
        ("detect", "eval", "runs/a", "--out"),
        ("data", "shard", "data"),
        ("data", "scenes", "--out"),
        ("data", "check", "data", "--repair"),
        ("doctor", "--out"),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    out = ("", " ", "\t\n")[len(words) % 3]
    *before, option = words
    forms = [[*words, out], [*before, f"{option}={out}"]] if option.startswith("--") else [[*words, out]]
    for form in forms:
        assert command(form) == 2
        message = capsys.readouterr().err
        named = option if option.startswith("--") else ""
        assert f"{named} must be a path, got {out!r}. Is a variable of the shell not set?" in message, message
        assert message.startswith(f"lambdanets {words[0]}") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())
