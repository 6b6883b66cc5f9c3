"""A folder of pseudo-labels, written without a teacher."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from lambdanets.data.pseudo import MANIFEST, SELECTED, PseudoLabels, shard_name


def write_folder(
    path: Path,
    probabilities: torch.Tensor,
    indices: list[int],
    *,
    hard: bool = False,
    shard_size: int = 7,
    labels: list[str] | None = None,
    data: dict | None = None,
    seed: int = 0,
) -> PseudoLabels:
    """Labels of `probabilities`, "n num_classes", kept as `indices` say."""
    path.mkdir(parents=True)
    names = []
    for number, part in enumerate(probabilities.split(shard_size)):
        names.append(shard_name(number))
        columns = {"classes": part.argmax(dim=1), "confidences": part.amax(dim=1)}
        save_file(columns if hard else {**columns, "probabilities": part.contiguous()}, path / names[-1])
    save_file({"indices": torch.tensor(indices, dtype=torch.int64)}, path / SELECTED)
    manifest = {
        "settings": {"hard": hard, "shard_size": shard_size, "data": data or {}, "seed": seed},
        "labels": labels,
        "num_classes": probabilities.shape[1],
        "num_images": len(probabilities),
        "files": {name: (path / name).stat().st_size for name in (*names, SELECTED)},
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    return PseudoLabels.open(path)
