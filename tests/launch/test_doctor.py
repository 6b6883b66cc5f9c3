"""What `lambdanets doctor` finds, and what it says when something is wrong."""

import importlib.metadata
import tomllib
from pathlib import Path

import torch

from lambdanets.cli import run
from lambdanets.dependencies import _EXTRAS, install_command, missing_library, requirements
from lambdanets.launch import doctor
from lambdanets.launch.doctor import _file_system

ROOT = Path(__file__).resolve().parents[2]


def findings(out):
    return {finding.name: finding for finding in doctor.examine(out)}


def test_a_machine_that_runs_these_tests_is_well(tmp_path, capsys):
    assert run(("doctor", "--out", str(tmp_path / "new" / "run"))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"ok   torch         {torch.__version__}" in lines
    assert any("each file flushed to the disk" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_libraries_are_those_of_the_project(monkeypatch):
    """But for what only developers need, and libraries that one extra has of another."""
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = written["optional-dependencies"]
    # As an installed package says it.
    lines = [f"{line}; extra == '{extra}'" for extra, names in extras.items() for line in names]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [*written["dependencies"], *lines])
    found = requirements()
    assert found["torch"] == ("2.11", "") and found["datasets"] == ("3.0", "huggingface")
    for extra in _EXTRAS:
        own = {line.split(">")[0] for line in extras[extra] if not line.startswith("lambdanets")}
        assert own == {name for name, (_, brought_by) in found.items() if brought_by == extra}
    assert extras.keys() - {*_EXTRAS} == {"demo", "bench", "interop", "dev", "all"}


def test_a_missing_library_names_its_extra_and_is_bad_where_training_needs_it(tmp_path, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = findings(tmp_path)
    assert found["tyro"].exit_code == 3
    # With all that training needs and that is missing too.
    assert found["tyro"].advice.startswith("To have it: pip install tyro ")
    assert {"rich", "timm"} < {*found["tyro"].advice.removesuffix(".").split()}
    assert found["onnx"].advice == "To have it: pip install onnx onnxruntime onnxscript."
    assert str(found["onnx"]).startswith("note onnx          not installed\n")
    assert run(("doctor", "--out", str(tmp_path))) == 3


def test_the_advice_installs_by_the_names_of_an_index(monkeypatch):
    assert install_command("faster_coco_eval") == "pip install faster-coco-eval"
    error = missing_library("train", "PIL.Image", repr("no"))
    assert str(error) == "train: pillow must be installed, got 'no'. pip install pillow."

    # A copy of the source that was never installed knows nothing of its extras.
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert requirements() == {} and install_command("timm") == "pip install timm"


def test_an_old_torch_is_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.1+cpu")
    found = findings(tmp_path)["torch"]
    assert (found.advice, found.exit_code) == ("2.11 or newer is needed.", 3)


def test_a_gpu_is_described(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (5_000_000_000, 16_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Chip")
    found = findings(tmp_path)
    assert found["GPU 0"].text == "Chip, 5.0 of 16.0 GB free, bfloat16 no"
    assert (found["GPU 0"].advice, found["GPU 0"].exit_code) == ("Another program uses its memory.", 0)
    assert "GPU" not in found


def test_a_full_disk_is_exit_7(tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "write_flushed", full)
    assert run(("doctor", "--out", str(tmp_path))) == 7
    text = capsys.readouterr().out
    advice = "Free some space, or use another --out."
    line = f"BAD  writing       failed at {tmp_path}: No space left on device\n                   {advice}\n"
    assert line in text
    assert not list(tmp_path.iterdir())


def test_a_disk_that_gives_back_something_else_is_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "write_flushed", lambda path, content: path.write_bytes(content[:-1]))
    found = findings(tmp_path)["writing"]
    assert found.text == f"failed at {tmp_path}: the file reads back with other content"
    assert found.exit_code == 7


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    assert _file_system(tmp_path / "a", mounts) == "nfs4"
    assert _file_system(tmp_path.parent, mounts) == "ext4"
    assert _file_system(tmp_path, tmp_path / "none") == "unknown"
