"""Trained networks loaded for use, from a run, a checkpoint, a file of weights or a name."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import ArgumentError, CheckpointError, PathError, check_choice, first_line
from lambdanets.models import create_model
from lambdanets.reading import check_sum, read_json, reading
from lambdanets.runs.fingerprint import made_elsewhere, stored_fingerprint
from lambdanets.runs.loaded import LoadedModel, Origin, Weights
from lambdanets.text import printable
from lambdanets.training.checkpoint import MANIFEST, Checkpoint, load_checkpoint, read_checkpoint
from lambdanets.training.content import check_content, check_described, check_description
from lambdanets.training.run_folder import RunFolder, record_of_raw
from lambdanets.training.run_names import list_checkpoints
from lambdanets.training.weights import (
    OTHER_WEIGHTS,
    check_finite,
    check_state,
    load_weights,
    state_digest,
)

# The file of a checkpoint, without its ending; of its weights the best are taken to be those of the EMA.
_CHECKPOINT_FILES: Final = {"best": "ema", "ema": "ema", "raw": "model"}

# Always the same random weights, so that the same command gives the same results.
_SEED: Final = 0
# The source of a model by name without a file of weights.
RANDOM: Final = f"random weights (seed {_SEED})"

# Weights, what describes their model, and where they come from.
_Stored = tuple[Mapping[str, Tensor], Mapping[str, Any], Origin]


def load_run(path: str | Path, weights: Weights = "best") -> LoadedModel:
    """Load a trained network: of a run, of one of its checkpoints, or from a file of weights.

    Args:
        path: A run folder, one of its checkpoint folders, or a `.safetensors` file that is described in its
            metadata, as a run's `best.safetensors` is, or by a `best.json` or `config.json` beside it.
        weights: Of a run, `best`: the weights of the best epoch, of the EMA or of the optimizer, as
            `origin.is_ema` says; `ema` or `raw`: the EMA weights or those of the optimizer in the newest
            undamaged checkpoint. Of a checkpoint, `best` and `ema` are the same. A file has one set of
            weights.

    The run may be at work, and its folder may have been moved: nothing but its images is elsewhere.

    Returns:
        The network in evaluation mode with its preprocessing, labels, origin, config and history.

    Raises:
        PathError: There is no run, it has not stored such weights yet, or nothing describes the model.
        CheckpointError: The weights are damaged, not finite, or belong to another model.

    Example:
        ::

            run = lambdanets.load_run("runs/digits")
            print(run.predict("three.png"), run.origin.metric["test_accuracy"])
            run.plot()
    """
    path = Path(path)
    return replace(_loaded(*read_weights(path, weights)), folder=_run_folder(path))


def _run_folder(path: Path) -> Path | None:
    """The run of a run folder or of one of its checkpoint folders."""
    folder = path.absolute().parents[1] if (path / MANIFEST).is_file() else path
    return folder if RunFolder(folder).config.is_file() else None


def read_weights(path: Path, weights: Weights) -> _Stored:
    """Read the weights of a run, of a checkpoint or of a file, what describes their model, and their origin.

    The arguments and the errors are those of `load_run`.
    """
    check_choice("load_run", "weights", weights, get_args(Weights))
    tensors, described, origin = _stored(path, weights)
    check_finite(tensors, origin.source)
    made = stored_fingerprint(described, origin.source)
    elsewhere = made_elsewhere(made)
    warnings = (*origin.warnings, *([f"{origin.source}: {elsewhere}"] if elsewhere else []))
    return tensors, described, replace(origin, fingerprint=made, warnings=warnings)


def _stored(path: Path, weights: Weights) -> _Stored:
    folder = path.parent if path.is_file() else path
    if (folder / MANIFEST).is_file():
        name = path.stem if path.is_file() else _CHECKPOINT_FILES[weights]
        return _from_checkpoint(read_checkpoint(folder), name)
    if path.is_file():
        return _from_file(path, None)
    run = RunFolder.existing(path)
    if weights == "best":
        if not os.path.lexists(run.best):
            others = " --weights ema (weights='ema' in Python) takes those of its newest checkpoint."
            raise PathError(
                f"load_run: {path} must hold {run.best.name}, got none. It comes with the first epoch."
                f"{others if list_checkpoints(run.checkpoints) else ''}"
            )
        return _of_run(run, _from_file(run.best, "best"))
    checkpoint = load_checkpoint(run.checkpoints, check_content)
    if checkpoint is None:
        others = " --weights best (weights='best' in Python) takes those of its best epoch."
        raise PathError(
            f"load_run: {path} must hold a checkpoint for weights {weights!r}, got none."
            f"{others if os.path.lexists(run.best) else ''}"
        )
    return _of_run(run, _from_checkpoint(checkpoint, _CHECKPOINT_FILES[weights]))


def _of_run(run: RunFolder, stored: _Stored) -> _Stored:
    """Weights that are in a run folder, which must be those of its network."""
    _, described, origin = stored
    own, other = _described(run.config)["model"], described["model"]
    if any(own[name] != other[name] for name in ("name", "overrides")):
        raise CheckpointError(
            f"load_run: {origin.source} must hold weights of {_network(own)}, as {run.config} says, got those"
            f" of {_network(other)}. {OTHER_WEIGHTS}"
        )
    return stored


def _network(model: Mapping[str, Any]) -> str:
    overrides = ", ".join(f"{name} {value}" for name, value in model["overrides"].items())
    return f"{model['name']} with {overrides}" if overrides else str(model["name"])


def load_named(name: str, weights: Path | None = None) -> LoadedModel:
    """Build a model by its name, with the weights of a file or with random ones.

    Args:
        name: One of `list_models()`.
        weights: A safetensors file, whose shapes decide the number of classes and channels.

    Returns:
        The network with a preprocessing that keeps the whole image, at the size the model was made for.

    Raises:
        PathError: There is no such file.
        CheckpointError: The weights cannot be read, or belong to another model.
    """
    if weights is not None and not weights.is_file():
        raise PathError(f"weights must be a file, got {weights}, which does not exist.")
    tensors = {} if weights is None else load_weights(weights)[0]
    source = RANDOM if weights is None else str(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = create_model(name, **_sizes(tensors))
    if weights is not None:
        check_state(model, tensors, source)
        check_finite(tensors, source)
        model.load_state_dict(tensors)
    image_size, channels = model.config.image_size, model.config.in_channels
    return LoadedModel(
        model=model.eval(),
        preprocessing=Preprocessing.whole_image(
            image_size if isinstance(image_size, int) else min(image_size), channels
        ),
        labels=None,
        origin=Origin(source=source, model=name, sha256=state_digest(model.state_dict())),
    )


def _from_file(path: Path, weights: Weights | None) -> _Stored:
    tensors, description = load_weights(path)
    described = _description_beside(path) if description is None else description
    check_description(described, "load_run", path)
    # `load_weights` has compared the digest of a header with the weights.
    digest = state_digest(tensors) if description is None else description["sha256"]
    # A description beside a file may be that of other weights of the same model: its metric is not theirs.
    is_described = described.get("sha256") == digest
    metric = described.get("metric") if is_described else None
    origin = Origin(
        source=str(path),
        model=described["model"]["name"],
        weights=weights,
        is_ema=described["weights"] == "moving average" if is_described and "weights" in described else None,
        recipe=described.get("recipe"),
        epoch=metric and metric["epoch"],
        step=metric and metric["step"],
        metric=metric,
        sha256=digest,
    )
    return tensors, described, origin


def _from_checkpoint(checkpoint: Checkpoint, name: str) -> _Stored:
    if name not in checkpoint.tensors:
        raise CheckpointError(f"load_run: {checkpoint.path} must hold {name}.safetensors, got none.")
    check_described(checkpoint.record, "load_run", checkpoint.path)
    tensors, config, step = checkpoint.tensors[name], checkpoint.record["config"], checkpoint.record["step"]
    run = RunFolder(checkpoint.path.parents[1])
    best = run.best.with_suffix(".json")
    evaluated = next((record for record in run.read_metrics() if record["step"] == step), None)
    origin = Origin(
        source=str(checkpoint.path / f"{name}.safetensors"),
        model=config["model"]["name"],
        weights="raw" if name == "model" else "ema",
        is_ema=name != "model",
        recipe=config.get("recipe"),
        epoch=evaluated["epoch"] if evaluated else None,
        step=step,
        metric=record_of_raw(evaluated) if evaluated and name == "model" else evaluated,
        sha256=state_digest(tensors),
        warnings=checkpoint.skipped,
    )
    # Checkpoints of earlier versions do not describe themselves.
    described = checkpoint.record.get("description") or (_described(best) if best.is_file() else config)
    return tensors, described, origin


def _loaded(tensors: Mapping[str, Tensor], described: Mapping[str, Any], origin: Origin) -> LoadedModel:
    if "categories" in described:
        raise ArgumentError(
            f"load_run: {origin.source} must be of the run of a classifier, got that of a detector."
            " `load_detector` and lambdanets detect take it."
        )
    network = _network_of(tensors, described, origin)
    load_into(network, tensors, origin)
    preprocessing, labels = described.get("preprocessing"), described.get("labels")
    return LoadedModel(
        model=network.eval(),
        preprocessing=preprocessing and Preprocessing.from_dict(preprocessing),
        labels=labels and tuple(map(printable, labels)),
        origin=origin,
    )


def _network_of(tensors: Mapping[str, Tensor], described: Mapping[str, Any], origin: Origin) -> nn.Module:
    """Build the network of a description."""
    model, sizes = described["model"], _sizes(tensors)
    told = {name: model[name] for name in ("num_classes", "in_channels") if model.get(name) is not None}
    told |= {"num_classes": len(described["labels"])} if described.get("labels") else {}
    if odd := [name for name in told if sizes.get(name, told[name]) != told[name]]:
        raise CheckpointError(
            f"load_run: {origin.source} must have {odd[0]} {sizes[odd[0]]}, as its weights have, got"
            f" {told[odd[0]]} in its description. {OTHER_WEIGHTS}"
        )
    try:
        return create_model(origin.model, **{**sizes, **told}, **model["overrides"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"load_run: {origin.source} must describe a model, got '{first_line(error)}'."
        ) from error


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], origin: Origin) -> None:
    """Put weights into the network that describes them.

    Raises:
        CheckpointError: They belong to another one.
    """
    try:
        check_state(network, tensors, origin.source)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{f' {OTHER_WEIGHTS}' if origin.weights else ''}") from None
    network.load_state_dict(tensors)


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of classes and channels that weights are made for, where known layers hold them."""
    classifier, stem = tensors.get("classifier.weight"), tensors.get("stem.0.weight")
    return {
        **({} if classifier is None else {"num_classes": len(classifier)}),
        **({} if stem is None else {"in_channels": stem.shape[1]}),
    }


def _description_beside(path: Path) -> dict[str, Any]:
    for file in (path.with_name("best.json"), path.with_name("config.json")):
        if file.is_file():
            return _described(file)
    raise PathError(
        f"load_run: {path} must describe its model in its metadata, or stand beside best.json or config.json,"
        " got neither. `create_model` and `load_state_dict` load weights alone."
    )


def _described(path: Path) -> dict[str, Any]:
    """The description in a file of JSON."""
    advice = "Take out record_sha256 where it was changed on purpose."
    with reading("load_run", path, "describe a model", CheckpointError, advice):
        described: dict[str, Any] = read_json(path, {})
        check_sum(described)
    check_description(described, "load_run", path)
    return described
