"""The names in a run folder, which are exact: what a user puts beside them is not the run's."""

import re
import stat
from pathlib import Path
from typing import Final

LOCK: Final = ".lock"
CONFIG: Final = "config.json"

# What a training writes by name: a link there would lead elsewhere.
WRITTEN: Final = frozenset(
    {
        *(LOCK, CONFIG, "metrics.jsonl", "train.log", "init.json", "best.safetensors", "best.json"),
        *("report.md", "curves.png", "lambdas.png", "confusion.png", "confusion.json"),
        *("checkpoints", "diagnostics", "tensorboard"),
    }
)

_CHECKPOINT: Final = re.compile(r"step-([0-9]{8,})")
# Of a save, or of a deletion, that a kill cut short; and of a file on its way to the name within.
_HALF_CHECKPOINT: Final = re.compile(r"\.tmp-(old-)?step-[0-9]{8,}-[0-9]+")
_HALF_FILE: Final = re.compile(r"\.tmp-[a-z]+\.(json|jsonl|md|png|safetensors)-[0-9]+")


def checkpoint_name(step: int) -> str:
    """The name of the folder of a step."""
    return f"step-{step:08d}"


def checkpoint_step(path: Path) -> int | None:
    """The step that the name of a checkpoint's folder says; None where it has another name."""
    name = _CHECKPOINT.fullmatch(path.name)
    return int(name[1]) if name else None


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first, damaged ones too."""
    steps = {path: checkpoint_step(path) for path in _entries(root) if path.is_dir()}
    found = [(step, path) for path, step in steps.items() if step is not None]
    return [path for _, path in sorted(found, reverse=True)]


def half_checkpoints(root: Path) -> list[Path]:
    """Checkpoints that a killed run has left half written or half deleted."""
    return [path for path in _entries(root) if _HALF_CHECKPOINT.fullmatch(path.name) and _is_folder(path)]


def half_files(path: Path) -> list[Path]:
    """Files of a run folder that a killed run has left half written."""
    return [one for one in _entries(path) if _HALF_FILE.fullmatch(one.name) and _is_file(one)]


def is_beginning(name: str, mode: int) -> bool:
    """Whether an entry with a mode may be in a run folder before its first file."""
    # A folder named as the log is in nobody's way: a log that cannot be written ends no run.
    is_no_log = name == "train.log" and stat.S_ISDIR(mode)
    return name in (LOCK, CONFIG) or is_no_log or bool(_HALF_FILE.fullmatch(name))


def _entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
