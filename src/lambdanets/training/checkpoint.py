"""Checkpoints: folders that are whole or not there, verified before they are used."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lambdanets.errors import CheckpointError
from lambdanets.files import flush, storing, write_flushed
from lambdanets.training.weights import tensor_bytes

_FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_STATE: Final = "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Attributes:
        path: Its folder.
        tensors: File name without its ending -> tensors, such as `model`, `ema` and `optimizer`.
        record: The plain numbers beside them.
        skipped: One sentence for each newer checkpoint that is damaged.
    """

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    record: dict[str, Any]
    skipped: tuple[str, ...]


class _DamageError(Exception):
    """Why a folder is not a whole checkpoint."""


def save_checkpoint(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    record: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write `root/step-XXXXXXXX`, then delete all but the newest `keep` checkpoints.

    Everything is written into a folder beside, with a manifest of sizes and SHA-256 sums last; each file
    reaches the disk before the rename that makes the checkpoint visible. Old ones go only when the new one
    verifies.

    Args:
        root: The folder `checkpoints` of a run.
        step: Updates made.
        tensors: File name without its ending -> tensors.
        record: Plain JSON.
        keep: How many checkpoints stay.

    Raises:
        StorageError: The disk is full or the folder cannot be written; older checkpoints stay as they are.
    """
    target = root / f"step-{step:08d}"
    if _is_whole(target):
        # A run that is stopped where it just began: the state of a step is always the same.
        return target
    beside = root / f".tmp-{target.name}-{os.getpid()}"
    contents = {f"{name}.safetensors": tensor_bytes(group) for name, group in tensors.items()}
    contents[_STATE] = json.dumps({"format": _FORMAT, **record}).encode()
    with storing(target):
        try:
            root.mkdir(parents=True, exist_ok=True)
            _require_space(root, sum(map(len, contents.values())))
            _fill(beside, contents)
            _discard(target)
            beside.rename(target)
            flush(root)
            _verified_contents(target)
        except _DamageError as damage:
            raise OSError(f"{target} does not read back as it was written: {damage}") from damage
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for old in _list_checkpoints(root)[keep:]:
            _discard(old)
    return target


def load_checkpoint(root: Path) -> Checkpoint | None:
    """Load the newest checkpoint whose manifest verifies; None if there never was one.

    Args:
        root: The folder `checkpoints` of a run.

    Raises:
        CheckpointError: There are checkpoints, but none is whole.
    """
    skipped: list[str] = []
    for path in _list_checkpoints(root):
        try:
            return _read(path, skipped)
        except _DamageError as damage:
            skipped.append(f"{path} is damaged: {damage}.")
    if skipped:
        raise CheckpointError(
            f"load_checkpoint: {root} must hold a whole checkpoint, got {len(skipped)} damaged."
            f" Delete {root} to start again.\n" + "\n".join(skipped)
        )
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Load one checkpoint by its folder.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        return _read(path)
    except _DamageError as damage:
        raise CheckpointError(f"read_checkpoint: {path} is damaged: {damage}.") from damage


def _list_checkpoints(root: Path) -> list[Path]:
    """List the checkpoint folders, newest first; whether they are whole is not checked."""
    return sorted(root.glob("step-*"), key=lambda path: path.name, reverse=True)


def remove_leftovers(root: Path) -> None:
    """Delete what a killed run left half written. The caller holds the lock of the run."""
    for leftover in root.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _read(path: Path, skipped: Sequence[str] = ()) -> Checkpoint:
    tensors, record = _parsed(_verified_contents(path))
    _require_format(path, record)
    return Checkpoint(path=path, tensors=tensors, record=record, skipped=tuple(skipped))


def _fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in contents.items():
        write_flushed(folder / name, data)
    sums = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in contents.items()}
    write_flushed(folder / MANIFEST, json.dumps({"files": sums}).encode())
    flush(folder)


def _require_space(folder: Path, size: int) -> None:
    # A tenth more: for the folder itself, and for what else is written meanwhile.
    free = shutil.disk_usage(folder).free
    if free < 1.1 * size:
        raise OSError(
            errno.ENOSPC, f"{free / 1e6:,.1f} MB are free, and the checkpoint takes {size / 1e6:,.1f} MB"
        )


def _discard(path: Path) -> None:
    # Renamed first: a kill halfway through the deletion must not leave what looks like a damaged checkpoint.
    if path.exists():
        retired = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
        path.rename(retired)
        shutil.rmtree(retired)


def _is_whole(path: Path) -> bool:
    try:
        _verified_contents(path)
    except _DamageError:
        return False
    return True


def _verified_contents(path: Path) -> dict[str, bytes]:
    try:
        files = json.loads((path / MANIFEST).read_bytes())["files"]
        return {
            name: _verified(path / name, entry["bytes"], entry["sha256"]) for name, entry in files.items()
        }
    except OSError as error:
        raise _DamageError(f"{Path(error.filename).name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamageError(f"{MANIFEST} cannot be understood ({error})") from error


def _verified(path: Path, size: int, sha256: str) -> bytes:
    data = path.read_bytes()
    if len(data) != size:
        raise _DamageError(f"{path.name} has {len(data)} bytes instead of {size}")
    if _sha256(data) != sha256:
        raise _DamageError(f"{path.name} does not have the SHA-256 of its manifest")
    return data


def _parsed(contents: Mapping[str, bytes]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    # The sums only say that nobody has changed what was written, not that it was written here.
    try:
        tensors = {Path(name).stem: load(data) for name, data in contents.items() if name != _STATE}
        return tensors, dict(json.loads(contents[_STATE]))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _DamageError(f"its files cannot be understood ({error})") from error


def _require_format(path: Path, record: Mapping[str, Any]) -> None:
    if record.get("format") != _FORMAT:
        found = record.get("format")
        raise CheckpointError(f"load_checkpoint: {path} must have format {_FORMAT}, got {found}.")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
