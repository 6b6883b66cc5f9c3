"""Checkpoints: folders that are whole or not there, verified before they are used."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from lambdanets.errors import CheckpointError
from lambdanets.files import flush, make_inner_folder, storing, write_flushed
from lambdanets.reading import Number, UnreadableError, parse_json, read_bytes, read_json
from lambdanets.tensor_files import tensors_of
from lambdanets.training.run_names import checkpoint_name, half_checkpoints
from lambdanets.training.run_names import list_checkpoints as _list_checkpoints
from lambdanets.training.weights import tensor_bytes

_FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_STATE: Final = "state.json"
_MANIFEST_FIELDS: Final = {"files": {str: {"bytes": Number(int, 0), "sha256": str}}}

# How often the checkpoints of a run at work are listed anew, when one is deleted while it is read.
_ATTEMPTS: Final = 100


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
    verifies, and nothing goes that is no checkpoint by its name, or a link.

    Args:
        root: The folder `checkpoints` of a run.
        step: Updates made.
        tensors: File name without its ending -> tensors.
        record: Plain JSON.
        keep: How many checkpoints stay.

    Raises:
        StorageError: The disk is full or the folder cannot be written; older checkpoints stay as they are.
    """
    target = root / checkpoint_name(step)
    with suppress(_DamageError):
        _verified_contents(target)
        # A run that is stopped where it just began: the state of a step is always the same.
        return target
    beside = root / f".tmp-{target.name}-{os.getpid()}"
    contents = {f"{name}.safetensors": tensor_bytes(group) for name, group in tensors.items()}
    contents[_STATE] = json.dumps({"format": _FORMAT, **record}).encode()
    with storing(target):
        try:
            make_inner_folder(root)
            # What could not be deleted before takes space.
            remove_leftovers(root)
            size, free = sum(map(len, contents.values())), shutil.disk_usage(root).free
            # A tenth more: for the folder itself, and for what else is written meanwhile.
            if free < 1.1 * size:
                raise OSError(
                    errno.ENOSPC,
                    f"{free / 1e6:,.1f} MB are free, and the checkpoint takes {size / 1e6:,.1f} MB",
                )
            _fill(beside, contents)
            _verified_contents(beside)
            _discard(target)
            beside.rename(target)
            flush(root)
        except _DamageError as damage:
            raise OSError(f"it does not read back as it was written: {damage}") from damage
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    for old in _list_checkpoints(root)[keep:]:
        # The new one is there. What cannot be deleted is tried again by the next save.
        with suppress(OSError):
            _discard(old)
    return target


def _accept(checkpoint: Checkpoint) -> None:
    """Take any content."""


def load_checkpoint(root: Path, check: Callable[[Checkpoint], None] = _accept) -> Checkpoint | None:
    """Load the newest checkpoint whose manifest verifies; None if there never was one.

    Args:
        root: The folder `checkpoints` of a run, which may be at work.
        check: Raises `UnreadableError` where a whole checkpoint holds what no run would write: it is damaged.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged.
    """
    for _ in range(_ATTEMPTS):
        skipped: list[str] = []
        # A listing during a deletion can miss the old one and the new one.
        for path in _list_checkpoints(root) or _list_checkpoints(root) or _list_checkpoints(root):
            inode = _inode(path)
            try:
                return _read(path, check, skipped)
            except _DamageError as damage:
                if inode is None or _inode(path) != inode:
                    break
                skipped.append(f"{path} is damaged: {damage}.")
        else:
            break
    else:
        raise CheckpointError(
            f"load_checkpoint: {root} must stay while it is read, got {_ATTEMPTS} changes. Try again."
        )
    if skipped:
        raise CheckpointError(
            f"load_checkpoint: {root} must hold a whole checkpoint, got {len(skipped)} damaged."
            f" Delete {root} to start again.\n" + "\n".join(skipped)
        )
    return None


def read_checkpoint(path: Path, check: Callable[[Checkpoint], None] = _accept) -> Checkpoint:
    """Load one checkpoint by its folder; `check` as in `load_checkpoint`."""
    try:
        return _read(path, check)
    except _DamageError as damage:
        if _inode(path) is None:
            raise CheckpointError(
                f"read_checkpoint: {path} must be a checkpoint, got none. A run deletes its older ones."
            ) from damage
        raise CheckpointError(f"read_checkpoint: {path} is damaged: {damage}.") from damage


def _inode(path: Path) -> int | None:
    """What tells whether a folder is still the same; None where there is none."""
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def remove_leftovers(root: Path) -> None:
    """Delete what a killed run left half written. The caller holds the lock of the run."""
    for leftover in half_checkpoints(root):
        shutil.rmtree(leftover, ignore_errors=True)


def _read(path: Path, check: Callable[[Checkpoint], None], skipped: Sequence[str] = ()) -> Checkpoint:
    contents = _verified_contents(path)
    # The sums only say that nobody has changed what was written, not that it was written here.
    try:
        record = parse_json(contents.pop(_STATE, b""), {"format": Number(int, 1), "step?": Number(int, 0)})
        if record["format"] != _FORMAT:
            raise CheckpointError(
                f"load_checkpoint: {path} must have format {_FORMAT}, got {record['format']}."
            )
        tensors = {Path(name).stem: tensors_of(data) for name, data in contents.items()}
        checkpoint = Checkpoint(path=path, tensors=tensors, record=record, skipped=tuple(skipped))
        check(checkpoint)
    except UnreadableError as error:
        raise _DamageError(f"its files cannot be understood ({error})") from error
    return checkpoint


def _fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in contents.items():
        write_flushed(folder / name, data)
    sums = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in contents.items()
    }
    write_flushed(folder / MANIFEST, json.dumps({"files": sums}).encode())
    flush(folder)


def _discard(path: Path) -> None:
    # Renamed first: a kill halfway through the deletion must not leave what looks like a damaged checkpoint.
    if path.is_dir() and not path.is_symlink():
        retired = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
        path.rename(retired)
        shutil.rmtree(retired)


def _verified_contents(path: Path) -> dict[str, bytes]:
    try:
        files = read_json(path / MANIFEST, _MANIFEST_FIELDS)["files"]
    except UnreadableError as error:
        raise _DamageError(f"{MANIFEST} cannot be read ({error})") from error
    return {
        name: _verified(path / Path(name).name, entry["bytes"], entry["sha256"])
        for name, entry in files.items()
    }


def _verified(path: Path, size: int, sha256: str) -> bytes:
    """The content of a file that has the size and the sum of the manifest."""
    try:
        data = read_bytes(path, limit=size)
    except UnreadableError as error:
        raise _DamageError(f"{path.name} cannot be read ({error})") from error
    if len(data) != size:
        raise _DamageError(f"{path.name} has {len(data)} bytes instead of {size}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _DamageError(f"{path.name} does not have the SHA-256 of its manifest")
    return data
