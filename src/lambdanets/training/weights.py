"""Weights with their description in one file."""

import ctypes
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save
from torch import Tensor, nn

from lambdanets.errors import CheckpointError
from lambdanets.files import replace_file
from lambdanets.reading import check_sum, parse_json, reading, with_sum
from lambdanets.tensor_files import DESCRIPTION, load_tensors

# What to type where weights of a run are not to be used.
OTHER_WEIGHTS: Final = (
    "Other weights of the run may do: --weights best, ema or raw, or a checkpoint: RUN/checkpoints/step-N."
)


def tensor_bytes(tensors: Mapping[str, Tensor], description: str | None = None) -> bytes:
    """Give tensors in the safetensors format, with an optional text in the header."""
    # Shared tensors are stored once for each name: the format knows no aliases.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return save(copies, metadata={DESCRIPTION: description} if description else None)


def save_weights(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write weights with their description in the same file, so that they can never disagree.

    The digest of the weights is in the description, and the sum of the description in itself.
    """
    described = with_sum({**description, "sha256": state_digest(tensors)})
    replace_file(path, tensor_bytes(tensors, json.dumps(described)))
    replace_file(path.with_suffix(".json"), (json.dumps(described, indent=2) + "\n").encode())


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read weights and, where `save_weights` wrote them, their description."""
    with reading("load_weights", path, "be a safetensors file", CheckpointError):
        tensors, metadata = load_tensors(path)
        text = metadata.get(DESCRIPTION)
        description: dict[str, Any] | None = parse_json(text, {}) if text else None
    advice = "Run the training command again: it writes the file anew."
    if description is not None:
        with reading("load_weights", path, "be as it was written", CheckpointError, advice):
            check_sum(description)
        if description.get("sha256") != state_digest(tensors):
            raise CheckpointError(
                f"load_weights: {path} is damaged: its weights do not have the digest of its header. {advice}"
            )
    return tensors, description


def check_state(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise where weights, those of the file `where`, are not those of a model, all of them.

    Their floating-point numbers may be of another precision; others may not take their place.
    """
    state = model.state_dict()
    wrong = [name for name in sorted({*state, *tensors}) if not _fits(state.get(name), tensors.get(name))]
    if wrong:
        listed = ", ".join(
            "{} {} but has {}".format(name, *_spelled(state.get(name), tensors.get(name)))
            for name in wrong[:3]
        )
        raise CheckpointError(
            f"load_state: {where} must hold the weights of this model, got {len(wrong)} that differ:"
            f" it needs {listed}."
        )


def _fits(wanted: Tensor | None, found: Tensor | None) -> bool:
    if wanted is None or found is None or wanted.shape != found.shape:
        return False
    return wanted.dtype == found.dtype or (wanted.is_floating_point() and found.is_floating_point())


def _spelled(wanted: Tensor | None, found: Tensor | None) -> list[object]:
    """The shapes of two tensors, or their types where the shapes are the same."""
    if wanted is not None and found is not None and wanted.shape == found.shape:
        return [wanted.dtype, found.dtype]
    return ["nothing" if one is None else tuple(one.shape) for one in (wanted, found)]


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
