"""Weights with their description in one file."""

import ctypes
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from lambdanets.errors import CheckpointError
from lambdanets.files import replace_file

# What to type where weights of a run are not to be used.
OTHER_WEIGHTS: Final = (
    "Other weights of the run may do: --weights best, ema or raw, or a checkpoint: RUN/checkpoints/step-N."
)

_DESCRIPTION: Final = "lambdanets"


def tensor_bytes(tensors: Mapping[str, Tensor], description: str | None = None) -> bytes:
    """Give tensors in the safetensors format, with an optional text in the header."""
    # Shared tensors are stored once for each name: the format knows no aliases.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return save(copies, metadata={_DESCRIPTION: description} if description else None)


def save_weights(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write weights with their description and digest in the same file, so that they can never disagree."""
    described = {**description, "sha256": state_digest(tensors)}
    replace_file(path, tensor_bytes(tensors, json.dumps(described)))
    replace_file(path.with_suffix(".json"), (json.dumps(described, indent=2) + "\n").encode())


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read weights and, where `save_weights` wrote them, their description."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_DESCRIPTION)
        description: dict[str, Any] | None = text and json.loads(text)
        tensors = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"load_weights: {path} must be a safetensors file, got '{error}'.") from error
    if description and description.get("sha256") != state_digest(tensors):
        raise CheckpointError(
            f"load_weights: {path} is damaged: its weights do not have the digest of its header."
            " Run the training command again: it writes the file anew."
        )
    return tensors, description


def check_state(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise where weights, those of the file `where`, are not those of a model, all of them."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    if wrong:
        listed = ", ".join(
            f"{name} {expected.get(name, 'nothing')} but has {found.get(name, 'nothing')}"
            for name in wrong[:3]
        )
        raise CheckpointError(
            f"load_state: {where} must hold the weights of this model, got {len(wrong)} that differ:"
            f" it needs {listed}."
        )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise where weights, those of the file `where`, hold what is no finite number."""
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if wrong:
        raise CheckpointError(
            f"check_finite: {where} must hold finite numbers, got NaN or infinity in {len(wrong)} of its"
            f" {len(tensors)} tensors, the first {sorted(wrong)[0]}. {OTHER_WEIGHTS}"
        )


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        # The bytes as they lie in memory, without numpy.
        digest.update(ctypes.string_at(tensor.data_ptr(), tensor.nbytes))
    return digest.hexdigest()
